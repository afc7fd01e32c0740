//! How many requests carried a proof.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::conn::facts::ConnectionId;
use crate::observe::{Event, Observers, Operation};

/// Counts the requests that carry one proof. When the last holder drops it, it reports the proof as
/// retired, or as abandoned if no request carried it (CL-3).
pub(crate) struct UseCounter {
    requests: AtomicU64,
    operation: Operation,
    connection: ConnectionId,
    observers: Observers,
}

impl UseCounter {
    pub(super) fn new(
        operation: Operation,
        connection: ConnectionId,
        observers: Observers,
    ) -> Self {
        Self {
            requests: AtomicU64::new(0),
            operation,
            connection,
            observers,
        }
    }

    /// A request is about to be written with the proof.
    pub(super) fn add(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// That request was not written after all.
    pub(super) fn take_back(&self) {
        self.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for UseCounter {
    fn drop(&mut self) {
        let (operation, connection) = (self.operation, self.connection);
        match *self.requests.get_mut() {
            0 => self.observers.emit(&Event::ProofAbandoned {
                operation,
                connection,
            }),
            requests => self.observers.emit(&Event::ProofRetired {
                operation,
                requests,
            }),
        }
    }
}
