//! Limits and spaces reconnection attempts.

use std::time::Duration;

use bowline_transport::backoff::{Backoff, Jitter};

/// The first pause, unless the server's `retry` says otherwise.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Maximum pause, whatever the server says.
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// A stream that lasted this long was useful, even if no request was answered on it.
const STEADY: Duration = Duration::from_secs(30);

/// Counts the event streams in a row that were of no use: no request was answered on them, and they
/// did not last.
#[derive(Debug)]
pub(super) struct Reconnects {
    max: u32,
    attempts: u32,
}

impl Reconnects {
    pub(super) fn new(max: u32) -> Self {
        Self { max, attempts: 0 }
    }

    /// The pause before the next attempt; `None` if the limit is reached. `retry` is the first
    /// pause that the server asked for.
    pub(super) fn next_pause(&mut self, retry: Option<Duration>) -> Option<Duration> {
        if self.attempts == self.max {
            return None;
        }
        self.attempts += 1;
        let backoff = Backoff {
            first: retry.unwrap_or(FIRST_PAUSE),
            max: MAX_PAUSE,
        };
        Some(backoff.delay(self.attempts, Jitter::None))
    }

    /// A request was answered.
    pub(super) fn reset(&mut self) {
        self.attempts = 0;
    }

    /// A stream has ended after this time.
    pub(super) fn stream_ended(&mut self, after: Duration) {
        if after >= STEADY {
            self.reset();
        }
    }

    pub(super) fn attempts(&self) -> u32 {
        self.attempts
    }
}

#[cfg(test)]
mod tests;
