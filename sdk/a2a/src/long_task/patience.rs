//! How long a task that cannot be followed is tried for.

use std::time::Duration;

/// `Retry-After` is honoured up to this.
const MAX_ASKED_FOR: Duration = Duration::from_secs(3600);

/// How often a [`LongTask`](super::LongTask) subscribes again, and how long it waits before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// How many tries in a row may bring nothing new until it gives up. With 0 the first break is
    /// the end. Default 10.
    ///
    /// A stream that was listened to for 30 s has brought something, if only that nothing happened:
    /// balancers end streams that are silent for long.
    pub tries: u32,
    /// The pause before the second of such tries; there is none before the first. It doubles from
    /// try to try, and a random half of it is left out, so that many clients do not come back at
    /// once. Once more streams in a row than `tries` allows have ended within a second, each is
    /// waited for so long, even if all brought news. Default 500 ms.
    pub first_pause: Duration,
    /// The longest of these pauses. Default 30 s. An agent's `Retry-After` is honoured beyond it,
    /// up to an hour.
    pub longest_pause: Duration,
    /// Takes a stream for broken if nothing came for so long: for connections that end without a
    /// word. The HTTP/2 connections of [`Client`](bowline_client::Client) notice that of
    /// themselves. Default none: a task need not say anything. The comments that some agents keep
    /// an event stream alive with do not count as something.
    pub silence: Option<Duration>,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            tries: 10,
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(30),
            silence: None,
        }
    }
}

impl Patience {
    /// The pause after so many `fruitless` tries. `random` is between 0 and 1.
    pub(super) fn pause(
        &self,
        fruitless: u32,
        retry_after: Option<Duration>,
        random: f64,
    ) -> Duration {
        let own = match fruitless.checked_sub(1) {
            None => Duration::ZERO,
            Some(doublings) => {
                let full = self.first_pause.saturating_mul(1 << doublings.min(30));
                let half = full.min(self.longest_pause) / 2;
                half + half.mul_f64(random.clamp(0.0, 1.0))
            }
        };
        own.max(retry_after.unwrap_or_default().min(MAX_ASKED_FOR))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(random: f64) -> [u128; 9] {
        std::array::from_fn(|n| {
            Patience::default()
                .pause(n as u32, None, random)
                .as_millis()
        })
    }

    #[test]
    fn the_first_try_waits_for_nothing_and_pauses_double_up_to_the_longest() {
        assert_eq!(
            pauses(1.0),
            [0, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]
        );
        assert_eq!(
            pauses(0.0),
            [0, 250, 500, 1000, 2000, 4000, 8000, 15_000, 15_000]
        );
        let endless = Patience {
            first_pause: Duration::MAX,
            longest_pause: Duration::MAX,
            ..Patience::default()
        };
        assert!(endless.pause(u32::MAX, None, 0.5) > MAX_ASKED_FOR);
    }

    #[test]
    fn retry_after_counts_from_the_first_try_and_for_an_hour_at_most() {
        let pause = |seconds| Patience::default().pause(0, Some(Duration::from_secs(seconds)), 1.0);
        assert_eq!(pause(7), Duration::from_secs(7));
        assert_eq!(pause(1_000_000), Duration::from_secs(3600));
        let shorter = Patience::default().pause(3, Some(Duration::from_secs(1)), 1.0);
        assert_eq!(shorter, Duration::from_secs(2));
    }
}
