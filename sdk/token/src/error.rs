//! What can go wrong, whose fault it is, and whether trying again makes sense.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bowline_http_client::Fault;

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An error of this crate: an opaque value with a [`ErrorKind`].
///
/// Cloning is cheap: a thousand callers that waited for one token get the same error. No token,
/// assertion or key is in it; what a server said is cut short, and
/// stripped of everything but printable ASCII and of whatever could be a secret.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    retry_after: Option<Duration>,
    source: Option<BoxError>,
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The source was set up wrongly: an invalid URL, a missing identity or key.
    Configuration,
    /// A token file or a seed cannot be read, replaced or locked, or holds no token, or one that has
    /// expired.
    File,
    /// The only token has expired.
    Expired,
    /// The metadata of the resource (RFC 9728) or of the authorization server (RFC 8414) cannot be
    /// used: it describes another one, lacks a member, or names a plaintext endpoint.
    Metadata,
    /// The authorization server answered with an error of RFC 6749 §5.2.
    Refused(OAuthErrorCode),
    /// The authorization server cannot be reached, did not answer in time, or cannot answer now.
    Unavailable,
    /// The authorization server broke its protocol: no JSON, too long an answer, a redirect, a
    /// member of the wrong form.
    Protocol,
    /// The issued token is not bound as required, or to another certificate.
    Binding,
    /// A request that a token was put into failed: [`Error::client`] says how.
    Request,
    /// A request is for another origin than the one that the tokens are for (CL-6).
    OtherOrigin,
}

/// The `error` of a token endpoint (RFC 6749 §5.2, RFC 8693 §2.2.2, RFC 8707 §2, RFC 9449 §5, §8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OAuthErrorCode {
    /// The request lacks something or is malformed; in an exchange also: a token in it is not
    /// accepted.
    InvalidRequest,
    /// The server does not know this client, or the client failed to authenticate.
    InvalidClient,
    /// The grant is not valid, has expired, or is another client's.
    InvalidGrant,
    /// This client may not use this grant.
    UnauthorizedClient,
    /// The server knows no such grant.
    UnsupportedGrantType,
    /// The scope is unknown, malformed, or more than this client may have.
    InvalidScope,
    /// The resource or audience is unknown, or not for this client.
    InvalidTarget,
    /// The DPoP proof is not accepted.
    InvalidDpopProof,
    /// The server failed internally.
    ServerError,
    /// The server is overloaded or under maintenance.
    TemporarilyUnavailable,
    /// Another code.
    Other,
}

impl ErrorKind {
    /// A short name in snake case, for metrics: of [`Refused`](Self::Refused) it is that of the code.
    pub fn label(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::File => "file",
            Self::Expired => "expired",
            Self::Metadata => "metadata",
            Self::Refused(code) => code.label(),
            Self::Unavailable => "unavailable",
            Self::Protocol => "protocol",
            Self::Binding => "binding",
            Self::Request => "request",
            Self::OtherOrigin => "other_origin",
        }
    }
}

impl OAuthErrorCode {
    /// The code itself, for metrics; `other_code` for those that are not known here.
    pub fn label(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::InvalidGrant => "invalid_grant",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::InvalidScope => "invalid_scope",
            Self::InvalidTarget => "invalid_target",
            Self::InvalidDpopProof => "invalid_dpop_proof",
            Self::ServerError => "server_error",
            Self::TemporarilyUnavailable => "temporarily_unavailable",
            Self::Other => "other_code",
        }
    }

    pub(crate) fn parse(code: &str) -> Self {
        match code {
            "invalid_request" => Self::InvalidRequest,
            "invalid_client" => Self::InvalidClient,
            "invalid_grant" => Self::InvalidGrant,
            "unauthorized_client" => Self::UnauthorizedClient,
            "unsupported_grant_type" => Self::UnsupportedGrantType,
            "invalid_scope" => Self::InvalidScope,
            "invalid_target" => Self::InvalidTarget,
            "invalid_dpop_proof" | "use_dpop_nonce" => Self::InvalidDpopProof,
            "server_error" => Self::ServerError,
            "temporarily_unavailable" => Self::TemporarilyUnavailable,
            _ => Self::Other,
        }
    }

    /// What to do about it, for messages.
    pub(crate) fn advice(self) -> &'static str {
        match self {
            Self::InvalidRequest => {
                "the request is not what this server wants: compare grant and parameters"
            }
            Self::InvalidClient => {
                "check client_id, the registered authentication method, and the certificate or \
                 key registered for it"
            }
            Self::InvalidGrant => {
                "the token to be exchanged is not accepted: it may have expired, or not be this \
                 client's"
            }
            Self::UnauthorizedClient => "this client is not registered for this grant",
            Self::UnsupportedGrantType => "the server does not know this grant",
            Self::InvalidScope => "ask for a scope that this client may have",
            Self::InvalidTarget => {
                "the server does not issue tokens for this resource to this client"
            }
            Self::InvalidDpopProof => "check the clock and the DPoP key of the client",
            Self::ServerError | Self::TemporarilyUnavailable => "try again later",
            Self::Other => "see the server's documentation",
        }
    }
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            kind,
            message: message.into(),
            retry_after: None,
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
            retry_after: None,
            source: Some(source.into()),
        }))
    }

    /// The same, with the time after which the server wants another request.
    pub(crate) fn with_retry_after(mut self, after: Option<Duration>) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            inner.retry_after = after;
        }
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Who has to act.
    pub fn fault(&self) -> Fault {
        match self.0.kind {
            ErrorKind::Configuration | ErrorKind::File | ErrorKind::Expired => Fault::Configuration,
            ErrorKind::Refused(OAuthErrorCode::InvalidGrant) | ErrorKind::OtherOrigin => {
                Fault::Caller
            }
            ErrorKind::Refused(
                OAuthErrorCode::ServerError
                | OAuthErrorCode::TemporarilyUnavailable
                | OAuthErrorCode::Other,
            ) => Fault::Peer,
            ErrorKind::Refused(_) => Fault::Configuration,
            ErrorKind::Metadata | ErrorKind::Protocol | ErrorKind::Binding => Fault::Peer,
            ErrorKind::Unavailable => Fault::Network,
            ErrorKind::Request => self
                .client()
                .map_or(Fault::Network, bowline_http_client::Error::fault),
        }
    }

    /// Whether another attempt may succeed without a change of configuration. A source pauses
    /// between its attempts, so callers can ask it at any time.
    pub fn is_worth_another_try(&self) -> bool {
        match self.0.kind {
            ErrorKind::Unavailable
            | ErrorKind::File
            | ErrorKind::Refused(
                OAuthErrorCode::ServerError | OAuthErrorCode::TemporarilyUnavailable,
            ) => true,
            ErrorKind::Request => self
                .client()
                .is_some_and(bowline_http_client::Error::is_worth_another_try),
            _ => false,
        }
    }

    /// After which time the server wants another request, if it said so (`Retry-After`, RFC 9110
    /// §10.2.3), from its answer on.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The client's error, if it was a request that failed: to the authorization server, or with
    /// [`ErrorKind::Request`] the caller's own.
    pub fn client(&self) -> Option<&bowline_http_client::Error> {
        self.0.source.as_ref()?.downcast_ref()
    }
}

impl From<bowline_http_client::Error> for Error {
    /// The caller's own request failed.
    fn from(error: bowline_http_client::Error) -> Self {
        Self::with_source(ErrorKind::Request, "the request failed", error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        // Most callers print an error without its sources, so the message includes them. The
        // client's own error does the same.
        match &self.0.source {
            Some(cause) => write!(f, ": {cause}"),
            None => Ok(()),
        }
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
