//! The time of day, as a value that can be replaced.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;

/// The source of the current time: the system clock unless the caller provides another.
///
/// Every check that depends on the time of day (RS-1, RS-2, RS-8, ticket lifetimes) reads a
/// `Clock`; time-outs do not.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> UnixTime + Send + Sync>);

impl Clock {
    /// A clock that asks `now` each time it is read.
    pub fn from_fn(now: impl Fn() -> UnixTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The time of day.
    #[must_use]
    pub fn now(&self) -> UnixTime {
        (self.0)()
    }
}

impl Default for Clock {
    /// The system clock.
    fn default() -> Self {
        Self::from_fn(UnixTime::now)
    }
}

/// A [`Clock`] that never goes back: it then stays at the newest time that it has shown.
///
/// A used proof is forgotten once it is too old to be accepted. If the time of day were set back
/// after that, it would be accepted again (RS-9, RFC 9449 §11.1). Clones share the newest time.
#[derive(Clone, Debug, Default)]
pub(crate) struct ForwardClock {
    clock: Clock,
    newest: Arc<AtomicU64>,
}

impl ForwardClock {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            clock,
            newest: Arc::default(),
        }
    }

    /// The time of day, or the newest one if it has been set back.
    pub(crate) fn now(&self) -> UnixTime {
        let now = self.clock.now().as_secs();
        let newest = now.max(self.newest.fetch_max(now, Ordering::Relaxed));
        UnixTime::since_unix_epoch(Duration::from_secs(newest))
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({})", self.now().as_secs())
    }
}

/// rustls checks client certificates in the handshake by the same clock.
impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.now())
    }
}
