//! Lingering close: a closed connection does not lose responses that are still on their way.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::forward::forward_writes;

/// A stream whose shutdown keeps reading, and dropping what it reads, for a moment before it
/// completes.
///
/// If a socket is closed while received bytes are still unread, the kernel sends a reset, and the
/// reset may destroy responses that the peer has not read yet (RFC 9112 §9.6). This also happens in
/// an orderly close. Example: the server sends GOAWAY, while the client's next request is already
/// on its way. HTTP/2 ignores that request, so its bytes stay unread in the socket; the close sends
/// a reset; and the client loses the responses before it, so that processed requests look
/// unprocessed to it. A lingering close therefore reads and drops what still arrives until the peer
/// closes its side too, for at most 2 s and 1 MiB.
///
/// [`serve`](crate::serve), [`serve_connection`](crate::serve_connection) and a
/// [`Connection`](crate::Connection) for `axum::serve` already do this; use it if you give the
/// stream to hyper yourself.
/// Upstream: report 7 in `docs/src/upstream.md`, which takes
/// <https://github.com/hyperium/hyper/issues/3078> up again.
#[derive(Debug)]
pub struct Lingering<IO> {
    io: IO,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Open,
    /// Our side is shut down; the peer's side is still open.
    HalfClosed {
        timeout: Pin<Box<Sleep>>,
        bytes: usize,
    },
    Closed,
}

const MAX_LINGER: Duration = Duration::from_secs(2);
const MAX_BYTES: usize = 1024 * 1024;

impl<IO> Lingering<IO> {
    /// Wraps `io`.
    pub fn new(io: IO) -> Self {
        Self {
            io,
            phase: Phase::Open,
        }
    }

    /// The stream itself, for example for [`serve_connection`](crate::serve_connection).
    pub fn into_inner(self) -> IO {
        self.io
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Lingering<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<IO> {
    forward_writes!(io);

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { io, phase } = &mut *self;
        loop {
            match phase {
                Phase::Open => {
                    ready!(Pin::new(&mut *io).poll_shutdown(cx))?;
                    *phase = Phase::HalfClosed {
                        timeout: Box::pin(sleep(MAX_LINGER)),
                        bytes: 0,
                    };
                }
                Phase::HalfClosed { timeout, bytes } => {
                    let mut scratch = [0; 4096];
                    let mut scratch = ReadBuf::new(&mut scratch);
                    match Pin::new(&mut *io).poll_read(cx, &mut scratch) {
                        Poll::Ready(Ok(()))
                            if !scratch.filled().is_empty() && *bytes < MAX_BYTES =>
                        {
                            *bytes += scratch.filled().len();
                        }
                        Poll::Ready(_) => *phase = Phase::Closed,
                        Poll::Pending => {
                            ready!(timeout.as_mut().poll(cx));
                            *phase = Phase::Closed;
                        }
                    }
                }
                Phase::Closed => return Poll::Ready(Ok(())),
            }
        }
    }
}

#[cfg(test)]
mod tests;
