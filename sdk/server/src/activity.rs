//! What a connection is doing: whether it has open requests, and for how long it has had none.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Of one connection. Its stream updates it; the task that serves the connection waits for it, and
/// the listener's quotas read it.
#[derive(Debug)]
pub(crate) struct Activity {
    requests: Mutex<Requests>,
    frames: Frames,
}

#[derive(Clone, Copy, Debug)]
struct Requests {
    /// A request has arrived.
    begun: bool,
    open: usize,
    /// When the last one was answered, or when the connection was opened.
    idle_since: Instant,
}

impl Activity {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            requests: Mutex::new(Requests {
                begun: false,
                open: 0,
                idle_since: Instant::now(),
            }),
            frames: Frames::new(),
        })
    }

    /// What the connection's stream has seen.
    pub(crate) fn update(&self, begun: bool, open: usize) {
        let mut requests = self.requests();
        if open == 0 && (requests.open > 0 || begun != requests.begun) {
            requests.idle_since = Instant::now();
        }
        requests.begun = begun;
        requests.open = open;
    }

    /// Since when there has been no open request, if there is none now.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        let requests = self.requests();
        (requests.open == 0).then_some(requests.idle_since)
    }

    /// Completes when no request has come for `first` since the connection was opened, or for
    /// `later` since the last one was answered. Returns whether none has ever come.
    ///
    /// No request wakes it, which would be felt by each. It looks when the limit can have passed at the
    /// earliest: where a request is open, or may come and be answered at once, that is `later` from
    /// now.
    pub(crate) async fn idle(&self, first: Duration, later: Duration) -> bool {
        loop {
            let now = Instant::now();
            let requests = *self.requests();
            let (is_idle, since) = (requests.open == 0, requests.idle_since);
            let over = since + if requests.begun { later } else { first };
            if is_idle && over <= now {
                return !requests.begun;
            }
            sleep_until(match (is_idle, requests.begun) {
                (true, true) => over,
                (true, false) => over.min(now + later),
                (false, _) => now + later,
            })
            .await;
        }
    }

    /// Poisoning is ignored, as in [`Frames`].
    fn requests(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The frames of response bodies, as the task that serves the connection knows them.
    pub(crate) fn frames(&self) -> &Frames {
        &self.frames
    }
}

/// Which response bodies have a frame ready that has not been sent.
#[derive(Debug)]
pub(crate) struct Frames {
    created: Instant,
    state: Mutex<FrameState>,
    /// The stream wants to know when a frame becomes ready.
    wanted: AtomicBool,
}

#[derive(Debug, Default)]
struct FrameState {
    /// The server tells. `axum::serve` does not.
    known: bool,
    /// Requests whose response body has not ended.
    bodies: usize,
    /// Bodies that have given a frame and were not asked for another one.
    ready: usize,
    /// Since when `ready` has not been 0.
    ready_since: Option<Instant>,
    /// When a body ended last.
    ended_at: Option<Instant>,
    waker: Option<Waker>,
}

impl Frames {
    fn new() -> Self {
        Self {
            created: Instant::now(),
            state: Mutex::default(),
            wanted: AtomicBool::new(false),
        }
    }

    pub(crate) fn body_begins(&self) {
        let mut state = self.state();
        state.known = true;
        state.bodies += 1;
    }

    pub(crate) fn body_ends(&self) {
        let mut state = self.state();
        state.bodies -= 1;
        state.ended_at = Some(Instant::now());
        self.wake(&mut state);
    }

    pub(crate) fn frame_ready(&self) {
        let mut state = self.state();
        state.ready += 1;
        state.ready_since.get_or_insert_with(Instant::now);
        self.wake(&mut state);
    }

    pub(crate) fn frame_taken(&self) {
        let mut state = self.state();
        state.ready -= 1;
        if state.ready == 0 {
            state.ready_since = None;
        }
    }

    /// Since when a frame has been ready, if `open` responses have not been sent completely, and
    /// the newest request came at `newest`. Where the server does not tell, a frame counts as
    /// always ready.
    pub(crate) fn ready_since(&self, open: usize, newest: Instant) -> Option<Instant> {
        let state = self.state();
        if !state.known {
            return Some(self.created);
        }
        // A body that has ended, and whose response has not been sent: the rest of it waits. Or a
        // request has just come, and its body is still to begin.
        let ended = state
            .ended_at
            .filter(|_| state.bodies < open)
            .map(|at| at.max(newest));
        match (state.ready_since, ended) {
            (Some(ready), Some(ended)) => Some(ready.min(ended)),
            (ready, ended) => ready.or(ended),
        }
    }

    /// From now on, wakes this task when a frame becomes ready.
    pub(crate) fn want(&self, cx: &Context<'_>) {
        self.state().waker = Some(cx.waker().clone());
        self.wanted.store(true, Ordering::Release);
    }

    fn wake(&self, state: &mut FrameState) {
        if self.wanted.swap(false, Ordering::AcqRel)
            && let Some(waker) = state.waker.take()
        {
            waker.wake();
        }
    }

    /// Poisoning is ignored: the state is valid after each single change.
    fn state(&self) -> MutexGuard<'_, FrameState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
