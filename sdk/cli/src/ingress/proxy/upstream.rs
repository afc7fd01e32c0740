//! Connections to the service behind: over a Unix socket or loopback only (GW-2).

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::uri::PathAndQuery;
use http::{Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Mutex;
use tower::Service;

use super::UpstreamOptions;
use super::body::RequestBody;
use crate::values::UpstreamAt;

/// More of a response's head is refused.
const MAX_HEAD: usize = 256 * 1024;

/// The service behind.
pub(super) struct Upstream {
    name: Arc<str>,
    protocol: Protocol,
}

enum Protocol {
    Http1(Box<Client<Connector, RequestBody>>),
    Http2(Http2),
}

/// One connection carries all requests, and is replaced when it ends.
struct Http2 {
    connector: Connector,
    sender: Mutex<Option<http2::SendRequest<RequestBody>>>,
}

impl Upstream {
    pub(super) fn new(options: UpstreamOptions) -> Self {
        let name = options.at.to_string().into();
        let connector = Connector {
            at: Arc::new(options.at),
            timeout: options.connect_timeout,
        };
        let protocol = match options.h2c {
            true => Protocol::Http2(Http2 {
                connector,
                sender: Mutex::new(None),
            }),
            false => {
                let client = Client::builder(TokioExecutor::new())
                    .pool_timer(TokioTimer::new())
                    .pool_idle_timeout(options.idle_timeout)
                    .http1_max_buf_size(MAX_HEAD)
                    .build(connector);
                Protocol::Http1(Box::new(client))
            }
        };
        Self { name, protocol }
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(super) fn is_http2(&self) -> bool {
        matches!(self.protocol, Protocol::Http2(_))
    }

    /// Sends the request, whose target becomes what the protocol wants, and waits for the head of
    /// the response.
    pub(super) async fn send(
        &self,
        mut request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, UpstreamError> {
        let target = request.uri().path_and_query().cloned();
        let target = target.unwrap_or_else(|| PathAndQuery::from_static("/"));
        match &self.protocol {
            Protocol::Http1(client) => {
                // The pool's key is the same for all requests.
                *request.uri_mut() = uri("upstream", target)?;
                *request.version_mut() = Version::HTTP_11;
                client.request(request).await.map_err(UpstreamError::of)
            }
            Protocol::Http2(http2) => {
                // `:authority` is the client's.
                let host = request.headers_mut().remove(http::header::HOST);
                let host = host.as_ref().and_then(|host| host.to_str().ok());
                *request.uri_mut() = uri(host.unwrap_or("upstream"), target)?;
                *request.version_mut() = Version::HTTP_2;
                http2.send(request).await
            }
        }
    }
}

fn uri(authority: &str, target: PathAndQuery) -> Result<Uri, UpstreamError> {
    let uri = Uri::builder().scheme("http").authority(authority);
    uri.path_and_query(target)
        .build()
        .map_err(|error| UpstreamError::Exchange(error.into()))
}

impl Http2 {
    async fn send(
        &self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, UpstreamError> {
        let mut sender = self.sender().await?;
        sender
            .ready()
            .await
            .map_err(|error| UpstreamError::Exchange(error.into()))?;
        sender
            .send_request(request)
            .await
            .map_err(|error| UpstreamError::Exchange(error.into()))
    }

    async fn sender(&self) -> Result<http2::SendRequest<RequestBody>, UpstreamError> {
        // Held while connecting: others wait for the same connection.
        let mut kept = self.sender.lock().await;
        if let Some(sender) = kept.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        let stream = self
            .connector
            .connect()
            .await
            .map_err(UpstreamError::Connect)?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| UpstreamError::Exchange(error.into()))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the upstream ended");
            }
        });
        *kept = Some(sender.clone());
        Ok(sender)
    }
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub(super) enum UpstreamError {
    #[error("it cannot be connected to: {0}")]
    Connect(io::Error),
    #[error("it did not answer within {0:?}")]
    Timeout(Duration),
    #[error("it switched protocols, which nothing asked for")]
    Switched,
    #[error("the exchange failed: {}", chain(&**.0))]
    Exchange(Box<dyn std::error::Error + Send + Sync>),
}

impl UpstreamError {
    fn of(error: hyper_util::client::legacy::Error) -> Self {
        if error.is_connect() {
            let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
            while let Some(found) = cause {
                if let Some(error) = found.downcast_ref::<io::Error>() {
                    return Self::Connect(io::Error::new(error.kind(), error.to_string()));
                }
                cause = found.source();
            }
        }
        Self::Exchange(error.into())
    }

    /// RFC 9110 sections 15.6.3 and 15.6.5.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Timeout(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::Connect(error) if error.kind() == io::ErrorKind::TimedOut => {
                StatusCode::GATEWAY_TIMEOUT
            }
            Self::Connect(_) | Self::Exchange(_) | Self::Switched => StatusCode::BAD_GATEWAY,
        }
    }

    /// A short name in snake case: a metric label.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Timeout(_) => "timeout",
            Self::Connect(error) if error.kind() == io::ErrorKind::TimedOut => "connect_timeout",
            Self::Connect(_) => "connect",
            Self::Exchange(_) | Self::Switched => "exchange",
        }
    }

    /// Whether a kept connection may have ended just when the request was sent on it.
    pub(super) fn may_be_stale_connection(&self) -> bool {
        matches!(self, Self::Exchange(_))
    }
}

fn chain(error: &(dyn std::error::Error + Send + Sync + 'static)) -> String {
    crate::causes::with_causes(error)
}

/// Opens connections, whatever the URI says.
#[derive(Clone)]
struct Connector {
    at: Arc<UpstreamAt>,
    timeout: Duration,
}

impl Connector {
    async fn connect(&self) -> io::Result<Stream> {
        tokio::time::timeout(self.timeout, self.connect_patiently())
            .await
            .unwrap_or_else(|_| {
                let text = format!("no connection within {:?}", self.timeout);
                Err(io::Error::new(io::ErrorKind::TimedOut, text))
            })
    }

    async fn connect_patiently(&self) -> io::Result<Stream> {
        match &*self.at {
            UpstreamAt::Unix(path) => connect_unix(path).await.map(Stream::Unix),
            UpstreamAt::Tcp(addrs) => {
                let stream = TcpStream::connect(&addrs[..]).await?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
        }
    }
}

async fn connect_unix(path: &PathBuf) -> io::Result<UnixStream> {
    UnixStream::connect(path).await
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<TokioIo<Stream>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { connector.connect().await.map(TokioIo::new) })
    }
}

/// A connection to the upstream.
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

macro_rules! either {
    ($self:ident, $stream:ident => $do:expr) => {
        match $self.get_mut() {
            Stream::Tcp($stream) => $do,
            Stream::Unix($stream) => $do,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}
