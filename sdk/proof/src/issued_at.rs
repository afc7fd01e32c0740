//! How old and how far ahead of the clock a proof's `iat` may be.

use std::time::Duration;

/// How far `iat` may lie from the time it is compared with (RS-8). Whole seconds count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Windows {
    /// Back from now with per-request claims, back from the handshake without. 300 s by default.
    pub past: Duration,
    /// Ahead of now. 60 s by default.
    pub future: Duration,
}

impl Default for Windows {
    fn default() -> Self {
        Self {
            past: Duration::from_secs(300),
            future: Duration::from_secs(60),
        }
    }
}

impl Windows {
    /// Whether `iat` lies between `past` before `base` and `future` after `now`, all in seconds
    /// since 1970.
    pub(crate) fn contain(&self, iat: u64, base: u64, now: u64) -> bool {
        let oldest = base.saturating_sub(self.past.as_secs());
        let newest = now.saturating_add(self.future.as_secs());
        (oldest..=newest).contains(&iat)
    }
}
