//! Watches a connection's stream for what hyper does not tell: an h2 GOAWAY frame, and the error that ended it.
//!
//! hyper ends a connection in the same way for GOAWAY and for a closed socket, and gives requests that never left back
//! without saying why. Only frame headers are looked at (RFC 9113 §4.1); nothing is kept or changed.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::connection::HttpVersion;

/// What was seen on a stream.
#[derive(Default)]
pub(crate) struct Sight {
    goaway: AtomicBool,
    error: OnceLock<String>,
}

impl Sight {
    /// Whether the peer has sent GOAWAY.
    pub(crate) fn saw_goaway(&self) -> bool {
        self.goaway.load(Ordering::Acquire)
    }

    /// The first error that the stream gave: a TLS alert, a reset.
    pub(crate) fn error(&self) -> Option<&str> {
        self.error.get().map(String::as_str)
    }
}

/// A stream that is watched.
pub(crate) struct Watched<IO> {
    io: IO,
    /// `None` on h1.
    frames: Option<Frames>,
    sight: Arc<Sight>,
}

impl<IO> Watched<IO> {
    pub(crate) fn new(io: IO, http: HttpVersion, sight: Arc<Sight>) -> Self {
        Self {
            io,
            frames: (http == HttpVersion::H2).then(Frames::default),
            sight,
        }
    }

    fn note<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(e)) = &result {
            self.sight.error.get_or_init(|| e.to_string());
        }
        result
    }
}

/// Where in the sequence of frames the stream is.
#[derive(Default)]
struct Frames {
    header: [u8; HEADER_OCTETS],
    /// Octets of `header` that have come.
    have: usize,
    /// Octets of payload still to come.
    payload: usize,
}

const HEADER_OCTETS: usize = 9;
const GOAWAY: u8 = 0x7;

impl Frames {
    /// Takes the next octets and tells whether a GOAWAY frame began in them.
    fn contain_goaway(&mut self, mut octets: &[u8]) -> bool {
        let mut found = false;
        while !octets.is_empty() {
            let skipped = self.payload.min(octets.len());
            self.payload -= skipped;
            octets = &octets[skipped..];
            let taken = (HEADER_OCTETS - self.have).min(octets.len());
            if self.payload > 0 || taken == 0 {
                continue;
            }
            self.header[self.have..self.have + taken].copy_from_slice(&octets[..taken]);
            self.have += taken;
            octets = &octets[taken..];
            if self.have == HEADER_OCTETS {
                let [a, b, c, kind, ..] = self.header;
                found |= kind == GOAWAY;
                self.payload = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                self.have = 0;
            }
        }
        found
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Watched<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        ready!(self.note(read))?;
        let read = &buf.filled()[before..];
        if self.frames.as_mut().is_some_and(|frames| frames.contain_goaway(read)) {
            self.sight.goaway.store(true, Ordering::Release);
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Watched<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write(cx, buf);
        self.note(result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.io).poll_flush(cx);
        self.note(result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.note(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, 0, 0, 0, 0, 0]);
        frame.extend(payload);
        frame
    }

    proptest! {
        #[test]
        fn goaway_is_found_however_the_octets_are_cut(
            frames in prop::collection::vec((0u8..10, prop::collection::vec(any::<u8>(), 0..40)), 0..12),
            cut in 1usize..30,
        ) {
            let octets: Vec<u8> = frames.iter().flat_map(|(kind, payload)| frame(*kind, payload)).collect();
            let mut watcher = Frames::default();
            let found = octets.chunks(cut).fold(false, |found, part| watcher.contain_goaway(part) | found);
            prop_assert_eq!(found, frames.iter().any(|(kind, _)| *kind == GOAWAY));
        }
    }
}
