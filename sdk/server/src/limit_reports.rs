//! Reports of the limits on connections: each is counted, and logged the first time that it is
//! reached.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::event::report;
use crate::owner::Owner;
use crate::{Limit, ServerEvent, ServerObserver};

/// Reports the limits of one listener.
pub(crate) struct LimitReports {
    observer: Option<Arc<dyn ServerObserver>>,
    /// A bit for each limit that was logged.
    logged: AtomicU16,
}

impl LimitReports {
    pub(crate) fn new(observer: Option<Arc<dyn ServerObserver>>) -> Arc<Self> {
        Arc::new(Self {
            observer,
            logged: AtomicU16::new(0),
        })
    }

    /// Counts that a connection of `holder` has reached `limit`, and logs it the first time.
    pub(crate) fn reached(&self, limit: Limit, holder: &Owner) {
        let bit = 1 << limit as u16;
        if self.logged.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
            tracing::warn!(
                limit = limit.name(),
                %holder,
                "a limit on connections was reached; from now on it is only counted"
            );
        }
        let holder = holder.class();
        report(
            self.observer.as_deref(),
            &ServerEvent::LimitReached { limit, holder },
        );
    }
}

#[cfg(test)]
mod tests;
