//! How long a failure is remembered before it is worth trying again.

use std::time::{Duration, SystemTime};

use bowline_client::Fault;

use crate::Error;

/// A pause that doubles with each failure in a row, up to a cap, without chance, so that a test can
/// tell when it ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    pub(crate) first: Duration,
    pub(crate) cap: Duration,
}

/// A server that says later (`Retry-After`) is not asked for this long at most.
pub(crate) const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

impl Backoff {
    /// The pause after so many failures in a row, the last of them this one. What somebody must
    /// change first is not asked again soon.
    fn pause(&self, failures: u32, error: &Error) -> Duration {
        let doubled = self
            .first
            .saturating_mul(1_u32.checked_shl(failures - 1).unwrap_or(u32::MAX));
        let pause = match error.fault() {
            Fault::Configuration | Fault::Caller => self.cap,
            _ => doubled.min(self.cap),
        };
        let wanted = error.retry_after().unwrap_or_default().min(MAX_RETRY_AFTER);
        pause.max(wanted)
    }
}

/// The last failure, while there was no success since.
pub(super) struct Failure {
    pub(super) error: Error,
    failures: u32,
    at: SystemTime,
    pause: Duration,
}

impl Failure {
    pub(super) fn after(
        before: Option<Self>,
        error: Error,
        now: SystemTime,
        backoff: &Backoff,
    ) -> Self {
        let failures = before.map_or(0, |before| before.failures).saturating_add(1);
        Self {
            pause: backoff.pause(failures, &error),
            error,
            failures,
            at: now,
        }
    }

    /// Whether nothing is tried yet. A clock that was set back ends the pause rather than prolong
    /// it.
    pub(super) fn is_recent(&self, now: SystemTime) -> bool {
        now.duration_since(self.at)
            .is_ok_and(|passed| passed < self.pause)
    }
}
