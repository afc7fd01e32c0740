//! Reads the frame headers of an HTTP/2 connection (RFC 9113 §4.1), for what hyper does not tell.
//!
//! - Incoming frames: did the peer send GOAWAY? A request that was never written comes back from
//!   hyper without the reason.
//! - Outgoing frames: have we acknowledged the peer's SETTINGS? Until then hyper reports a stream
//!   limit that it only assumes, in the same words as one that the peer has set.
//!
//! It also hides a failed write from hyper. A server that has answered everything that it accepted
//! may close its socket while requests above the last stream of its GOAWAY are still on their way:
//!
//! ```text
//! client                                   server
//!   | -- HEADERS stream 1, 3 ------------->  |
//!   |        <- response 1, GOAWAY last=1 -- |   close(socket)
//!   | -- HEADERS stream 5 -> RST             |
//!   write fails                              hyper would stop here, and never read the GOAWAY
//! ```
//!
//! hyper would report streams 3 and 5 as lost, although the GOAWAY that lies in the receive buffer
//! says that neither was processed. So after a failed write, what is written is dropped, hyper
//! reads on, finds the GOAWAY, and ends the connection when everything that came has been read.
//! That end comes at once, because the socket is closed. A peer, or a box on the way, that takes
//! nothing more and never ends its side gets [`AFTER_FAILED_WRITE`].
//!
//! Upstream: no issue; report 3 in `docs/src/upstream.md`.

use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::Sleep;

use crate::conn::facts::HttpVersion;

/// What hyper is told to assume of the peer's stream limit until its SETTINGS have come. Fewer
/// requests than this are given to a connection before: see [`WireState::streams`].
pub(crate) const ASSUMED_STREAMS: usize = 127;

/// What the frames of a connection have shown so far.
#[derive(Default)]
pub(crate) struct WireState {
    goaway: AtomicBool,
    /// The peer's SETTINGS are in force, or will never be: nobody waits for them.
    settings_acked: AtomicBool,
    /// The acknowledgement was written; hyper has not yet told the new limit.
    ack_written: AtomicBool,
    changed: Notify,
    error: OnceLock<String>,
    streams: AtomicUsize,
}

impl WireState {
    /// Whether the peer has sent GOAWAY.
    pub(crate) fn saw_goaway(&self) -> bool {
        self.goaway.load(Ordering::Acquire)
    }

    /// How many requests at a time may be given to the connection: one less than the streams that
    /// the peer allows (SETTINGS_MAX_CONCURRENT_STREAMS), if it allows more than one. The request
    /// that takes the last stream is held by hyper for a moment, and if GOAWAY comes in this
    /// moment, hyper drops it without saying whether it was sent. No limit applies until the peer's
    /// SETTINGS are in force.
    pub(crate) fn streams(&self) -> usize {
        if !self.are_settings_acked() {
            return usize::MAX;
        }
        let allowed = self.streams.load(Ordering::Relaxed);
        allowed.saturating_sub(1).max(1)
    }

    /// How many streams hyper says that the peer allows.
    pub(crate) fn allow_streams(&self, streams: usize) {
        self.streams.store(streams, Ordering::Relaxed);
        if self.ack_written.load(Ordering::Acquire) && !self.are_settings_acked() {
            self.stop_waiting();
        }
    }

    /// Waits until the peer's SETTINGS are in force, or the connection is over.
    pub(crate) async fn settings_acked(&self) {
        // The warm path: waiting for the notification takes a lock.
        if self.are_settings_acked() {
            return;
        }
        let mut changed = pin!(self.changed.notified());
        changed.as_mut().enable();
        if !self.are_settings_acked() {
            changed.await;
        }
    }

    /// The peer's SETTINGS are in force, or the connection is over.
    pub(crate) fn stop_waiting(&self) {
        self.settings_acked.store(true, Ordering::Release);
        self.changed.notify_waiters();
    }

    fn are_settings_acked(&self) -> bool {
        self.settings_acked.load(Ordering::Acquire)
    }

    /// The first error that the stream gave: a TLS alert, a reset.
    pub(crate) fn error(&self) -> Option<&str> {
        self.error.get().map(String::as_str)
    }
}

/// A connection's bytes, whose frame headers are read on the way.
pub(crate) struct FrameObserver<IO> {
    io: IO,
    /// `None` on h1.
    h2: Option<H2>,
    wire: Arc<WireState>,
}

#[derive(Default)]
struct H2 {
    incoming: Frames,
    /// `None` once there is nothing more to look for.
    outgoing: Option<Frames>,
    /// Set when the peer accepts no more bytes: until then what it has sent is still read.
    reads_until: Option<Pin<Box<Sleep>>>,
}

/// How long the peer's end is waited for after a failed write.
const AFTER_FAILED_WRITE: Duration = Duration::from_secs(10);

impl<IO> FrameObserver<IO> {
    pub(crate) fn new(io: IO, http: HttpVersion, wire: Arc<WireState>) -> Self {
        let h2 = || H2 {
            outgoing: Some(Frames::after_preface()),
            ..H2::default()
        };
        Self {
            io,
            h2: (http == HttpVersion::H2).then(h2),
            wire,
        }
    }

    fn note<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(e)) = &result {
            self.wire.error.get_or_init(|| e.to_string());
        }
        result
    }

    fn has_write_failed(&self) -> bool {
        let h2 = self.h2.as_ref();
        h2.is_some_and(|h2| h2.reads_until.is_some())
    }

    /// Fails when the peer's end was waited for long enough after a failed write.
    fn check_limit(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let limit = self.h2.as_mut().and_then(|h2| h2.reads_until.as_mut());
        if limit.is_some_and(|limit| limit.as_mut().poll(cx).is_ready()) {
            let message = format!(
                "the peer accepts no more bytes, and did not end the connection within \
                 {AFTER_FAILED_WRITE:?}"
            );
            return Err(io::Error::new(io::ErrorKind::TimedOut, message));
        }
        Ok(())
    }

    /// Reports a failed write of `bytes` bytes on h2 as one that succeeded.
    fn wrote(
        &mut self,
        cx: &mut Context<'_>,
        bytes: usize,
        result: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match (self.note(result), &mut self.h2) {
            (Poll::Ready(Err(_)), Some(h2)) => {
                // Polled here too: nothing else need wake this task again.
                let mut limit = Box::pin(tokio::time::sleep(AFTER_FAILED_WRITE));
                let _ = limit.as_mut().poll(cx);
                h2.reads_until = Some(limit);
                Poll::Ready(Ok(bytes))
            }
            (result, _) => result,
        }
    }

    fn flushed(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<()>>,
    ) -> Poll<io::Result<()>> {
        self.wrote(cx, 0, result.map_ok(|()| 0)).map_ok(|_| ())
    }
}

/// How far the current frame has come.
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

    /// Reads the next bytes, and calls `ended` with type and flags of each frame that ends in them.
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

impl<IO: AsyncRead + Unpin> AsyncRead for FrameObserver<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if self.note(read)?.is_pending() {
            self.check_limit(cx)?;
            return Poll::Pending;
        }
        let read = &buf.filled()[before..];
        let Self { h2, wire, .. } = &mut *self;
        if let Some(h2) = h2 {
            h2.incoming.take(read, |kind, _| {
                if kind == GOAWAY {
                    wire.goaway.store(true, Ordering::Release);
                }
            });
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for FrameObserver<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.has_write_failed() {
            return Poll::Ready(Ok(()));
        }
        let result = Pin::new(&mut self.io).poll_flush(cx);
        self.flushed(cx, result)
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
        if self.has_write_failed() {
            return Poll::Ready(Ok(bytes));
        }
        let result = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        let written = ready!(self.wrote(cx, bytes, result))?;
        let Self { h2, wire, .. } = &mut *self;
        if let Some(outgoing) = h2.as_mut().and_then(|h2| h2.outgoing.as_mut()) {
            let mut left = written;
            for buf in bufs {
                let taken = left.min(buf.len());
                left -= taken;
                outgoing.take(&buf[..taken], |kind, flags| {
                    if kind == SETTINGS && flags & ACK != 0 {
                        wire.ack_written.store(true, Ordering::Release);
                    }
                });
            }
            if wire.ack_written.load(Ordering::Relaxed) {
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
