//! The driver's timer for requests that are not all written: see [`uploads`](super::uploads).
//!
//! Most connections never need it: it is set when a request has not been written by the end of a
//! step of the driver, and is gone when all are.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep, sleep_until};

use crate::conn::frames::WireState;

/// The limits that requests have while they are written.
#[derive(Clone, Copy)]
pub(crate) struct SendLimits {
    /// How long the peer may take nothing of a body ([`Timeouts::request_body`]).
    ///
    /// [`Timeouts::request_body`]: crate::Timeouts
    pub(crate) body: Duration,
    /// How often requests look whether they have waited for too long.
    pub(crate) tick: Duration,
}

const MIN_TICK: Duration = Duration::from_millis(1);
const MAX_TICK: Duration = Duration::from_secs(15);

impl SendLimits {
    /// `head`: until the request's head is written.
    pub(crate) fn new(head: Duration, body: Duration) -> Self {
        Self {
            body,
            tick: (head.min(body) / 4).clamp(MIN_TICK, MAX_TICK),
        }
    }
}

/// The timer of one connection's driver.
#[derive(Default)]
pub(crate) struct StallTimer(Option<Pin<Box<Sleep>>>);

impl StallTimer {
    /// HTTP/2: wakes the requests that are not all written, from time to time.
    pub(crate) fn poll_h2(&mut self, wire: &WireState, limits: SendLimits, cx: &mut Context<'_>) {
        if wire.uploads.is_empty() {
            self.0 = None;
            return;
        }
        wire.uploads.stamp(|stream| wire.has_opened(stream));
        let timer = self.0.get_or_insert_with(|| Box::pin(sleep(limits.tick)));
        while timer.as_mut().poll(cx).is_ready() {
            wire.uploads.tick();
            timer.as_mut().reset(Instant::now() + limits.tick);
        }
    }

    /// HTTP/1.1: ready when the socket has taken nothing for too long.
    pub(crate) fn poll_h1(
        &mut self,
        wire: &WireState,
        limits: SendLimits,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let Some(since) = wire.blocked_since() else {
            self.0 = None;
            return Poll::Pending;
        };
        let due = since + limits.body;
        let timer = self.0.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if timer.deadline() != due {
            timer.as_mut().reset(due);
        }
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(())
    }
}
