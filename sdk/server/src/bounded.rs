//! The stream of one connection: it keeps the connection's [`Activity`], and resets responses that
//! the peer does not take.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use crate::activity::Activity;
use crate::event::CloseReason;
use crate::limit::Limit;
use crate::limit_reports::LimitReports;
use crate::requests::{Requests, Stalled, StreamId, Streams, reset_frame};
use crate::{ConnectionFacts, Lingering};

/// See the module.
///
/// A response is *stalled* while a part of it is ready and the peer takes nothing: its receive
/// buffer is full (HTTP/1.1 and HTTP/2), or the window of the stream or of the connection is closed
/// (HTTP/2). A response that has nothing to say, such as a silent event stream, is not stalled.
///
/// hyper has no limit for this, and once a window is closed it asks the response body for nothing,
/// so no body can end it. A stalled stream of HTTP/2 is therefore reset here, as an intermediary
/// would do it: both the peer and hyper get a RST_STREAM from this stream.
pub(crate) struct Bounded<IO> {
    io: Lingering<IO>,
    facts: Arc<ConnectionFacts>,
    requests: Requests,
    activity: Arc<Activity>,
    limits: Arc<LimitReports>,
    /// What was last told to `activity`.
    told: (bool, usize),
    newest_request: Instant,
    stalled: Stall,
}

struct Stall {
    limit: Duration,
    /// Runs while the peer takes none of what has been written.
    writing: Option<Pin<Box<Sleep>>>,
    /// The last attempt to write found no room.
    was_full: bool,
    /// Runs while a window is closed and a frame is ready.
    window: Option<Pin<Box<Sleep>>>,
    /// For hyper.
    to_reader: Resets,
    /// For the peer.
    to_peer: Resets,
}

/// RST_STREAM frames that are still to be passed on.
#[derive(Default)]
struct Resets {
    bytes: Vec<u8>,
    passed: usize,
}

impl<IO> Bounded<IO> {
    pub(crate) fn new(
        io: IO,
        facts: Arc<ConnectionFacts>,
        activity: Arc<Activity>,
        limits: Arc<LimitReports>,
        stalled_response_timeout: Duration,
    ) -> Self {
        Self {
            io: Lingering::new(io),
            requests: Requests::new(),
            facts,
            activity,
            limits,
            told: (false, 0),
            newest_request: Instant::now(),
            stalled: Stall {
                limit: stalled_response_timeout,
                writing: None,
                was_full: false,
                window: None,
                to_reader: Resets::default(),
                to_peer: Resets::default(),
            },
        }
    }

    /// Tells what the last bytes have changed.
    fn tell(&mut self) {
        let now = (self.requests.begun(), self.requests.open());
        if now != self.told {
            if now.1 > self.told.1 {
                self.newest_request = Instant::now();
            }
            self.told = now;
            self.activity.update(now.0, now.1);
        }
    }

    /// Ends what has been stalled for too long.
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let open = self.requests.open();
        let Some(streams) = self.requests.streams() else {
            return Ok(());
        };
        loop {
            if !streams.is_waiting() {
                self.stalled.window = None;
                return Ok(());
            }
            // Before the question, so that no frame becomes ready in between.
            self.activity.frames().want(cx);
            let frames = self.activity.frames();
            let Some(ready) = frames.ready_since(open, self.newest_request) else {
                self.stalled.window = None;
                return Ok(());
            };
            let Some(deadline) = streams.stalls_at(ready, self.stalled.limit) else {
                return Ok(());
            };
            let timer = self
                .stalled
                .window
                .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
            if timer.deadline() != deadline {
                timer.as_mut().reset(deadline);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Ok(());
            }
            self.stalled.window = None;
            match streams.stalled(ready, self.stalled.limit, Instant::now()) {
                None => return Ok(()),
                Some(Stalled::Streams(stalled))
                    if streams.received_whole_frames() && streams.sent_whole_frames() =>
                {
                    for stream in stalled {
                        streams.reset(stream);
                        self.stalled.to_reader.add(stream);
                        self.stalled.to_peer.add(stream);
                        self.limits
                            .reached(Limit::StalledResponse, &self.facts.owner());
                    }
                }
                // A reset cannot be said in the middle of a frame, and it does not help if the
                // whole connection is stalled.
                Some(_) => {
                    return Err(stalled(&self.facts, &self.limits, self.stalled.limit));
                }
            }
        }
    }

    /// The outcome of writing, unless the peer has taken nothing for too long.
    fn unless_stalled<T>(
        &mut self,
        outcome: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            return outcome;
        }
        let timer = self
            .stalled
            .writing
            .get_or_insert_with(|| Box::pin(sleep(self.stalled.limit)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(stalled(&self.facts, &self.limits, self.stalled.limit)))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Bounded<IO> {
    /// Tells the peer which streams are reset, as soon as that can be said.
    fn poll_resets(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let resets = &mut self.stalled.to_peer;
        while let Some(rest) = resets.rest() {
            let between = |streams: &mut Streams| streams.sent_whole_frames();
            if resets.passed == 0 && !self.requests.streams().is_some_and(between) {
                break;
            }
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, rest))?;
            resets.pass(written);
        }
        Poll::Ready(Ok(()))
    }

    /// After some bytes of `written` were sent.
    fn note_sent<'a>(&mut self, sent: usize, written: impl Iterator<Item = &'a [u8]>) {
        if sent > 0 && self.stalled.was_full {
            self.stalled.was_full = false;
            self.stalled.writing = None;
        }
        let now = Instant::now();
        let mut left = sent;
        for part in written {
            let part = &part[..part.len().min(left)];
            left -= part.len();
            self.requests.sent(part, now);
        }
        self.tell();
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for Bounded<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_stalled(cx)?;
        // If there is no room now, the next write tries again.
        if let Poll::Ready(Err(error)) = self.poll_resets(cx) {
            return Poll::Ready(Err(error));
        }
        if let Some(rest) = self.stalled.to_reader.rest() {
            let passed = rest.len().min(buf.remaining());
            buf.put_slice(&rest[..passed]);
            self.stalled.to_reader.pass(passed);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        let received = &buf.filled()[before..];
        self.requests.received(received, Instant::now());
        self.tell();
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Bounded<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let mut outcome = this.poll_resets(cx).map_ok(|()| 0);
        if matches!(outcome, Poll::Ready(Ok(_))) {
            outcome = Pin::new(&mut this.io).poll_write_vectored(cx, bufs);
        }
        match outcome {
            Poll::Ready(Ok(sent)) => this.note_sent(sent, bufs.iter().map(|buf| &**buf)),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => this.stalled.was_full = true,
        }
        this.unless_stalled(outcome, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let mut outcome = this.poll_resets(cx);
        if matches!(outcome, Poll::Ready(Ok(()))) {
            outcome = Pin::new(&mut this.io).poll_flush(cx);
        }
        if matches!(outcome, Poll::Ready(Ok(()))) {
            this.stalled.writing = None;
            // What was written may have closed a window, and then hyper may not read again before
            // something else wakes it: the timer has to run from here.
            this.poll_stalled(cx)?;
            if this.stalled.to_reader.rest().is_some() {
                cx.waker().wake_by_ref();
            }
        }
        this.unless_stalled(outcome, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let outcome = Pin::new(&mut this.io).poll_shutdown(cx);
        this.unless_stalled(outcome, cx)
    }
}

impl Resets {
    fn add(&mut self, stream: StreamId) {
        self.bytes.extend(reset_frame(stream));
    }

    fn rest(&self) -> Option<&[u8]> {
        Some(&self.bytes[self.passed..]).filter(|rest| !rest.is_empty())
    }

    fn pass(&mut self, bytes: usize) {
        self.passed += bytes;
        if self.passed == self.bytes.len() {
            *self = Self::default();
        }
    }
}

/// Reports and names a connection that is stalled as a whole.
fn stalled(facts: &ConnectionFacts, limits: &LimitReports, limit: Duration) -> io::Error {
    facts.close_report.set_reason(CloseReason::Stalled);
    limits.reached(Limit::StalledResponse, &facts.owner());
    io::Error::new(
        io::ErrorKind::TimedOut,
        format!("the peer took nothing of a response for {limit:?} (stalled_response_timeout)"),
    )
}
