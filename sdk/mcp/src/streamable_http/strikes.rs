//! Event streams that are not worth resuming, or not at once.
//!
//! rmcp's worker reopens a stream that ended in an error at once, and for as long as that takes;
//! one that ended properly it reopens when the server's `retry` is over. A server that sends what
//! cannot be read, or drops every stream, would keep it at that for ever.

use std::collections::VecDeque;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// As many unreadable streams from one place, and that place is out.
const UNREADABLE_OUT: u32 = 3;
/// As many streams that were dropped before anything came.
const EMPTY_OUT: u32 = 10;
/// Each short stream from one place makes the next one wait this much longer,
const PAUSE: Duration = Duration::from_millis(50);
/// and no longer than this.
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// A stream that lasts as long is no short one. Balancers end idle streams, after a minute or so.
pub(super) const SHORT: Duration = Duration::from_secs(5);
/// Places remembered; the one without a strike for longest goes first.
const MOST: usize = 256;

/// Counts streams that came to nothing by the place where they were (or would be) resumed. Clones
/// share the counts.
#[derive(Clone, Default)]
pub(super) struct Strikes(Arc<Inner>);

#[derive(Default)]
struct Inner {
    hasher: RandomState,
    records: Mutex<VecDeque<Record>>,
}

/// Where a stream goes on: a session and its last event, hashed, because both are of the server's
/// choice and length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(u64);

/// How a stream came to its end in less than [`SHORT`], or on account of what it brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strike {
    /// An event was too long: it would be the next time.
    TooLong,
    /// What was read from here made no sense.
    Unreadable,
    /// Nothing came.
    Empty,
    /// Something came, but nothing that moves the place.
    Short,
}

/// Whether to read from a place again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// After this time.
    After(Duration),
    /// It is hopeless.
    Out,
}

#[derive(Clone, Copy)]
struct Record {
    place: Place,
    unreadable: u32,
    /// In a row.
    empty: u32,
    /// All of them.
    strikes: u32,
}

impl Strikes {
    pub(super) fn place(&self, session_id: Option<&str>, last_event_id: Option<&str>) -> Place {
        Place(self.0.hasher.hash_one((session_id, last_event_id)))
    }

    pub(super) fn add(&self, place: Place, strike: Strike) {
        let mut records = self
            .0
            .records
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let known = records.iter().position(|record| record.place == place);
        let mut record = known.and_then(|at| records.remove(at)).unwrap_or(Record {
            place,
            unreadable: 0,
            empty: 0,
            strikes: 0,
        });
        record.strikes += 1;
        match strike {
            Strike::TooLong => record.unreadable = UNREADABLE_OUT,
            Strike::Unreadable => record.unreadable += 1,
            Strike::Empty => record.empty += 1,
            Strike::Short => record.empty = 0,
        }
        if records.len() == MOST {
            records.pop_front();
        }
        records.push_back(record);
    }

    pub(super) fn verdict(&self, place: Place) -> Verdict {
        let records = self
            .0
            .records
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match records.iter().find(|record| record.place == place) {
            Some(record) if record.unreadable >= UNREADABLE_OUT || record.empty >= EMPTY_OUT => {
                Verdict::Out
            }
            // The first time may happen to anybody.
            Some(record) => Verdict::After((PAUSE * (record.strikes - 1)).min(MAX_PAUSE)),
            None => Verdict::After(Duration::ZERO),
        }
    }

    /// A stream from here lasted.
    pub(super) fn forget(&self, place: Place) {
        let mut records = self
            .0
            .records
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        records.retain(|record| record.place != place);
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

    const AT_ONCE: Verdict = Verdict::After(Duration::ZERO);

    #[test]
    fn the_third_unreadable_stream_puts_a_place_out_and_no_other() {
        let strikes = Strikes::default();
        let place = strikes.place(Some("session"), Some("7"));
        for _ in 0..UNREADABLE_OUT {
            assert_ne!(strikes.verdict(place), Verdict::Out);
            strikes.clone().add(place, Strike::Unreadable);
        }
        assert_eq!(strikes.verdict(place), Verdict::Out);
        for other in [
            (Some("session"), Some("8")),
            (Some("session"), None),
            (None, Some("7")),
        ] {
            assert_eq!(
                strikes.verdict(strikes.place(other.0, other.1)),
                AT_ONCE,
                "{other:?}"
            );
        }
    }

    #[test]
    fn one_event_that_is_too_long_is_enough() {
        let strikes = Strikes::default();
        let place = strikes.place(Some("session"), Some("7"));
        strikes.add(place, Strike::TooLong);
        assert_eq!(strikes.verdict(place), Verdict::Out);
    }

    #[test]
    fn the_tenth_empty_stream_in_a_row_puts_a_place_out() {
        let strikes = Strikes::default();
        let place = strikes.place(Some("session"), None);
        for strike in [Strike::Empty, Strike::Short] {
            for _ in 1..EMPTY_OUT {
                strikes.add(place, strike);
            }
        }
        for _ in 0..EMPTY_OUT {
            assert_ne!(strikes.verdict(place), Verdict::Out);
            strikes.add(place, Strike::Empty);
        }
        assert_eq!(strikes.verdict(place), Verdict::Out);
        strikes.forget(place);
        assert_eq!(strikes.verdict(place), AT_ONCE);
    }

    #[test]
    fn short_streams_that_bring_something_are_resumed_for_ever_but_ever_more_slowly() {
        let strikes = Strikes::default();
        let place = strikes.place(None, Some("7"));
        let mut pause = Duration::ZERO;
        for strike in 0..1000 {
            let Verdict::After(next) = strikes.verdict(place) else {
                panic!("{strike}")
            };
            assert!(next >= pause && next <= MAX_PAUSE);
            pause = next;
            strikes.add(place, Strike::Short);
        }
        assert_eq!(pause, MAX_PAUSE);
    }

    #[test]
    fn places_are_bounded() {
        let strikes = Strikes::default();
        for event in 0..2 * MOST {
            strikes.add(strikes.place(None, Some(&event.to_string())), Strike::Short);
        }
        assert_eq!(strikes.0.records.lock().unwrap().len(), MOST);
    }
}
