//! The server: bowline's own acceptor and HTTP, with a service that reads the request and answers
//! 100 bytes.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bowline_server::{
    Acceptor, BindingLayer, ClientAuth, Connection, ConnectionFacts, ConnectionLimits, Dpop,
    ExpectedClaims, Identity, Jwks, JwtValidator, MemoryReplayStore, ServeOptions, ServerTls,
    Trust, serve_connection,
};
use bowline_testkit::net::loopback;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tower_layer::Layer;
use tower_service::Service;

use super::fixture::{AUDIENCE, Credentials, Fixture, Http};

/// The settings of a server.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) http: Http,
    /// SETTINGS_MAX_CONCURRENT_STREAMS.
    pub(crate) streams: u32,
    /// SETTINGS_HEADER_TABLE_SIZE; `None` is HTTP/2's default of 4,096 bytes.
    pub(crate) header_table: Option<u32>,
    /// Whether TLS sessions can be resumed.
    pub(crate) tickets: bool,
    /// Whether each HTTP/1.1 response is its connection's last.
    pub(crate) closes: bool,
}

impl Settings {
    pub(crate) fn new(http: Http) -> Self {
        Self {
            http,
            streams: 200,
            header_table: None,
            tickets: true,
            closes: false,
        }
    }
}

/// A server on a loopback port. Dropping it stops accepting.
pub(crate) struct Server {
    pub(crate) origin: String,
    received: Arc<AtomicU64>,
    accepting: JoinHandle<()>,
}

impl Server {
    /// A server that accepts every request.
    pub(crate) fn start(credentials: &Credentials, settings: Settings) -> Self {
        Self::serving(credentials, settings, |_| Answering(settings.closes))
    }

    /// A server that verifies tokens and proofs, DPoP included: `BindingLayer` with `JwtValidator`,
    /// as in production. The validator caches verified token signatures, so they are not checked
    /// for each request.
    pub(crate) fn verifying(
        fixture: &Fixture,
        credentials: &Credentials,
        settings: Settings,
    ) -> Self {
        let keys = Jwks::document(fixture.authority.jwks().to_string()).expect("a key set");
        let tokens = JwtValidator::builder(
            ExpectedClaims::new(AUDIENCE).issuer(fixture.authority.issuer()),
            keys,
        )
        .build();
        Self::serving(credentials, settings, |origin| {
            BindingLayer::new(tokens)
                .origins([origin.parse().expect("an origin")])
                .dpop(Dpop::new(MemoryReplayStore::new(usize::MAX)))
                .layer(Answering(settings.closes))
        })
    }

    fn serving<S>(
        credentials: &Credentials,
        settings: Settings,
        service: impl FnOnce(&str) -> S,
    ) -> Self
    where
        S: Service<Request<Incoming>, Response = Response<Full<Bytes>>, Error = Infallible>,
        S: Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        let identity = Identity::from_pem(credentials.chain.as_bytes(), credentials.key.as_bytes())
            .expect("a pair");
        let clients = ClientAuth::Required(
            Trust::from_pem(credentials.authority.as_bytes()).expect("an authority"),
        );
        let lifetime = settings.tickets.then_some(Duration::from_secs(3600));
        let tls = ServerTls::builder(identity, clients)
            .alpn([settings.http.alpn()])
            .ticket_lifetime(lifetime);
        let acceptor = Acceptor::new(tls.build().expect("a usable configuration"));
        let listener = loopback();
        let origin = format!(
            "https://localhost:{}",
            listener.local_addr().expect("an address").port()
        );
        let received = Arc::new(AtomicU64::new(0));
        let accepting = tokio::spawn(accept(
            listener,
            acceptor,
            settings,
            service(&origin),
            received.clone(),
        ));
        Self {
            origin,
            received,
            accepting,
        }
    }

    /// Bytes received over TCP on all connections, TLS records included.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept<S>(
    listener: TcpListener,
    acceptor: Acceptor,
    settings: Settings,
    service: S,
    received: Arc<AtomicU64>,
) where
    S: Service<Request<Incoming>, Response = Response<Full<Bytes>>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    let mut options = ServeOptions::default();
    options.max_concurrent_streams = settings.streams;
    let mut limits = ConnectionLimits::default();
    limits.first_request_timeout = Duration::from_secs(3600);
    limits.idle_timeout = Duration::from_secs(3600);
    loop {
        let (tcp, _) = listener.accept().await.expect("another connection");
        let (acceptor, service, options, limits, received) = (
            acceptor.clone(),
            service.clone(),
            options.clone(),
            limits.clone(),
            received.clone(),
        );
        tokio::spawn(async move {
            let _ = tcp.set_nodelay(true);
            let Ok((stream, facts)) = acceptor.accept(Counted { io: tcp, received }).await else {
                return;
            };
            match settings.header_table {
                None => {
                    let connection = Connection::new(stream, facts, &limits);
                    serve_connection(connection, service, &options, std::future::pending()).await
                }
                // `serve_connection` has no such setting.
                Some(size) => {
                    let service =
                        hyper::service::service_fn(move |request| service.clone().call(request));
                    let mut http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    http.header_table_size(size)
                        .max_concurrent_streams(settings.streams);
                    drop(http.serve_connection(TokioIo::new(stream), service).await);
                }
            }
        });
    }
}

/// A request with this field is answered with a description of itself.
pub(crate) const DESCRIBE: &str = "bench-describe";

/// Reads the request to its end and answers.
#[derive(Clone)]
struct Answering(bool);

const ANSWER: &[u8; 100] =
    br#"{"jsonrpc":"2.0","id":4711,"result":{"content":[{"type":"text","text":"012345678"}],"isError":false}"#;

impl Service<Request<Incoming>> for Answering {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let closes = self.0;
        async move {
            let (parts, body) = request.into_parts();
            let body = body
                .collect()
                .await
                .map(http_body_util::Collected::to_bytes)
                .unwrap_or_default();
            let answer = if parts.headers.contains_key(DESCRIBE) {
                Bytes::from(describe(&parts, &body))
            } else {
                Bytes::from_static(ANSWER)
            };
            let mut response = Response::new(Full::new(answer));
            let headers: &mut HeaderMap = response.headers_mut();
            headers.insert(
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/json"),
            );
            if closes {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response)
        }
        .boxed()
    }
}

/// Describes what must be the same for all contenders. They differ in tokens, of which it gives only
/// the length, and in proofs, which it leaves out.
fn describe(parts: &http::request::Parts, body: &[u8]) -> String {
    let facts = parts.extensions.get::<Arc<ConnectionFacts>>();
    let tls = facts.map(|facts| (facts.tls_version(), facts.certificate().is_some()));
    let mut fields: Vec<_> = parts
        .headers
        .iter()
        .filter(|(name, _)| !["session-binding-proof", "dpop"].contains(&name.as_str()))
        .map(|(name, value)| match *name {
            header::AUTHORIZATION => {
                format!("{name}: {} bytes", value.to_str().map_or(0, credentials))
            }
            _ => format!("{name}: {}", value.to_str().unwrap_or_default()),
        })
        .collect();
    fields.sort();
    let (method, version, path) = (&parts.method, parts.version, parts.uri.path());
    format!(
        "{tls:?} {method} {path} {version:?} {fields:?} {} bytes",
        body.len()
    )
}

fn credentials(field: &str) -> usize {
    field.split_once(' ').map_or(0, |(_, token)| token.len())
}

/// Counts what is read.
struct Counted {
    io: TcpStream,
    received: Arc<AtomicU64>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        let bytes = (buf.filled().len() - before) as u64;
        self.received.fetch_add(bytes, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
