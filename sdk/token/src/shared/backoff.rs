//! Delays between attempts.

#[cfg(test)]
mod tests;

use std::time::Duration;

/// A delay that doubles with each failure in a row, up to a maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The delay after the first failure.
    pub first: Duration,
    /// The longest delay.
    pub max: Duration,
}

/// How much of a delay is left to chance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Jitter {
    /// Nothing, so that a caller can tell when the delay ends.
    None,
    /// Half of it, so that many clients do not come back at once. The number, between 0 and 1, says
    /// how much of that half is waited for.
    Half(f64),
}

impl Backoff {
    /// The delay after this many failures in a row. There is none after no failure.
    ///
    /// With `first` 1 s and `max` 60 s: 0 s, 1 s, 2 s, 4 s, ... 32 s, 60 s, 60 s.
    pub fn delay(&self, failures: u32, jitter: Jitter) -> Duration {
        let Some(doublings) = failures.checked_sub(1) else {
            return Duration::ZERO;
        };
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        let full = self.first.saturating_mul(factor).min(self.max);
        match jitter {
            Jitter::None => full,
            Jitter::Half(random) => full / 2 + (full / 2).mul_f64(random.clamp(0.0, 1.0)),
        }
    }
}
