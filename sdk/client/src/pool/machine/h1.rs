//! How many connections requests on HTTP/1.1 are worth.
//!
//! Each takes one request at a time, so a request that waits could open one for itself. Where an
//! opening takes a third of a second and a request two milliseconds, all the requests that came in
//! the meantime would be served by the first connection before the others are there:
//!
//! ```text
//! the only connection ends, 200 requests a second, handshake 300 ms
//!   one each:   60 handshakes, 60 signatures           served from 300 ms on
//!   as here:    1 handshake, 1 signature for each token, served from 300 ms on; the last 120 ms later,
//!               and a second connection by rule 2, which has no proof until it is needed
//! ```
//!
//! Two rules, by how long the last requests had a connection on average, and how long another
//! connection takes until it serves: an opening and a proof. Until that is known each request opens
//! one.
//!
//! 1. Another one is opened if those that are coming would serve the waiting requests no sooner than
//!    it would serve itself.
//! 2. While none is being opened, requests wait together for no longer than another one takes; then
//!    it is opened. So a queue does not last, whatever rule 1 has expected.
//!
//! A connection is coming if it is being opened, or if its request has lasted no longer than
//! expected, and that is sooner over than another connection serves. What takes longer than expected,
//! such as an event stream, is not waited for.

use std::time::Duration;

use tokio::time::Instant;

use super::demand::Pace;
use super::key::KeyState;
use super::member::Member;
use crate::conn::facts::HttpVersion;

impl KeyState {
    fn pace(&self) -> Option<Pace> {
        let another = self.ahead.opening_takes()? + self.demand.proof;
        let request = self.demand.served.mean()?;
        (!another.is_zero()).then_some(Pace { request, another })
    }

    /// Counts how long the requests that wait now have waited. Called before their number changes, and
    /// after.
    pub(super) fn count_waiting(&mut self, now: Instant) {
        if let Some(since) = self.demand.counted {
            self.demand.waited = self.demand.waited_until(now, since, self.waiting.len());
        } else if self.waiting.is_empty() {
            return;
        }
        let is_counted = !self.waiting.is_empty() && self.pace().is_some();
        self.demand.counted = is_counted.then_some(now);
    }

    /// How many connections more the waiting requests are worth: no more than `most`, which gives each of
    /// them one.
    pub(super) fn lacks_h1(&self, now: Instant, most: usize) -> usize {
        let Some(pace) = self.pace() else {
            return most;
        };
        let opening = self.openings.iter().filter(|at| is_recent(**at, now, pace));
        let returning = self
            .members
            .iter()
            .filter(|m| m.is_open() && (m.returning || is_quick(m, now, pace)));
        let coming = opening.count() + returning.count();
        let lacks = pace.useful(self.waiting.len()).saturating_sub(coming);
        let has_waited = self.openings.is_empty() && self.waited(now) >= pace.another;
        lacks.max(usize::from(has_waited)).min(most)
    }

    fn waited(&self, now: Instant) -> Duration {
        match self.demand.counted {
            Some(since) => self.demand.waited_until(now, since, self.waiting.len()),
            None => self.demand.waited,
        }
    }

    /// When `lacks_h1` may have grown although nothing has happened; `None` if only an event can make
    /// it grow.
    pub(super) fn lacks_more_at(&self, now: Instant) -> Option<Instant> {
        let waiting = u32::try_from(self.waiting.len()).ok().filter(|n| *n > 0)?;
        let pace = self.pace()?;
        if self.speaks != Some(HttpVersion::H1) {
            return None;
        }
        let openings = self.openings.iter().map(|at| *at + pace.longest_opening());
        let busy = self.members.iter().filter(|m| m.busy > 0 && m.is_open());
        let busy = busy.map(|m| m.last_used + pace.longest_request());
        let left = pace.another.saturating_sub(self.waited(now)) / waiting;
        // Once they have waited for long enough, they wait for room.
        let is_counted = self.openings.is_empty() && !left.is_zero();
        let queue = is_counted.then(|| now + left + Duration::from_nanos(1));
        let times = openings.chain(busy).chain(queue);
        times.filter(|at| *at > now).min()
    }

    pub(super) fn longest_request(&self) -> Duration {
        self.pace().map_or(Duration::ZERO, Pace::longest_request)
    }

    /// Whether so many requests more can share one connection without waiting longer than another
    /// one would take to serve them.
    pub(super) fn can_share(&self, requests: usize) -> bool {
        self.pace().is_some_and(|pace| pace.useful(requests) == 1)
    }
}

fn is_recent(begun: Instant, now: Instant, pace: Pace) -> bool {
    now < begun + pace.longest_opening()
}

/// Whether the connection's request has lasted no longer than expected.
fn is_quick(member: &Member, now: Instant, pace: Pace) -> bool {
    member.busy > 0 && now < member.last_used + pace.longest_request()
}
