//! The driver's timer for requests that are not all written: see [`uploads`](super::uploads).
//!
//! It costs a request nothing: see [`StallTimer::poll_h2`].

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

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
pub(crate) struct StallTimer(Option<Armed>);

struct Armed {
    sleep: Pin<Box<Sleep>>,
    /// The task that the timer wakes.
    waker: Waker,
}

impl StallTimer {
    /// HTTP/2: wakes the requests that are not all written, from time to time.
    ///
    /// A request is not all written at the end of one step of the driver, and is in the next: it
    /// needs a timer only in between. So the timer, once it is set, stays until its time has come.
    pub(crate) fn poll_h2(&mut self, wire: &WireState, limits: SendLimits, cx: &mut Context<'_>) {
        if wire.uploads.is_empty() && self.0.is_none() {
            return;
        }
        wire.uploads.stamp_moved();
        while self.poll_at(|| Instant::now() + limits.tick, cx).is_ready() {
            self.0 = None;
            if wire.uploads.is_empty() {
                return;
            }
            wire.uploads.stamp(|stream| wire.has_opened(stream));
            wire.uploads.tick();
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
            return Poll::Pending;
        };
        let due = since + limits.body;
        if self
            .0
            .as_ref()
            .is_some_and(|armed| armed.sleep.deadline() != due)
        {
            self.0 = None;
        }
        self.poll_at(|| due, cx)
    }

    /// Ready when the time has come. It is set if it is not, and looked at where that is needed:
    /// that costs next to nothing.
    fn poll_at(&mut self, due: impl FnOnce() -> Instant, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(armed) = &mut self.0
            && armed.waker.will_wake(cx.waker())
        {
            return match armed.sleep.is_elapsed() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            };
        }
        let sleep = self.0.take().map(|armed| armed.sleep);
        let mut sleep = sleep.unwrap_or_else(|| Box::pin(sleep_until(due())));
        let polled = sleep.as_mut().poll(cx);
        self.0 = Some(Armed {
            sleep,
            waker: cx.waker().clone(),
        });
        polled
    }
}

#[cfg(test)]
mod tests;
