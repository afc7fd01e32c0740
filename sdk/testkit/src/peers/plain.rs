//! A server without TLS: what our figures and answers are compared with.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::task::JoinSet;
use tower_service::Service;

use super::counted_service::BoxError;
use crate::net::{accept, loopback};
use crate::task::OwnedTask;

/// A plain HTTP server on a loopback port of its own: HTTP/1.1, and HTTP/2 with prior knowledge
/// (RFC 9113 §3.3), which is what gRPC without TLS speaks. Dropping it cuts its connections.
#[derive(Debug)]
pub struct PlainServer {
    addr: SocketAddr,
    _accepting: OwnedTask,
}

impl PlainServer {
    /// Serves `service` (an axum `Router`, say).
    ///
    /// # Panics
    /// If no loopback port can be bound, or outside a tokio runtime.
    #[must_use]
    pub fn start<S, B>(service: S) -> Self
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self::start_with(|_| service)
    }

    /// Like [`start`](Self::start), for a service that must know its own origin: what an agent's
    /// card names, say.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    #[must_use]
    pub fn start_with<S, B>(service: impl FnOnce(&str) -> S) -> Self
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let listener = loopback();
        let addr = listener.local_addr().expect("a bound socket's address");
        let service = service(&plain_origin(addr));
        let accepting = OwnedTask::spawn(async move {
            // Dropping the set ends the connections with the server.
            let mut connections = JoinSet::new();
            loop {
                let tcp = accept(&listener).await;
                while connections.try_join_next().is_some() {}
                let service = TowerToHyperService::new(service.clone());
                connections.spawn(async move {
                    let mut http = auto::Builder::new(TokioExecutor::new());
                    http.http1().timer(TokioTimer::new());
                    http.http2().timer(TokioTimer::new());
                    if let Err(error) = http.serve_connection(TokioIo::new(tcp), service).await {
                        tracing::debug!(%error, "a connection ended in an error");
                    }
                });
            }
        });
        Self {
            addr,
            _accepting: accepting,
        }
    }

    /// Where it listens, on 127.0.0.1.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The origin `http://127.0.0.1:<port>`.
    #[must_use]
    pub fn origin(&self) -> String {
        plain_origin(self.addr)
    }
}

fn plain_origin(addr: SocketAddr) -> String {
    format!("http://{addr}")
}
