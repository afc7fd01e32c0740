//! Where hyper's h1 sender is while its request waits for the response.
//!
//! hyper's queue may swallow a request that is sent just as the connection ends: it gives the
//! request back only when the last sender is dropped. If the waiting request held the sender
//! itself, it would wait for ever:
//!
//! Upstream: <https://github.com/hyperium/hyper/issues/4122>, and the queue's own
//! <https://github.com/tokio-rs/tokio/issues/7714>.
//!
//! ```text
//! request   sends, parks the sender, waits --------------------------------+-> given back unsent
//! hyper            closes its queue; the request lies in it      drops it -+
//! driver                            the connection is over: close() -> the last sender is dropped
//! ```
//!
//! So the connection holds the sender meanwhile, and drops it as soon as hyper has let go.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The place for one sender.
pub(crate) struct ParkedSender<T>(Mutex<Slot<T>>);

enum Slot<T> {
    Empty,
    Parked(T),
    /// The connection is over: a sender is of no more use.
    Closed,
}

impl<T> ParkedSender<T> {
    /// Keeps the sender until it is taken, or the connection is over.
    pub(crate) fn park(&self, sender: T) {
        let mut slot = self.lock();
        if !matches!(*slot, Slot::Closed) {
            *slot = Slot::Parked(sender);
        }
    }

    pub(crate) fn take(&self) -> Option<T> {
        let mut slot = self.lock();
        match std::mem::replace(&mut *slot, Slot::Empty) {
            Slot::Parked(sender) => Some(sender),
            Slot::Empty => None,
            Slot::Closed => {
                *slot = Slot::Closed;
                None
            }
        }
    }

    /// Drops the sender, and every one that is parked from now on.
    pub(crate) fn close(&self) {
        // Dropped when the lock is free: it wakes the request that waits.
        let parked = std::mem::replace(&mut *self.lock(), Slot::Closed);
        drop(parked);
    }

    fn lock(&self) -> MutexGuard<'_, Slot<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Default for ParkedSender<T> {
    fn default() -> Self {
        Self(Mutex::new(Slot::Empty))
    }
}

#[cfg(test)]
mod tests;
