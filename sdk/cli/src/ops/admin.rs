//! The admin listener: `/healthz`, `/readyz`, `/metrics` and `/stats`.
//!
//! What it tells depends on who can reach it. A Unix socket of mode 0600 is for its owner: all of
//! it. On loopback every local user can ask, and so can a web page in a browser here, by DNS
//! rebinding: `Host` must be a name of loopback, and there is no `/stats`. Beyond loopback there is
//! what probes and scrapers need.

mod stats;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::socket;
use super::status::Status;
use crate::failure::Failure;
use crate::values::ListenAt;

/// Seconds: from a warm request on this machine to a slow stream.
const BUCKETS: [f64; 12] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0,
];

/// How often what histograms have collected is put together.
const UPKEEP: Duration = Duration::from_secs(5);

/// Connections at a time.
const MAX_CONNECTIONS: usize = 64;

/// Until the head of a request has arrived, and between two requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

const MAX_HEAD: usize = 16 * 1024;

/// Who can reach the listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Owner,
    Loopback { port: u16 },
    Network,
}

#[derive(Clone)]
struct Service {
    reach: Reach,
    status: Arc<Status>,
    metrics: PrometheusHandle,
}

/// Serves until it is dropped or told to end.
pub(super) struct Admin {
    serving: JoinHandle<()>,
    upkeep: JoinHandle<()>,
    socket: Option<PathBuf>,
}

impl Admin {
    /// Must come before the service starts, so that it counts from the beginning.
    pub(super) async fn start(at: &ListenAt, status: Arc<Status>) -> Result<Self, Failure> {
        let metrics = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS)
            .and_then(PrometheusBuilder::install_recorder)
            .map_err(Failure::failed)?;
        let handle = metrics.clone();
        let upkeep = tokio::spawn(async move {
            loop {
                tokio::time::sleep(UPKEEP).await;
                handle.run_upkeep();
            }
        });
        let service = |reach| Service {
            reach,
            status,
            metrics,
        };
        let (serving, socket) = match at {
            ListenAt::Unix(path) => {
                let listener = socket::bind_private(path)
                    .await
                    .map_err(|reason| Failure::failed(format!("--admin {at}: {reason}")))?;
                tracing::info!("admin: serving on {at}");
                let serving = tokio::spawn(serve_unix(listener, service(Reach::Owner)));
                (serving, Some(path.clone()))
            }
            ListenAt::Tcp(address) => {
                let listener = TcpListener::bind(address).await;
                let local = listener.and_then(|tcp| Ok((tcp.local_addr()?, tcp)));
                let (local, listener) = local.map_err(|error| {
                    Failure::cannot_listen(format_args!("--admin {at}"), &error)
                })?;
                let reach = reach(local);
                if reach == Reach::Network {
                    tracing::warn!(
                        "admin: {local} can be reached from other machines: /healthz, /readyz and \
                         /metrics are served there to everyone, and nothing else"
                    );
                }
                tracing::info!("admin: serving on {local}");
                (tokio::spawn(serve_tcp(listener, service(reach))), None)
            }
        };
        Ok(Self {
            serving,
            upkeep,
            socket,
        })
    }

    pub(super) fn end(self) {
        drop(self);
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.serving.abort();
        self.upkeep.abort();
        if let Some(path) = &self.socket {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn reach(local: SocketAddr) -> Reach {
    match local.ip().to_canonical().is_loopback() {
        true => Reach::Loopback { port: local.port() },
        false => Reach::Network,
    }
}

impl Service {
    fn answer(&self, method: &Method, path: &str, headers: &HeaderMap) -> Response<Full<Bytes>> {
        if let Reach::Loopback { port } = self.reach
            && !is_loopback_host(headers, port)
        {
            let text = "Host is not a name of loopback with this port";
            return text_response(StatusCode::MISDIRECTED_REQUEST, text);
        }
        let response = match path {
            "/healthz" => text_response(StatusCode::OK, "ok"),
            "/readyz" if self.status.is_ready() => text_response(StatusCode::OK, "ready"),
            "/readyz" => text_response(StatusCode::SERVICE_UNAVAILABLE, "not ready"),
            "/metrics" => {
                self.metrics.run_upkeep();
                typed("text/plain; version=0.0.4", self.metrics.render())
            }
            "/stats" if self.reach == Reach::Owner => {
                let stats = stats::stats(self.status.describe(), &self.metrics.render());
                typed("application/json", format!("{stats}\n"))
            }
            _ => return text_response(StatusCode::NOT_FOUND, "not found"),
        };
        if method != Method::GET {
            let mut refusal = text_response(StatusCode::METHOD_NOT_ALLOWED, "only GET");
            let headers = refusal.headers_mut();
            headers.insert(ALLOW, HeaderValue::from_static("GET"));
            return refusal;
        }
        response
    }
}

fn is_loopback_host(headers: &HeaderMap, port: u16) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return false;
    };
    let Ok(host) = Authority::try_from(host.as_bytes()) else {
        return false;
    };
    let names_loopback = match host.host() {
        "127.0.0.1" | "[::1]" => true,
        name => name.eq_ignore_ascii_case("localhost"),
    };
    // `user@localhost` is not it.
    names_loopback && !host.as_str().contains('@') && host.port_u16().unwrap_or(80) == port
}

fn text_response(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = typed("text/plain; charset=utf-8", format!("{text}\n"));
    *response.status_mut() = status;
    response
}

fn typed(kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn serve_tcp(listener: TcpListener, service: Service) {
    let accept = || async { listener.accept().await.map(|(stream, _)| stream) };
    serve_all(accept, service).await;
}

async fn serve_unix(listener: UnixListener, service: Service) {
    let accept = || async { listener.accept().await.map(|(stream, _)| stream) };
    serve_all(accept, service).await;
}

async fn serve_all<IO, F>(accept: impl Fn() -> F, service: Service)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = std::io::Result<IO>>,
{
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        // The semaphore is never closed.
        let place = places.clone().acquire_owned().await;
        match accept().await {
            Ok(stream) => {
                let service = service.clone();
                tokio::spawn(async move {
                    let _place = place;
                    serve(stream, service).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "admin: accepting failed");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send, service: Service) {
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let (parts, _) = request.into_parts();
        let response = service.answer(&parts.method, parts.uri.path(), &parts.headers);
        async move { Ok::<_, Infallible>(response) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "admin: a connection broke");
    }
}

#[cfg(test)]
mod tests;
