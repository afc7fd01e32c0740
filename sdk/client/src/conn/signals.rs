//! What the task that drives a connection is told from outside.
//!
//! A connection's driver is polled several times for each request, and almost never has anything
//! been told to it. So asking must cost next to nothing: one load, where a `tokio::sync::Notify`
//! takes a lock each time.
//!
//! ```text
//! driver   places its waker (once)   loads `raised`: nothing          woken, takes `raised`
//! other                                                raises a bit, wakes
//! ```

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

/// Bits that others raise and one task takes.
#[derive(Default)]
pub(crate) struct Signals {
    raised: AtomicU8,
    /// Of the task that takes them. It stays here, so that it is placed once.
    waker: Mutex<Option<Waker>>,
}

/// [`Connection::streams`](super::live::Connection::streams) may have changed.
pub(crate) const STREAMS_CHANGED: u8 = 1;
/// No request will use the connection again.
pub(crate) const CLOSE: u8 = 2;

/// The taking side's memory of what it has placed.
#[derive(Default)]
pub(crate) struct Listener(Option<Waker>);

impl Signals {
    /// Raises a bit. One that is raised already stays.
    pub(crate) fn raise(&self, bit: u8) {
        self.raised.fetch_or(bit, Ordering::AcqRel);
        let waker = self.lock().clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes what was raised. One task asks, with one `listener`.
    pub(crate) fn poll(&self, listener: &mut Listener, cx: &mut Context<'_>) -> Poll<u8> {
        let waker = cx.waker();
        let is_placed = |placed: &Waker| placed.will_wake(waker);
        if !listener.0.as_ref().is_some_and(is_placed) {
            *self.lock() = Some(waker.clone());
            listener.0 = Some(waker.clone());
        }
        // After the waker was placed: whatever is raised later finds it.
        if self.raised.load(Ordering::Acquire) == 0 {
            return Poll::Pending;
        }
        Poll::Ready(self.raised.swap(0, Ordering::AcqRel))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Waker>> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
