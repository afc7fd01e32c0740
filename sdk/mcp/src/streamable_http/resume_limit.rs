//! Limits how often a failing event stream is resumed.
//!
//! rmcp's worker reopens a stream that ended in an error at once, and keeps doing so; a stream that
//! ended properly it reopens after the server's `retry`. A server that sends unreadable events, or
//! drops every stream, would keep it busy for ever. This limiter counts the failures per resume
//! point, delays the next attempt, and ends the attempts when the counts say that none will
//! succeed:
//!
//! ```text
//! resume point (session "s1", event "7"):  unreadable, unreadable, unreadable -> give up
//! resume point (session "s1", event "8"):  a count of its own: resumed at once
//! ```
//! Upstream: no issue; report 14 in `docs/src/upstream.md`.

use std::collections::VecDeque;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Maximum number of streams in a row that ended before an event came.
const MAX_EMPTY: u32 = 10;
/// Each failure but the first makes the next attempt wait this much longer.
const PAUSE: Duration = Duration::from_millis(50);
/// Maximum pause before an attempt.
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// A stream that lasted this long did not fail. Load balancers end idle streams, after a minute or
/// so.
pub(super) const SHORT: Duration = Duration::from_secs(5);
/// Maximum number of resume points remembered. The one whose last failure is oldest goes first.
const MAX_POINTS: usize = 256;

/// Counts failed streams by resume point. Clones share the counts.
#[derive(Clone, Default)]
pub(super) struct ResumeLimiter(Arc<Inner>);

#[derive(Default)]
struct Inner {
    hasher: RandomState,
    failures: Mutex<VecDeque<Failures>>,
}

/// Where a stream is resumed: a session and its last event, hashed, because the server chooses both
/// and their length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ResumePoint(u64);

/// How a stream failed: within [`SHORT`], or by what it brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StreamFailure {
    /// An event was too long, and would be again.
    TooLong,
    /// The stream ended before an event came.
    Empty,
    /// Events came, but none that moves the resume point.
    Short,
}

/// Whether to resume a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resume {
    /// After this pause.
    After(Duration),
    /// Not at all.
    GiveUp,
}

/// The failures of one resume point.
#[derive(Clone, Copy)]
struct Failures {
    point: ResumePoint,
    is_too_long: bool,
    /// In a row.
    empty: u32,
    total: u32,
}

impl ResumeLimiter {
    pub(super) fn point(
        &self,
        session_id: Option<&str>,
        last_event_id: Option<&str>,
    ) -> ResumePoint {
        ResumePoint(self.0.hasher.hash_one((session_id, last_event_id)))
    }

    pub(super) fn add(&self, point: ResumePoint, failure: StreamFailure) {
        let mut all = self.lock();
        let known = all.iter().position(|failures| failures.point == point);
        let mut failures = known.and_then(|at| all.remove(at)).unwrap_or(Failures {
            point,
            is_too_long: false,
            empty: 0,
            total: 0,
        });
        failures.total += 1;
        match failure {
            StreamFailure::TooLong => failures.is_too_long = true,
            StreamFailure::Empty => failures.empty += 1,
            StreamFailure::Short => failures.empty = 0,
        }
        if all.len() == MAX_POINTS {
            all.pop_front();
        }
        all.push_back(failures);
    }

    pub(super) fn check(&self, point: ResumePoint) -> Resume {
        match self.lock().iter().find(|failures| failures.point == point) {
            Some(f) if f.is_too_long || f.empty >= MAX_EMPTY => Resume::GiveUp,
            // A first failure is not delayed.
            Some(f) => Resume::After((PAUSE * (f.total - 1)).min(MAX_PAUSE)),
            None => Resume::After(Duration::ZERO),
        }
    }

    /// A stream from this point lasted: forget its failures.
    pub(super) fn reset(&self, point: ResumePoint) {
        self.lock().retain(|failures| failures.point != point);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Failures>> {
        let failures = self.0.failures.lock();
        failures.unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ResumeLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResumeLimiter").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
