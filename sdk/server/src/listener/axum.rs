//! Implements axum's `Listener`, for `axum::serve`.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::connection::Ending;
use super::{Connection, Listener};
use crate::ConnectionFacts;
use crate::bounded::Bounded;
use crate::forward::forward_writes;
use crate::when_woken::WhenWoken;

/// How long requests in flight may continue once the connection should take no more.
const GRACE: Duration = Duration::from_secs(30);

/// Without GOAWAY a request may be on its way. It is less likely after a pause.
const QUIET: Duration = Duration::from_secs(1);

impl axum::serve::Listener for Listener {
    type Io = EndingConnection;
    type Addr = Option<SocketAddr>;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let connection = Listener::accept(self).await;
        let peer = connection.facts().peer();
        (EndingConnection::new(connection), peer)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(Some(self.local_addr))
    }
}

/// The facts of a connection as axum's connect info, where [`BindingLayer`](crate::BindingLayer)
/// finds them:
///
/// ```no_run
/// # use bowline_server::Listener;
/// # async fn run(listener: Listener, router: axum::Router) -> std::io::Result<()> {
/// use bowline_server::PeerFacts;
///
/// axum::serve(listener, router.into_make_service_with_connect_info::<PeerFacts>()).await
/// # }
/// ```
///
/// All of [`ConnectionLimits`](crate::ConnectionLimits) hold. But `axum::serve` cannot drain a
/// single connection: one that has to end, for example because its certificate is past its
/// `notAfter` (RS-1) or its set of used `jti` values is nearly full (RS-9), is closed without
/// GOAWAY as soon as it has had no open request for a second, and in any case after thirty seconds.
/// [`serve`](crate::serve) drains such connections instead. Nor does `axum::serve` say whether a
/// response has something to send: under it, a response with a closed HTTP/2 window is reset after
/// [`stalled_response_timeout`](crate::ConnectionLimits::stalled_response_timeout) even if it is
/// silent.
/// Upstream: request 18 in `docs/src/upstream.md`, beside
/// <https://github.com/tokio-rs/axum/issues/3753>.
#[derive(Clone, Debug)]
pub struct PeerFacts(pub Arc<ConnectionFacts>);

impl Connected<IncomingStream<'_, Listener>> for PeerFacts {
    fn connect_info(stream: IncomingStream<'_, Listener>) -> Self {
        Self(stream.io().ending.facts().clone())
    }
}

/// A connection that reports end of file when it has to end.
pub struct EndingConnection {
    stream: Bounded<TlsStream<TcpStream>>,
    ending: Arc<Ending>,
    /// Completes then, and becomes `None`.
    end: Option<WhenWoken<BoxFuture<'static, ()>>>,
}

impl EndingConnection {
    fn new(connection: Connection) -> Self {
        let (stream, ending) = connection.into_parts();
        let end = {
            let ending = ending.clone();
            async move {
                ending.wanted().await;
                let unused = ending.activity().idle(QUIET, QUIET);
                // An error means that the requests in flight took too long.
                let _ = tokio::time::timeout(GRACE, unused).await;
            }
        };
        Self {
            stream,
            ending,
            end: Some(WhenWoken::new(end.boxed())),
        }
    }
}

impl AsyncRead for EndingConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self
            .end
            .as_mut()
            .is_some_and(|end| end.poll_unpin(cx).is_ready())
        {
            self.end = None;
        }
        match self.end {
            Some(_) => Pin::new(&mut self.stream).poll_read(cx, buf),
            // Zero bytes read means end of file.
            None => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for EndingConnection {
    forward_writes!(stream);

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
