//! What can go wrong, whose fault it is, and whether trying again makes sense.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An error of this crate: an opaque value with a [`ErrorKind`].
///
/// Cloning is cheap: a thousand requests that waited for one connection get the same error.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    source: Option<BoxError>,
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The client was set up wrongly: a file that cannot be read, a key that does not fit its
    /// certificate.
    Configuration,
    /// The request cannot be sent as it is: no absolute URI, an unsupported scheme, or a
    /// `Session-Binding-Proof` field set by the caller (CL-6).
    InvalidRequest,
    /// A plaintext `http` target that was not allowed (CL-6).
    PlaintextRefused,
    /// The access token is malformed, or its `cnf` asks for what no proof can satisfy (TK-0, TK-2).
    InvalidToken,
    /// The access token's `cnf.x5t#S256` names another certificate than the one this client holds
    /// (CL-8).
    TokenBoundToOtherCertificate,
    /// The access token's `cnf.jkt` names another DPoP key than this client's (RFC 9449 §6).
    TokenBoundToOtherKey,
    /// The token demands a kind of proof that this client does not make.
    UnsupportedBinding,
    /// A proof is needed and this client has no certificate to make it with.
    NoIdentity,
    /// A proof is needed and the server did not ask for a client certificate (CL-9).
    ClientCertificateNotRequested,
    /// A step took longer than its limit.
    Timeout(Step),
    /// No TCP connection could be made.
    Connect,
    /// The TLS handshake failed.
    TlsHandshake,
    /// The connection speaks another version of HTTP than the request needs
    /// ([`Http2Only`](crate::Http2Only)); nothing of it was sent.
    HttpVersion,
    /// The key would not sign.
    Signing,
    /// The connection ended before the request left; it was not processed.
    ConnectionLost,
    /// The connection ended after the request (or a part of it) left: the server may have processed
    /// it (CL-7).
    MayHaveBeenProcessed,
    /// The request's own body failed while it was being sent.
    RequestBody,
    /// The peer broke its protocol: bytes that are not HTTP, a body shorter than announced.
    Protocol,
}

/// The step of a request's way that timed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Step {
    /// Waiting for a connection from the pool.
    Pool,
    /// Resolving the name and connecting the socket.
    Connect,
    /// A proxy's answer to CONNECT.
    Proxy,
    /// The TLS handshake.
    TlsHandshake,
    /// Signing a proof.
    Sign,
    /// Sending the request's body to a peer that takes nothing of it.
    RequestBody,
    /// From the written request to the response's head.
    Response,
}

/// Who has to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// The code that made the request.
    Caller,
    /// The configuration of this client.
    Configuration,
    /// The server.
    Peer,
    /// No party in particular: connections come and go.
    Network,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            kind,
            message: message.into(),
            source: None,
        }))
    }

    pub(crate) fn with_source(
        kind: ErrorKind,
        message: impl Into<String>,
        source: impl Into<BoxError>,
    ) -> Self {
        Self(Arc::new(Inner {
            kind,
            message: message.into(),
            source: Some(source.into()),
        }))
    }

    /// The time-out of a request for which the peer's stream limit leaves no room.
    pub(crate) fn no_streams(limit: Duration) -> Self {
        let message = format!(
            "the server allows no streams (its SETTINGS_MAX_CONCURRENT_STREAMS is 0), and did not \
             change that within {limit:?} (time-out of step `pool`)"
        );
        Self::new(ErrorKind::Timeout(Step::Pool), message)
    }

    pub(crate) fn timeout(step: Step, limit: Duration) -> Self {
        let what = match step {
            Step::Pool => "no connection became free",
            Step::Connect => "the server was not reached",
            Step::Proxy => "the proxy did not answer CONNECT",
            Step::TlsHandshake => "the TLS handshake did not end",
            Step::Sign => "the key did not sign a proof",
            Step::RequestBody => "the server took nothing of the request's body",
            Step::Response => "the server did not answer",
        };
        Self::new(
            ErrorKind::Timeout(step),
            format!(
                "{what} within {limit:?} (time-out of step `{}`)",
                step.name()
            ),
        )
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Who has to act.
    pub fn fault(&self) -> Fault {
        match self.0.kind {
            ErrorKind::Configuration
            | ErrorKind::NoIdentity
            | ErrorKind::TokenBoundToOtherCertificate => Fault::Configuration,
            ErrorKind::InvalidRequest
            | ErrorKind::PlaintextRefused
            | ErrorKind::InvalidToken
            | ErrorKind::RequestBody => Fault::Caller,
            ErrorKind::UnsupportedBinding | ErrorKind::TokenBoundToOtherKey => Fault::Configuration,
            ErrorKind::ClientCertificateNotRequested
            | ErrorKind::HttpVersion
            | ErrorKind::Protocol => Fault::Peer,
            ErrorKind::Timeout(Step::Sign) | ErrorKind::Signing => Fault::Configuration,
            ErrorKind::Timeout(_)
            | ErrorKind::Connect
            | ErrorKind::TlsHandshake
            | ErrorKind::ConnectionLost
            | ErrorKind::MayHaveBeenProcessed => Fault::Network,
        }
    }

    /// Whether the server may have acted on the request (CL-7): if not, the same request can be
    /// sent again, whatever its method.
    pub fn may_have_been_processed(&self) -> bool {
        matches!(
            self.0.kind,
            ErrorKind::MayHaveBeenProcessed
                | ErrorKind::Timeout(Step::RequestBody | Step::Response)
                | ErrorKind::Protocol
                | ErrorKind::RequestBody
        )
    }

    /// Whether the same request may succeed later although nothing is changed, and cannot
    /// have been processed.
    pub fn is_worth_another_try(&self) -> bool {
        !self.may_have_been_processed() && self.fault() == Fault::Network
    }
}

impl Step {
    /// The step's name, as it stands in messages.
    pub fn name(self) -> &'static str {
        match self {
            Step::Pool => "pool",
            Step::Connect => "connect",
            Step::Proxy => "proxy",
            Step::TlsHandshake => "tls_handshake",
            Step::Sign => "sign",
            Step::RequestBody => "request_body",
            Step::Response => "response",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        // One line must suffice: most callers print an error without its sources.
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &self.to_string())
            .finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|e| &**e as _)
    }
}
