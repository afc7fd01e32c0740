//! How often, and after which pauses, a task is subscribed to again.

use std::time::Duration;

/// Maximum `Retry-After` that is honoured.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// How often a [`LongTask`](super::LongTask) subscribes again, and how long it waits before each
/// attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// How many attempts in a row may bring nothing new before it gives up. With 0 the first broken
    /// stream is the end. Default 10.
    ///
    /// An attempt whose stream lasted 30 s counts as successful even without news: load balancers
    /// end idle streams.
    pub max_attempts: u32,
    /// The pause before the second of such attempts; there is none before the first. It doubles
    /// with each attempt and is randomly shortened by up to a half, so that many clients do not
    /// return at the same time. Once more than `max_attempts` streams in a row have ended within a
    /// second, each is preceded by this pause, even if all brought news. Default 500 ms.
    pub first_pause: Duration,
    /// The maximum pause. Default 30 s. An agent's longer `Retry-After` is honoured up to an hour.
    pub max_pause: Duration,
    /// Treats a stream as broken if no event came for this long, to detect connections that died
    /// without a notice. The HTTP/2 connections of [`Client`](bowline_http_client::Client) detect that
    /// themselves. Default none, because a task may be silent for long. Comments, with which some
    /// agents keep an event stream alive, do not count as events.
    pub idle_timeout: Option<Duration>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 10,
            first_pause: Duration::from_millis(500),
            max_pause: Duration::from_secs(30),
            idle_timeout: None,
        }
    }
}

impl RetryPolicy {
    /// The pause after this many attempts in a row without news. `random` is between 0 and 1.
    pub(super) fn pause(
        &self,
        empty_attempts: u32,
        retry_after: Option<Duration>,
        random: f64,
    ) -> Duration {
        let own = match empty_attempts.checked_sub(1) {
            None => Duration::ZERO,
            Some(doublings) => {
                let full = self.first_pause.saturating_mul(1 << doublings.min(30));
                let half = full.min(self.max_pause) / 2;
                half + half.mul_f64(random.clamp(0.0, 1.0))
            }
        };
        own.max(retry_after.unwrap_or_default().min(MAX_RETRY_AFTER))
    }
}

#[cfg(test)]
mod tests;
