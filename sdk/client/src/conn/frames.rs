//! Reads the frame headers of an HTTP/2 connection (RFC 9113 §4.1), for what hyper does not tell.
//!
//! - Incoming frames: did the peer send GOAWAY? A request that was never written comes back from
//!   hyper without the reason.
//! - Outgoing frames: have we acknowledged the peer's SETTINGS? Until then hyper reports a stream
//!   limit that it only assumes, in the same words as one that the peer has set. Which requests
//!   have become streams, and how much of their bodies has left? hyper reports neither.
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
//! nothing more and never ends its side gets [`READ_ON`].
//!
//! Upstream: no issue; report 3 in `docs/src/upstream.md`.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep};

use crate::conn::facts::HttpVersion;
use crate::conn::signals::{STREAMS_CHANGED, Signals};
use crate::conn::uploads::Uploads;

/// What hyper is told to assume of the peer's stream limit until its SETTINGS have come. Fewer
/// requests than this are given to a connection before: see [`WireState::streams`]. RFC 9113 §6.5.2
/// recommends that no peer allow fewer.
pub(crate) const ASSUMED_STREAMS: usize = 100;

/// What the frames of a connection have shown so far.
#[derive(Default)]
pub(crate) struct WireState {
    goaway: AtomicBool,
    /// The acknowledgement of the peer's SETTINGS was written; hyper has not yet told the new
    /// limit.
    ack_written: AtomicBool,
    /// hyper has.
    is_limit_known: AtomicBool,
    /// The pool knows it too, or it will never be known: no request waits for it.
    settings_acked: AtomicBool,
    changed: Notify,
    error: OnceLock<String>,
    streams: AtomicUsize,
    /// What the connection's driver is told.
    pub(crate) signals: Signals,
    is_peer_dead: AtomicBool,
    /// Requests that hyper has made streams of, which may wait for the peer's stream limit.
    taken: AtomicU32,
    /// The highest stream whose HEADERS were written.
    opened: AtomicU32,
    /// Nothing more is to be written.
    abandoned: AtomicBool,
    /// The requests that are not all written (h2).
    pub(crate) uploads: Uploads,
    is_blocked: AtomicBool,
    /// Since when the socket takes nothing.
    blocked_since: Mutex<Option<Instant>>,
    /// The driver has given the connection up because the socket took nothing.
    has_stalled: AtomicBool,
    /// No driver looks after the requests on their way any more.
    is_driverless: AtomicBool,
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
    /// Upstream: no issue; report 2 in `docs/src/upstream.md`.
    pub(crate) fn streams(&self) -> usize {
        if !self.is_limit_known.load(Ordering::Acquire) {
            return usize::MAX;
        }
        match self.streams.load(Ordering::Relaxed) {
            // RFC 9113 §5.1.2: not special, no stream may be opened.
            0 => 0,
            allowed => (allowed - 1).max(1),
        }
    }

    /// How many streams hyper says that the peer allows.
    pub(crate) fn allow_streams(&self, streams: usize) {
        let before = self.streams.swap(streams, Ordering::Relaxed);
        let is_first = self.ack_written.load(Ordering::Acquire)
            && !self.is_limit_known.swap(true, Ordering::AcqRel);
        if is_first || before != streams {
            self.signals.raise(STREAMS_CHANGED);
        }
    }

    /// hyper makes a stream of a request; its number (RFC 9113 §5.1.1).
    pub(crate) fn take_stream(&self) -> u32 {
        let before = self.taken.fetch_add(1, Ordering::Relaxed);
        before.saturating_mul(2).saturating_add(1)
    }

    /// Whether the stream's HEADERS were written.
    pub(crate) fn has_opened(&self, stream: u32) -> bool {
        stream <= self.opened.load(Ordering::Acquire)
    }

    /// Whether any stream was opened.
    pub(crate) fn has_opened_any(&self) -> bool {
        self.has_opened(1)
    }

    /// Since when the socket takes nothing of what is to be written (h1).
    pub(crate) fn blocked_since(&self) -> Option<Instant> {
        if !self.is_blocked.load(Ordering::Acquire) {
            return None;
        }
        *lock(&self.blocked_since)
    }

    /// The request on the connection has waited for the socket for too long (h1).
    pub(crate) fn stall(&self) {
        self.has_stalled.store(true, Ordering::Release);
    }

    pub(crate) fn has_stalled(&self) -> bool {
        self.has_stalled.load(Ordering::Acquire)
    }

    /// The driver has ended: requests that are still on their way keep their limits themselves.
    pub(crate) fn leave_uploads(&self) {
        self.is_driverless.store(true, Ordering::Release);
        self.uploads.tick();
    }

    pub(crate) fn is_driverless(&self) -> bool {
        self.is_driverless.load(Ordering::Acquire)
    }

    /// What was not written yet never will be.
    pub(crate) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
    }

    /// Notes a frame that was written.
    fn wrote_frame(&self, frame: &FrameHead) {
        let &FrameHead {
            kind,
            flags,
            stream,
            bytes,
        } = frame;
        if kind == HEADERS {
            self.opened.fetch_max(stream, Ordering::AcqRel);
        }
        let ends = flags & END_STREAM != 0;
        match kind {
            SETTINGS if flags & ACK != 0 => self.ack_written.store(true, Ordering::Release),
            HEADERS | DATA if ends => self.uploads.finish(stream),
            DATA => self.uploads.wrote(stream, bytes),
            RST_STREAM => self.uploads.finish(stream),
            _ => {}
        }
    }

    /// Waits until the peer's SETTINGS are in force and the pool knows them, or the connection is
    /// over.
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

    /// The pool knows [`streams`](Self::streams), if they are known.
    pub(crate) fn pool_informed(&self) {
        if self.is_limit_known.load(Ordering::Acquire) && !self.are_settings_acked() {
            self.stop_waiting();
        }
    }

    /// The pool knows the peer's limit, or the connection is over.
    pub(crate) fn stop_waiting(&self) {
        self.settings_acked.store(true, Ordering::Release);
        self.changed.notify_waiters();
    }

    pub(crate) fn are_settings_acked(&self) -> bool {
        self.settings_acked.load(Ordering::Acquire)
    }

    /// Whether the kernel has given the peer up (`conn::socket`).
    pub(crate) fn is_peer_dead(&self) -> bool {
        self.is_peer_dead.load(Ordering::Acquire)
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
    is_blocked: bool,
}

#[derive(Default)]
struct H2 {
    incoming: Frames,
    outgoing: Frames,
    /// The peer accepts no more bytes; what it has sent is still to be read, until then.
    write_failed: Option<Pin<Box<Sleep>>>,
}

/// How long the rest of what the peer has sent may take after a failed write. On a socket that is
/// closed it comes at once; something between us and the peer may keep the other direction open.
const READ_ON: Duration = Duration::from_secs(5);

impl<IO> FrameObserver<IO> {
    pub(crate) fn new(io: IO, http: HttpVersion, wire: Arc<WireState>) -> Self {
        let h2 = || H2 {
            outgoing: Frames::after_preface(),
            ..H2::default()
        };
        Self {
            io,
            h2: (http == HttpVersion::H2).then(h2),
            wire,
            is_blocked: false,
        }
    }

    fn note<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(e)) = &result {
            if e.kind() == io::ErrorKind::TimedOut {
                self.wire.is_peer_dead.store(true, Ordering::Release);
            }
            self.wire.error.get_or_init(|| e.to_string());
        }
        result
    }

    fn has_write_failed(&self) -> bool {
        self.h2.as_ref().is_some_and(|h2| h2.write_failed.is_some())
    }

    /// An end of the connection, if its writes have failed and what is left to read takes too
    /// long.
    fn poll_read_limit(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let limit = self.h2.as_mut().and_then(|h2| h2.write_failed.as_mut());
        match limit {
            Some(limit) => limit.as_mut().poll(cx).map(|()| {
                let why = self.wire.error().unwrap_or("a write failed");
                let message = format!("{why}, and {READ_ON:?} later the peer had not ended it");
                io::Error::new(io::ErrorKind::TimedOut, message)
            }),
            None => Poll::Pending,
        }
    }

    /// Reports a failed write of `bytes` bytes on h2 as one that succeeded.
    fn wrote(
        &mut self,
        cx: &mut Context<'_>,
        bytes: usize,
        result: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if !matches!(result, Poll::Ready(Err(_))) {
            return result;
        }
        match (self.note(result), &mut self.h2) {
            (Poll::Ready(Err(_)), Some(h2)) => {
                let mut limit = Box::pin(tokio::time::sleep(READ_ON));
                // The task that reads is this one: it is to be woken then.
                let _ = limit.as_mut().poll(cx);
                h2.write_failed = Some(limit);
                Poll::Ready(Ok(bytes))
            }
            (result, _) => result,
        }
    }

    #[cold]
    fn flush_failed(&mut self, cx: &mut Context<'_>, error: io::Error) -> Poll<io::Result<()>> {
        self.wrote(cx, 0, Poll::Ready(Err(error))).map_ok(|_| ())
    }

    /// Notes whether the socket takes anything.
    fn note_blocked(&mut self, is_blocked: bool) {
        if std::mem::replace(&mut self.is_blocked, is_blocked) != is_blocked {
            *lock(&self.wire.blocked_since) = is_blocked.then(Instant::now);
            self.wire.is_blocked.store(is_blocked, Ordering::Release);
        }
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

/// What a frame's header says.
struct FrameHead {
    kind: u8,
    flags: u8,
    stream: u32,
    /// Of payload.
    bytes: u64,
}

const HEADER_BYTES: usize = 9;
const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const GOAWAY: u8 = 0x7;
const ACK: u8 = 0x1;
const END_STREAM: u8 = 0x1;
const STREAM_MASK: u32 = 0x7fff_ffff;
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

    /// Reads the next bytes, and calls `ended` with the header of each frame that ends in them.
    fn take(&mut self, mut bytes: &[u8], mut ended: impl FnMut(FrameHead)) {
        while !bytes.is_empty() {
            if self.have < HEADER_BYTES {
                let taken = (HEADER_BYTES - self.have).min(bytes.len());
                self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
                self.have += taken;
                bytes = &bytes[taken..];
                self.payload = self.payload_bytes();
            }
            let skipped = self.payload.min(bytes.len());
            if self.have == HEADER_BYTES {
                self.payload -= skipped;
                bytes = &bytes[skipped..];
                if self.payload == 0 {
                    ended(self.frame_head());
                    self.have = 0;
                }
            }
        }
    }

    fn payload_bytes(&self) -> usize {
        let [a, b, c, ..] = self.head;
        usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)
    }

    fn frame_head(&self) -> FrameHead {
        let [.., kind, flags, a, b, c, d] = self.head;
        FrameHead {
            kind,
            flags,
            stream: u32::from_be_bytes([a, b, c, d]) & STREAM_MASK,
            bytes: self.payload_bytes() as u64,
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
            return self.poll_read_limit(cx).map(Err);
        }
        let read = &buf.filled()[before..];
        let Self { h2, wire, .. } = &mut *self;
        if let Some(h2) = h2 {
            h2.incoming.take(read, |frame| {
                if frame.kind == GOAWAY {
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
        match Pin::new(&mut self.io).poll_flush(cx) {
            Poll::Ready(Err(e)) => self.flush_failed(cx, e),
            result => result,
        }
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
        if self.has_write_failed() || self.wire.abandoned.load(Ordering::Acquire) {
            return Poll::Ready(Ok(bytes));
        }
        let result = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        let result = self.wrote(cx, bytes, result);
        self.note_blocked(result.is_pending());
        let written = ready!(result)?;
        let has_write_failed = self.has_write_failed();
        let Self { h2, wire, .. } = &mut *self;
        if let Some(h2) = h2.as_mut().filter(|_| !has_write_failed) {
            let mut left = written;
            for buf in bufs {
                let taken = left.min(buf.len());
                left -= taken;
                let wrote = |frame| wire.wrote_frame(&frame);
                h2.outgoing.take(&buf[..taken], wrote);
            }
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
