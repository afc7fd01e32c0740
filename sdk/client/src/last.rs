//! The last few of many measurements.

use std::collections::VecDeque;
use std::time::Duration;

/// The last `N` measurements.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Last<const N: usize>(VecDeque<Duration>);

impl<const N: usize> Last<N> {
    pub(crate) fn add(&mut self, took: Duration) {
        if self.0.len() == N {
            self.0.pop_front();
        }
        self.0.push_back(took);
    }

    pub(crate) fn longest(&self) -> Option<Duration> {
        self.0.iter().max().copied()
    }

    pub(crate) fn mean(&self) -> Option<Duration> {
        let number = u32::try_from(self.0.len()).ok().filter(|n| *n > 0)?;
        Some(self.0.iter().sum::<Duration>() / number)
    }

    pub(crate) fn shortest(&self) -> Option<Duration> {
        self.0.iter().min().copied()
    }
}
