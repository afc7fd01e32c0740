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

use super::{Connection, Listener};
use crate::expiry::past_not_after;
use crate::forward::forward_writes;
use crate::{Clock, CloseReason, ConnectionFacts};

/// How long requests in flight may continue once the connection should take no more.
const GRACE: Duration = Duration::from_secs(30);

impl axum::serve::Listener for Listener {
    type Io = ExpiringConnection;
    type Addr = Option<SocketAddr>;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let connection = Listener::accept(self).await;
        let peer = connection.facts().peer();
        (
            ExpiringConnection::new(connection, self.clock.clone()),
            peer,
        )
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
/// `axum::serve` cannot drain a single connection. Past its certificate's `notAfter` each request
/// is refused (RS-1), and thirty seconds later the connection is closed without GOAWAY. The same
/// happens thirty seconds after its set of used `jti` values has become nearly full (RS-9).
/// [`serve`](crate::serve) drains such connections instead.
#[derive(Clone, Debug)]
pub struct PeerFacts(pub Arc<ConnectionFacts>);

impl Connected<IncomingStream<'_, Listener>> for PeerFacts {
    fn connect_info(stream: IncomingStream<'_, Listener>) -> Self {
        Self(stream.io().connection.facts().clone())
    }
}

/// A connection that reports end of file some time after the client's certificate has passed its
/// `notAfter` (RS-1), or after the set of used `jti` values has become nearly full (RS-9).
pub struct ExpiringConnection {
    connection: Connection,
    /// Completes at that time; then it becomes `None`.
    expiry: Option<BoxFuture<'static, ()>>,
}

impl ExpiringConnection {
    fn new(connection: Connection, clock: Clock) -> Self {
        let facts = connection.facts().clone();
        let expiry = async move {
            tokio::select! {
                () = past_not_after(&facts, &clock) => {
                    facts.close_report.set_reason(CloseReason::Certificate);
                }
                // The verifier set the reason when it asked for the drain.
                () = facts.drain_wanted() => {}
            }
            tokio::time::sleep(GRACE).await;
        };
        Self {
            connection,
            expiry: Some(expiry.boxed()),
        }
    }
}

impl AsyncRead for ExpiringConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self
            .expiry
            .as_mut()
            .is_some_and(|expiry| expiry.poll_unpin(cx).is_ready())
        {
            self.expiry = None;
        }
        match self.expiry {
            Some(_) => Pin::new(&mut self.connection).poll_read(cx, buf),
            // Zero bytes read means end of file.
            None => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for ExpiringConnection {
    forward_writes!(connection);

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(cx)
    }
}
