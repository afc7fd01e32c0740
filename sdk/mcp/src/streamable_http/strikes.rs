//! Event streams that are not worth resuming.
//!
//! rmcp's worker reopens a stream that ended in an error at once, and for as long as that takes. If the error lies in
//! what the server sends, an oversized event or octets that are no events, it would fetch the same again for ever.

use std::collections::VecDeque;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

/// As many unreadable streams from one place, and that place is out.
const OUT: usize = 3;
/// Strikes remembered; the oldest goes first.
const MOST: usize = 256;

/// Counts unreadable streams by the place where they were (or would be) resumed. Clones share the counts.
#[derive(Clone, Default)]
pub(super) struct Strikes(Arc<Inner>);

#[derive(Default)]
struct Inner {
    hasher: RandomState,
    strikes: Mutex<VecDeque<Place>>,
}

/// Where a stream goes on: a session and its last event, hashed, because both are of the server's choice and length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(u64);

impl Strikes {
    pub(super) fn place(&self, session_id: Option<&str>, last_event_id: Option<&str>) -> Place {
        Place(self.0.hasher.hash_one((session_id, last_event_id)))
    }

    /// What was read from here made no sense.
    pub(super) fn add(&self, place: Place) {
        let mut strikes = self.0.strikes.lock().unwrap_or_else(PoisonError::into_inner);
        if strikes.len() == MOST {
            strikes.pop_front();
        }
        strikes.push_back(place);
    }

    /// Whether reading from here again is hopeless.
    pub(super) fn are_out(&self, place: Place) -> bool {
        let strikes = self.0.strikes.lock().unwrap_or_else(PoisonError::into_inner);
        strikes.iter().filter(|strike| **strike == place).count() >= OUT
    }
}

impl fmt::Debug for Strikes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Strikes").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_strike_puts_a_place_out_and_no_other() {
        let strikes = Strikes::default();
        let place = strikes.place(Some("session"), Some("7"));
        for _ in 0..OUT {
            assert!(!strikes.are_out(place));
            strikes.clone().add(place);
        }
        assert!(strikes.are_out(place));
        for other in [(Some("session"), Some("8")), (Some("session"), None), (None, Some("7"))] {
            assert!(!strikes.are_out(strikes.place(other.0, other.1)), "{other:?}");
        }
    }

    #[test]
    fn strikes_are_bounded() {
        let strikes = Strikes::default();
        for event in 0..2 * MOST {
            strikes.add(strikes.place(None, Some(&event.to_string())));
        }
        assert_eq!(strikes.0.strikes.lock().unwrap().len(), MOST);
    }
}
