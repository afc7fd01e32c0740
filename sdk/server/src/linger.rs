//! A close that loses nothing on the way.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// A stream that, once it was shut down, reads on for a moment before it says so.
///
/// A socket that is closed while bytes wait to be read sends a reset, and a reset may overtake
/// answers that the peer has not read yet (RFC 9112 §9.6). It happens at the most orderly of ends:
/// after GOAWAY, requests that were already on their way come in, are rightly ignored, and wait
/// there to be read. Then the answers before them are lost, and requests that were processed look
/// as if they had not been. So what still comes is read and dropped until the peer closes its side
/// too, for at most 2 s and 1 MiB.
///
/// [`serve`](crate::serve), [`serve_connection`](crate::serve_connection) and a
/// [`Connection`](crate::Connection) for `axum::serve` do this by themselves; it is here for those
/// who give hyper the stream themselves.
#[derive(Debug)]
pub struct Lingering<IO> {
    io: IO,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Open,
    /// Our side is shut down; the peer's is not.
    HalfClosed {
        timeout: Pin<Box<Sleep>>,
        bytes: usize,
    },
    Closed,
}

const MAX_LINGER: Duration = Duration::from_secs(2);
const MAX_BYTES: usize = 1024 * 1024;

impl<IO> Lingering<IO> {
    /// `io` with a lingering end.
    pub fn new(io: IO) -> Self {
        Self {
            io,
            phase: Phase::Open,
        }
    }

    /// The stream itself, for [`serve_connection`](crate::serve_connection) say.
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
        bufs: &[IoSlice<'_>],
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
