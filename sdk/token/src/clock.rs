//! The time of day, as a value that can be replaced.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

/// Where the current time comes from: the system clock, unless a caller gives another.
///
/// A `Clock` alone decides when a token is due, when it has expired, and when it is requested again
/// after a failure, so that a test can move through hours without waiting. It is the time of day,
/// and not a monotonic clock, because a monotonic clock may stand still while the machine sleeps,
/// and tokens expire all the same. Only time-outs use a monotonic clock (tokio's).
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl Clock {
    /// A clock that asks `now` each time it is read.
    pub fn from_fn(now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The time of day.
    pub fn now(&self) -> SystemTime {
        (self.0)()
    }
}

impl Default for Clock {
    /// The system clock.
    fn default() -> Self {
        Self::from_fn(SystemTime::now)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock").finish_non_exhaustive()
    }
}
