//! The client: classify, pick, bind, write, learn.

mod builder;
mod exchange;
mod plan;
mod recent;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bowline_proof::Thumbprint;
use bytes::Bytes;
use http::{Request, Response};

use crate::body::Body;
use crate::error::{BoxError, Error, ErrorKind};
use crate::identities::Identities;
use crate::identity::Identity;
use crate::origin::Origin;
use crate::pool::Pool;
use crate::stats::{Snapshot, Stats};

use recent::RecentTokens;

pub use builder::Builder;

/// A connection-aware HTTP client.
///
/// Cloning is cheap and shares everything. When the last clone is dropped, idle connections close;
/// responses under way are read to their end.
///
/// It does not follow redirects (CL-6), keep cookies or decompress.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

pub(crate) struct Inner {
    pool: Arc<Pool>,
    identities: Identities,
    plaintext_on_loopback: bool,
    /// How much of a request's body is kept for a second sending.
    replay_limit: usize,
    recent_tokens: RecentTokens,
    stats: Arc<Stats>,
}

/// Which HTTP versions are offered by ALPN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HttpVersions {
    /// HTTP/2 preferred, HTTP/1.1 accepted.
    #[default]
    Auto,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only.
    Http2,
}

/// How many connections there may be, and for how long they are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections to one origin with one identity. Default 64; a request beyond it waits
    /// ([`Timeouts::pool`](Timeouts::pool)).
    pub per_origin: usize,
    /// Connections in all. Default 512; beyond it an idle one makes room, and requests wait in
    /// order of arrival.
    pub in_all: usize,
    /// How long a connection may be idle. Default 90 s. A shorter `Keep-Alive: timeout` of the
    /// server counts.
    pub idle: Duration,
    /// How old a connection may become before it takes no more requests. Default: none.
    pub age: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            per_origin: 64,
            in_all: 512,
            idle: Duration::from_secs(90),
            age: None,
        }
    }
}

/// In a request's extensions: its proof is to carry `htm`, `htu` and `jti` (PR-6), whatever the
/// client's [`ProofScope`](crate::ProofScope) says. For what must not be replayed even on the same
/// connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestBoundProof;

/// In a request's extensions: its access token goes with a session-binding proof from the first
/// request on, as under [`BindingPolicy::Require`](crate::BindingPolicy::Require), whatever the token itself
/// shows. For an opaque token whose need is known from elsewhere, such as an agent card: without it
/// the first request is refused with `use_session_binding` and sent again.
///
/// It adds to what a token demands and takes nothing away: a token that is bound to a DPoP key goes
/// with a DPoP proof. A request without a token is none the different.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProofRequired;

/// In a request's extensions: it may be sent again once although it may have been processed (CL-7).
/// Requests with an idempotent method (RFC 9110 §9.2.2) may be without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeatable;

/// In a request's extensions: it is sent over HTTP/2 or not at all, for what HTTP/1.1 cannot carry,
/// such as gRPC. On a connection of another version it fails with [`ErrorKind::HttpVersion`] before
/// anything of it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2Only;

/// In a request's extensions: the certificate that it is to be authenticated with, current or not
/// (CL-8). For an opaque token, whose source alone knows what it is bound to, and for a request
/// that asks for a token with the next certificate. A token's own `cnf.x5t#S256` comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WithCertificate(pub Thumbprint);

/// How long each step of a request's way may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Waiting for a connection, new or returned. Default 30 s.
    pub pool: Duration,
    /// Resolving the name and connecting the socket. Default 10 s.
    pub connect: Duration,
    /// A proxy's answer to CONNECT. Default 10 s.
    pub proxy: Duration,
    /// The TLS handshake. Default 10 s.
    pub tls_handshake: Duration,
    /// Signing one proof. Default 30 s: a hand may have to touch a token.
    pub sign: Duration,
    /// From the written request to the response's head. Default none: a tool call may take its
    /// time.
    pub response: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            pool: Duration::from_secs(30),
            connect: Duration::from_secs(10),
            proxy: Duration::from_secs(10),
            tls_handshake: Duration::from_secs(10),
            sign: Duration::from_secs(30),
            response: None,
        }
    }
}

impl Client {
    /// Starts to set a client up.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Sends a request and waits for the response's head.
    ///
    /// The URI is absolute. The access token comes in `Authorization` (`Bearer` or `DPoP`; the last
    /// few are remembered, so that they are hashed once), or as an
    /// [`AccessToken`](bowline_proof::AccessToken) in the request's extensions. An
    /// [`Operation`](crate::Operation) in the extensions names the request in the metrics, a
    /// [`TokenSourceId`](crate::bind::TokenSourceId) tells a successor token from a new one,
    /// [`WithCertificate`] chooses the certificate.
    ///
    /// A response with an error status is a response, not an error.
    ///
    /// # Errors
    /// Every [`ErrorKind`] but `Configuration`; [`Error::may_have_been_processed`] tells whether the
    /// server may have acted on it (CL-7).
    pub async fn send<B>(&self, request: Request<B>) -> Result<Response<Body>, Error>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        exchange::run(&self.0, request).await
    }

    /// Makes `identity` the current one (CL-8). New connections are authenticated with it. The one
    /// before is retired: it is used for the tokens that are bound to it, and for nothing else,
    /// until its certificate expires.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] if no TLS configuration can be made with it; the current one then
    /// stays.
    pub fn replace_identity(&self, identity: impl Into<Arc<Identity>>) -> Result<(), Error> {
        self.0.identities.replace(identity.into())
    }

    /// Holds `identity` besides the current one, so that a token can be asked for with it before it
    /// becomes the current one (CL-8). Until then it is used for requests with [`WithCertificate`]
    /// and tokens that are bound to it, and for nothing else. Holding what is held already does
    /// nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] if no TLS configuration can be made with it.
    pub fn hold_identity(&self, identity: impl Into<Arc<Identity>>) -> Result<(), Error> {
        self.0.identities.hold(identity.into())
    }

    /// The certificate that new connections are authenticated with: ask for tokens that are bound
    /// to this one.
    pub fn identity(&self) -> Option<Arc<Identity>> {
        self.0.identities.current().identity.clone()
    }

    /// What this client has counted so far.
    pub fn stats(&self) -> Snapshot {
        self.0.stats.snapshot()
    }
}

impl Inner {
    fn allow(&self, origin: &Origin) -> Result<(), Error> {
        if origin.is_https() || (self.plaintext_on_loopback && crate::origin::is_loopback(origin)) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::PlaintextRefused,
            format!(
                "{origin} is plaintext: use https, or allow plaintext on loopback for a local server"
            ),
        ))
    }
}

impl<B> tower_service::Service<Request<B>> for Client
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Error>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let client = self.clone();
        Box::pin(async move { client.send(request).await })
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("identity", &self.identity())
            .finish_non_exhaustive()
    }
}
