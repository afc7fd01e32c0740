//! Watches a connection's stream for what hyper does not tell: an h2 GOAWAY frame, and the error that ended it.
//!
//! hyper ends a connection in the same way for GOAWAY and for a closed socket, and gives requests that never left back
//! without saying why. Only frame headers are looked at (RFC 9113 §4.1); nothing is kept or changed.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::connection::HttpVersion;

/// What hyper is told to assume of the peer's stream limit until it knows better: a number that nobody is likely to set,
/// because hyper tells the assumption and the knowledge with the same method.
pub(crate) const UNKNOWN_STREAMS: usize = 127;

/// What was seen on a stream.
#[derive(Default)]
pub(crate) struct Sight {
    goaway: AtomicBool,
    /// GOAWAY said that no request was or will be processed: its last stream id is 0 (RFC 9113 §6.8).
    nothing_processed: AtomicBool,
    error: OnceLock<String>,
    streams: AtomicUsize,
}

impl Sight {
    /// Whether the peer has sent GOAWAY.
    pub(crate) fn saw_goaway(&self) -> bool {
        self.goaway.load(Ordering::Acquire)
    }

    /// Whether the peer's GOAWAY said that it has processed, and will process, nothing.
    pub(crate) fn says_nothing_was_processed(&self) -> bool {
        self.nothing_processed.load(Ordering::Acquire)
    }

    /// How many streams the peer allows at a time (SETTINGS_MAX_CONCURRENT_STREAMS). Until its SETTINGS have come nobody
    /// knows; then hyper holds back what may be too much, and nobody else need. The same if it allows none for a while.
    pub(crate) fn streams(&self) -> usize {
        match self.streams.load(Ordering::Relaxed) {
            UNKNOWN_STREAMS => usize::MAX,
            streams => streams.max(1),
        }
    }

    pub(crate) fn allow_streams(&self, streams: usize) {
        self.streams.store(streams, Ordering::Relaxed);
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
    /// A frame's header, and of a GOAWAY frame its last stream id too.
    head: [u8; HEADER_OCTETS + ID_OCTETS],
    /// Octets of `head` that have come.
    have: usize,
    /// Octets of payload still to come.
    payload: usize,
}

const HEADER_OCTETS: usize = 9;
const ID_OCTETS: usize = 4;
const GOAWAY: u8 = 0x7;

impl Frames {
    /// Takes the next octets; the last stream id of the GOAWAY frame in them, if there was one (the last of several).
    fn goaway(&mut self, mut octets: &[u8]) -> Option<u32> {
        let mut found = None;
        while !octets.is_empty() {
            if self.have < self.wants() {
                let taken = (self.wants() - self.have).min(octets.len());
                self.head[self.have..self.have + taken].copy_from_slice(&octets[..taken]);
                self.have += taken;
                octets = &octets[taken..];
                if self.have == HEADER_OCTETS {
                    let [a, b, c, ..] = self.head;
                    self.payload = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                }
                if self.have > HEADER_OCTETS {
                    self.payload = self.payload.saturating_sub(taken);
                }
                if self.have == HEADER_OCTETS + ID_OCTETS {
                    let [.., a, b, c, d] = self.head;
                    found = Some(u32::from_be_bytes([a & 0x7f, b, c, d]));
                }
            } else {
                let skipped = self.payload.min(octets.len());
                self.payload -= skipped;
                octets = &octets[skipped..];
            }
            if self.have >= HEADER_OCTETS && self.have == self.wants() && self.payload == 0 {
                self.have = 0;
            }
        }
        found
    }

    /// How much of the head is of interest.
    fn wants(&self) -> usize {
        let is_goaway = self.have >= HEADER_OCTETS && self.head[3] == GOAWAY;
        match is_goaway {
            true => HEADER_OCTETS + ID_OCTETS.min(self.have - HEADER_OCTETS + self.payload),
            false => HEADER_OCTETS,
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Watched<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        ready!(self.note(read))?;
        let read = &buf.filled()[before..];
        if let Some(last_stream) = self.frames.as_mut().and_then(|frames| frames.goaway(read)) {
            self.sight.nothing_processed.store(last_stream == 0, Ordering::Release);
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
            let found = octets.chunks(cut).fold(None, |found, part| watcher.goaway(part).or(found));
            let mut goaways = frames.iter().filter(|(kind, payload)| *kind == GOAWAY && payload.len() >= ID_OCTETS);
            let expected = goaways.next_back().map(|(_, id)| u32::from_be_bytes([id[0] & 0x7f, id[1], id[2], id[3]]));
            prop_assert_eq!(found, expected);
        }
    }
}
