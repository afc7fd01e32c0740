//! A server without TLS: tests compare bowline's figures and responses with it.

use std::net::SocketAddr;

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;

use crate::net::{OwnedTask, accept_loop, loopback};
use bowline_server::HttpService;

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
    pub fn start<S: HttpService>(service: S) -> Self {
        Self::start_with(|_| service)
    }

    /// Like [`start`](Self::start), for a service that must know its own origin: what an agent's
    /// card names, say.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    #[must_use]
    pub fn start_with<S: HttpService>(service: impl FnOnce(&str) -> S) -> Self {
        let listener = loopback();
        let addr = listener.local_addr().expect("a bound socket's address");
        let service = service(&plain_origin(addr));
        let accepting = accept_loop(listener, move |tcp| {
            let service = TowerToHyperService::new(service.clone());
            async move {
                let mut http = auto::Builder::new(TokioExecutor::new());
                http.http1().timer(TokioTimer::new());
                http.http2().timer(TokioTimer::new());
                if let Err(error) = http.serve_connection(TokioIo::new(tcp), service).await {
                    tracing::debug!(%error, "a connection ended in an error");
                }
            }
        });
        Self {
            addr,
            _accepting: accepting,
        }
    }

    address_methods!("http://127.0.0.1:<port>", plain_origin);
}

fn plain_origin(addr: SocketAddr) -> String {
    format!("http://{addr}")
}
