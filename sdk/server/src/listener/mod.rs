//! Many handshakes at a time, one queue of finished connections.

#[cfg(feature = "axum")]
mod axum;

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::server::TlsStream;

#[cfg(feature = "axum")]
pub use self::axum::PeerFacts;
use crate::{Acceptor, ConnectionFacts, Lingering};

const DEFAULT_HANDSHAKE_LIMIT: usize = 1024;

/// Finished connections that nobody has taken yet. Behind these, handshakes wait, and behind those, the kernel's queue.
const QUEUE: usize = 64;

/// How long to wait when the process is out of file descriptors or memory.
const BACK_OFF: Duration = Duration::from_millis(200);

/// Accepts TCP connections and performs their TLS handshakes, each in a task of its own with a time limit, so that a
/// silent peer delays nobody. [`serve`](crate::serve) and `axum::serve` take it.
///
/// Dropping it stops listening and breaks off the handshakes under way.
#[derive(Debug)]
pub struct Listener {
    finished: mpsc::Receiver<Connection>,
    local_addr: SocketAddr,
    accepting: AbortHandle,
}

impl Listener {
    /// Binds `address` and starts to accept.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn bind(address: impl ToSocketAddrs, acceptor: Acceptor) -> io::Result<Self> {
        Self::new(TcpListener::bind(address).await?, acceptor)
    }

    /// Starts to accept from a socket that is bound already, with at most 1,024 handshakes at a time.
    ///
    /// # Errors
    /// The socket has no local address.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(tcp: TcpListener, acceptor: Acceptor) -> io::Result<Self> {
        Self::with_handshake_limit(tcp, acceptor, DEFAULT_HANDSHAKE_LIMIT)
    }

    /// The same with another limit. At the limit, further peers wait until a handshake ends or runs out of time.
    ///
    /// # Errors
    /// The socket has no local address.
    ///
    /// # Panics
    /// Outside a tokio runtime, and when `limit` is 0.
    pub fn with_handshake_limit(tcp: TcpListener, acceptor: Acceptor, limit: usize) -> io::Result<Self> {
        assert!(limit > 0, "a listener must be allowed at least one handshake");
        let local_addr = tcp.local_addr()?;
        let (queue, finished) = mpsc::channel(QUEUE);
        let accepting = tokio::spawn(accept_all(tcp, acceptor, queue, limit)).abort_handle();
        Ok(Self {
            finished,
            local_addr,
            accepting,
        })
    }

    /// The next connection whose handshake has succeeded. Cancelling this loses nothing.
    pub async fn accept(&mut self) -> Connection {
        match self.finished.recv().await {
            Some(connection) => connection,
            // The accepting task ends only with the listener or with the runtime.
            None => std::future::pending().await,
        }
    }

    /// The address that is listened on.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept_all(tcp: TcpListener, acceptor: Acceptor, queue: mpsc::Sender<Connection>, limit: usize) {
    // Dropped with this task, and the handshakes with it.
    let mut handshakes = JoinSet::new();
    loop {
        while handshakes.try_join_next().is_some() {}
        while handshakes.len() >= limit {
            handshakes.join_next().await;
        }
        match tcp.accept().await {
            Ok((stream, peer)) => {
                handshakes.spawn(handshake(stream, peer, acceptor.clone(), queue.clone()));
            }
            Err(error) if concerns_one_peer(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "accepting failed; waiting {BACK_OFF:?} before the next attempt");
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}

async fn handshake(stream: TcpStream, peer: SocketAddr, acceptor: Acceptor, queue: mpsc::Sender<Connection>) {
    // Without it small responses wait for acknowledgements; a socket that refuses still works.
    let _ = stream.set_nodelay(true);
    match acceptor.accept_from(stream, peer).await {
        Ok((stream, facts)) => {
            tracing::debug!(connection = %facts.id(), %peer, resumed = facts.is_resumed(), "connection accepted");
            // Nobody takes it: the listener is gone.
            let stream = Lingering::new(stream);
            let _ = queue.send(Connection { stream, facts }).await;
        }
        Err(error) => {
            let cause = std::error::Error::source(&error);
            tracing::debug!(%peer, %error, cause, "connection refused");
        }
    }
}

fn concerns_one_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}

/// A TLS connection over TCP together with its facts. It reads and writes application data.
#[derive(Debug)]
pub struct Connection {
    stream: Lingering<TlsStream<TcpStream>>,
    facts: Arc<ConnectionFacts>,
}

impl Connection {
    /// The facts of this connection.
    #[must_use]
    pub fn facts(&self) -> &Arc<ConnectionFacts> {
        &self.facts
    }

    /// The stream and the facts, for [`serve_connection`](crate::serve_connection) or a loop of the caller's own.
    #[must_use]
    pub fn into_parts(self) -> (TlsStream<TcpStream>, Arc<ConnectionFacts>) {
        (self.stream.into_inner(), self.facts)
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
