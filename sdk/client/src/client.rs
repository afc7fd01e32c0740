//! The client: classify, pick, bind, write, learn.

mod builder;
mod exchange;
mod plan;

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};

use crate::body::Body;
use crate::connect::Connector;
use crate::error::{BoxError, Error, Kind};
use crate::origin::Origin;
use crate::pool::Pool;
use crate::stats::{Snapshot, Stats};

pub use builder::Builder;

/// A connection-aware HTTP client.
///
/// Cloning is cheap and shares everything. When the last clone is dropped, idle connections close; responses under
/// way are read to their end.
///
/// It does not follow redirects (CL-6), keep cookies or decompress.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

pub(crate) struct Inner {
    connector: Arc<Connector>,
    plaintext_on_loopback: bool,
    /// How much of a request's body is kept for a second sending.
    copy_limit: usize,
    origins: Mutex<HashMap<Origin, Arc<Pool>>>,
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

/// How long each step of a request's way may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Waiting for a connection, new or returned. Default 30 s.
    pub pool: Duration,
    /// Resolving the name and connecting the socket. Default 10 s.
    pub connect: Duration,
    /// The TLS handshake. Default 10 s.
    pub tls_handshake: Duration,
    /// Signing one proof. Default 30 s: a hand may have to touch a token.
    pub sign: Duration,
    /// From the written request to the response's head. Default none: a tool call may take its time.
    pub response: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            pool: Duration::from_secs(30),
            connect: Duration::from_secs(10),
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
    /// The URI is absolute. The access token comes in `Authorization: Bearer`, or as an
    /// [`AccessToken`](bowline_proof::AccessToken) in the request's extensions, which saves hashing it again. An
    /// [`Operation`](crate::Operation) in the extensions names the request in the metrics, a
    /// [`TokenSourceId`](crate::bind::TokenSourceId) tells a successor token from a new one.
    ///
    /// A response with an error status is a response, not an error.
    ///
    /// # Errors
    /// Every [`Kind`] but `Configuration`; [`Error::may_have_been_processed`] tells whether the server may have
    /// acted on it (CL-7).
    pub async fn send<B>(&self, request: Request<B>) -> Result<Response<Body>, Error>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        exchange::run(&self.0, request).await
    }

    /// What this client has counted so far.
    pub fn stats(&self) -> Snapshot {
        self.0.stats.snapshot()
    }
}

impl Inner {
    fn pool(&self, origin: &Origin) -> Result<Arc<Pool>, Error> {
        let allowed = origin.is_https() || (self.plaintext_on_loopback && origin.is_loopback());
        if !allowed {
            return Err(Error::new(
                Kind::PlaintextRefused,
                format!("{origin} is plaintext: use https, or allow plaintext on loopback for a local server"),
            ));
        }
        let mut origins = self.origins.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = origins.get(origin) {
            return Ok(pool.clone());
        }
        if origins.len() >= MOST_ORIGINS {
            origins.retain(|_, pool| Arc::strong_count(pool) > 1 || !pool.is_unused());
        }
        let pool = Pool::new(origin.clone(), self.connector.clone());
        origins.insert(origin.clone(), pool.clone());
        Ok(pool)
    }
}

/// Beyond this many, origins without a connection are forgotten, with their session tickets.
const MOST_ORIGINS: usize = 1024;

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
            .field("identity", &self.0.connector.identity)
            .finish_non_exhaustive()
    }
}
