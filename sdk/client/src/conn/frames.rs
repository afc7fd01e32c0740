//! Watches a connection's stream for what hyper does not tell, and lets an h2 peer finish what it
//! has to say.
//!
//! hyper ends a connection in the same way for GOAWAY and for a closed socket, gives requests that
//! never left back without saying why, and says of the peer's stream limit what it assumes and what
//! it knows in the same words. So frame headers are looked at (RFC 9113 §4.1): incoming ones for
//! GOAWAY, outgoing ones for the acknowledgement of the peer's SETTINGS.
//!
//! A server that has answered all that it took on may close its socket while requests above its
//! GOAWAY's last stream are still on their way to it. Then our next write fails, and hyper gives up
//! without reading the GOAWAY that is there to be read. So a failed write is not reported on h2:
//! what is written is dropped from then on, and the connection ends when everything that came has
//! been read. That end comes at once, for the socket is gone.

use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use crate::conn::facts::HttpVersion;

/// What hyper is told to assume of the peer's stream limit until its SETTINGS have come. Fewer
/// requests than this are given to a connection before: see [`Sight::streams`].
pub(crate) const ASSUMED_STREAMS: usize = 127;

/// What was seen on a stream.
#[derive(Default)]
pub(crate) struct Sight {
    goaway: AtomicBool,
    /// The peer's SETTINGS are in force, or will never be.
    settled: AtomicBool,
    /// Their acknowledgement was written.
    acknowledged: AtomicBool,
    told: Notify,
    error: OnceLock<String>,
    streams: AtomicUsize,
}

impl Sight {
    /// Whether the peer has sent GOAWAY.
    pub(crate) fn saw_goaway(&self) -> bool {
        self.goaway.load(Ordering::Acquire)
    }

    /// How many requests at a time may be given to the connection: one less than the streams that
    /// the peer allows (SETTINGS_MAX_CONCURRENT_STREAMS), if it allows more than one. The request
    /// that takes the last stream is held by hyper for a moment, and if GOAWAY comes in this
    /// moment, hyper drops it without saying whether it was sent. Until the peer's SETTINGS are in
    /// force nobody knows, and nobody need hold back.
    pub(crate) fn streams(&self) -> usize {
        match self.is_settled() {
            true => self
                .streams
                .load(Ordering::Relaxed)
                .saturating_sub(1)
                .max(1),
            false => usize::MAX,
        }
    }

    /// How many streams hyper says that the peer allows.
    pub(crate) fn allow_streams(&self, streams: usize) {
        self.streams.store(streams, Ordering::Relaxed);
        if self.acknowledged.load(Ordering::Acquire) && !self.is_settled() {
            self.settle();
        }
    }

    /// Waits until the peer's SETTINGS are in force, or the connection is over.
    pub(crate) async fn settled(&self) {
        // The warm way: to be told of it takes a lock.
        if self.is_settled() {
            return;
        }
        let mut told = pin!(self.told.notified());
        told.as_mut().enable();
        if !self.is_settled() {
            told.await;
        }
    }

    pub(crate) fn settle(&self) {
        self.settled.store(true, Ordering::Release);
        self.told.notify_waiters();
    }

    fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire)
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
    h2: Option<H2>,
    sight: Arc<Sight>,
}

#[derive(Default)]
struct H2 {
    incoming: Frames,
    /// `None` once there is nothing more to look for.
    outgoing: Option<Frames>,
    /// The peer takes no more; what it has sent is still to be read.
    deaf: bool,
}

impl<IO> Watched<IO> {
    pub(crate) fn new(io: IO, http: HttpVersion, sight: Arc<Sight>) -> Self {
        let h2 = || H2 {
            outgoing: Some(Frames::after_preface()),
            ..H2::default()
        };
        Self {
            io,
            h2: (http == HttpVersion::H2).then(h2),
            sight,
        }
    }

    fn note<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(e)) = &result {
            self.sight.error.get_or_init(|| e.to_string());
        }
        result
    }

    fn is_deaf(&self) -> bool {
        self.h2.as_ref().is_some_and(|h2| h2.deaf)
    }

    /// What becomes of a write of `bytes` bytes.
    fn wrote(&mut self, bytes: usize, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match (self.note(result), &mut self.h2) {
            (Poll::Ready(Err(_)), Some(h2)) => {
                h2.deaf = true;
                Poll::Ready(Ok(bytes))
            }
            (result, _) => result,
        }
    }

    fn flushed(&mut self, result: Poll<io::Result<()>>) -> Poll<io::Result<()>> {
        self.wrote(0, result.map_ok(|()| 0)).map_ok(|_| ())
    }
}

/// Where in the sequence of frames the stream is.
#[derive(Default)]
struct Frames {
    /// A frame's header.
    head: [u8; HEADER_BYTES],
    /// Bytes of `head` that have come.
    have: usize,
    /// Bytes of payload still to come.
    payload: usize,
}

const HEADER_BYTES: usize = 9;
const SETTINGS: u8 = 0x4;
const GOAWAY: u8 = 0x7;
const ACK: u8 = 0x1;
const PREFACE_BYTES: usize = 24;

impl Frames {
    /// What a client sends begins with a preface (RFC 9113 §3.4): to be skipped as if it were a
    /// payload.
    fn after_preface() -> Self {
        Self {
            have: HEADER_BYTES,
            payload: PREFACE_BYTES,
            ..Self::default()
        }
    }

    /// Takes the next bytes, and tells kind and flags of each frame that ends in them.
    fn take(&mut self, mut bytes: &[u8], mut ended: impl FnMut(u8, u8)) {
        while !bytes.is_empty() {
            if self.have < HEADER_BYTES {
                let taken = (HEADER_BYTES - self.have).min(bytes.len());
                self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
                self.have += taken;
                bytes = &bytes[taken..];
                let [a, b, c, ..] = self.head;
                self.payload = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            }
            let skipped = self.payload.min(bytes.len());
            if self.have == HEADER_BYTES {
                self.payload -= skipped;
                bytes = &bytes[skipped..];
                if self.payload == 0 {
                    let [.., kind, flags, _, _, _, _] = self.head;
                    ended(kind, flags);
                    self.have = 0;
                }
            }
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Watched<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        ready!(self.note(read))?;
        let read = &buf.filled()[before..];
        let Self { h2, sight, .. } = &mut *self;
        if let Some(h2) = h2 {
            h2.incoming.take(read, |kind, _| {
                if kind == GOAWAY {
                    sight.goaway.store(true, Ordering::Release);
                }
            });
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Watched<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_deaf() {
            return Poll::Ready(Ok(()));
        }
        let result = Pin::new(&mut self.io).poll_flush(cx);
        self.flushed(result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes = bufs.iter().map(|buf| buf.len()).sum();
        if self.is_deaf() {
            return Poll::Ready(Ok(bytes));
        }
        let result = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        let written = ready!(self.wrote(bytes, result))?;
        let Self { h2, sight, .. } = &mut *self;
        if let Some(outgoing) = h2.as_mut().and_then(|h2| h2.outgoing.as_mut()) {
            let mut left = written;
            for buf in bufs {
                let taken = left.min(buf.len());
                left -= taken;
                outgoing.take(&buf[..taken], |kind, flags| {
                    if kind == SETTINGS && flags & ACK != 0 {
                        sight.acknowledged.store(true, Ordering::Release);
                    }
                });
            }
            if sight.acknowledged.load(Ordering::Relaxed) {
                self.h2.as_mut().map(|h2| h2.outgoing.take());
            }
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests;
