//! The client: classify, pick, bind, write, learn.

mod builder;
mod exchange;
mod http1;
mod plan;
mod recent_origins;
mod recent_tokens;
mod report;
mod sending;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};

use crate::body::Body;
use crate::conn::identities::Identities;
use crate::conn::identity::Identity;
use crate::error::{BoxError, Error, ErrorKind};
use crate::observe::stats::{Snapshot, Stats};
use crate::origin::Origin;
use crate::pool::Pool;

use recent_origins::RecentOrigins;
use recent_tokens::RecentTokens;

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
    identities: Arc<Identities>,
    plaintext_on_loopback: bool,
    /// How much of a request's body is kept for a second sending.
    replay_limit: usize,
    recent_origins: RecentOrigins,
    recent_tokens: RecentTokens,
    stats: Arc<Stats>,
}

impl Client {
    /// Starts to set a client up.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Sends a request and waits for the response's head.
    ///
    /// The URI is absolute. The access token comes in `Authorization` (`Bearer` or `DPoP`; see
    /// [`Limits::recent_tokens`](crate::Limits::recent_tokens)), or as an
    /// [`AccessToken`](bowline_proof::AccessToken) in the request's extensions. An
    /// [`Operation`](crate::Operation) in the extensions names the request in the metrics, a
    /// [`TokenSourceId`](crate::bind::TokenSourceId) tells a successor token from a new one,
    /// [`WithCertificate`](crate::WithCertificate) chooses the certificate.
    ///
    /// A response with an error status is a response, not an error.
    ///
    /// # Errors
    /// Every [`ErrorKind`] but `Configuration`; [`Error::may_have_been_processed`] tells whether
    /// the server may have acted on it (CL-7).
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
    /// [`ErrorKind::Configuration`] if no TLS configuration can be made with it; the current one
    /// then stays.
    pub fn replace_identity(&self, identity: impl Into<Arc<Identity>>) -> Result<(), Error> {
        self.0.identities.replace(identity.into())
    }

    /// Holds `identity` besides the current one, so that a token can be asked for with it before it
    /// becomes the current one (CL-8). Until then it is used for requests with
    /// [`WithCertificate`](crate::WithCertificate) and tokens that are bound to it, and for nothing
    /// else. If the client holds it already, nothing changes.
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
        let mut snapshot = self.0.stats.snapshot();
        (snapshot.ahead, snapshot.learned) = self.0.pool.ahead();
        snapshot
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
