//! How long a server that drops its streams is borne with.

use std::time::Duration;

/// The first pause, unless the server says otherwise.
const FIRST: Duration = Duration::from_secs(1);
/// The longest one, whatever the server says.
const LONGEST: Duration = Duration::from_secs(60);
/// A stream that lasted this long has worked, even if nothing was asked on it.
const STEADY: Duration = Duration::from_secs(30);

/// Counts the streams that were opened for nothing.
#[derive(Debug)]
pub(super) struct Patience {
    most: u32,
    tried: u32,
}

impl Patience {
    pub(super) fn new(most: u32) -> Self {
        Self { most, tried: 0 }
    }

    /// The pause before the next try; `None` if there have been enough. `retry` is what the server
    /// asked for.
    pub(super) fn pause(&mut self, retry: Option<Duration>) -> Option<Duration> {
        if self.tried == self.most {
            return None;
        }
        let doubled = retry
            .unwrap_or(FIRST)
            .saturating_mul(1 << self.tried.min(16));
        self.tried += 1;
        Some(doubled.min(LONGEST))
    }

    /// A request was answered.
    pub(super) fn renew(&mut self) {
        self.tried = 0;
    }

    /// A stream has ended after this time.
    pub(super) fn ended_after(&mut self, time: Duration) {
        if time >= STEADY {
            self.renew();
        }
    }

    pub(super) fn tried(&self) -> u32 {
        self.tried
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(patience: &mut Patience, retry: Option<u64>) -> Vec<u128> {
        let retry = retry.map(Duration::from_millis);
        std::iter::from_fn(|| patience.pause(retry))
            .map(|pause| pause.as_millis())
            .collect()
    }

    #[test]
    fn pauses_double_up_to_a_minute_and_end() {
        assert_eq!(
            pauses(&mut Patience::new(8), None),
            [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]
        );
        assert_eq!(pauses(&mut Patience::new(3), Some(250)), [250, 500, 1000]);
        assert_eq!(
            pauses(&mut Patience::new(2), Some(u64::MAX)),
            [60_000, 60_000]
        );
        assert_eq!(pauses(&mut Patience::new(100), Some(0)), [0; 100]);
        assert!(pauses(&mut Patience::new(0), None).is_empty());
    }

    #[test]
    fn only_a_stream_that_was_good_for_something_makes_up_for_the_others() {
        let mut patience = Patience::new(2);
        pauses(&mut patience, None);
        patience.ended_after(STEADY - Duration::from_millis(1));
        assert!(pauses(&mut patience, None).is_empty());
        patience.ended_after(STEADY);
        assert_eq!(pauses(&mut patience, None).len(), 2);
        patience.renew();
        assert_eq!(pauses(&mut patience, None).len(), 2);
    }
}
