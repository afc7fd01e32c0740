//! When one key opens a connection ahead, and how many of them it may open.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::last::Last;

/// Openings ahead a minute, for each connection that is open, or was within that minute.
const A_MINUTE: usize = 10;
const MINUTE: Duration = Duration::from_secs(60);
/// However long handshake and signatures have taken: a hand may have had to touch a token.
const LONGEST_LEAD: Duration = Duration::from_secs(10);
/// How much longer than measured they may take.
const MARGIN: Duration = Duration::from_millis(10);
/// How many measurements count.
const MEASURED: usize = 8;

/// What a key may open ahead, and what it takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Ahead {
    /// The openings ahead of the last minute, each with how many connections were open then.
    openings: VecDeque<(Instant, usize)>,
    /// There were too many.
    stopped_until: Option<Instant>,
    /// How long openings have taken, ahead or not.
    openings_took: Last<MEASURED>,
    /// How long signing ahead has taken.
    proofs_took: Last<MEASURED>,
    /// How long it would have taken for the connection that ended last.
    proofs_would_take: Duration,
    lead: Duration,
}

/// Whether one more connection may be opened ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Allowed {
    Yes,
    No,
    /// No, and from now on not for a minute.
    Stops,
}

impl Ahead {
    pub(super) fn opened(&mut self, took: Duration) {
        self.openings_took.add(took);
        self.measure();
    }

    pub(super) fn proved(&mut self, took: Duration) {
        self.proofs_took.add(took);
        self.measure();
    }

    /// Had the connection that has ended been replaced, its successor's proofs would have taken so long.
    pub(super) fn proofs_would_take(&mut self, time: Duration) {
        self.proofs_would_take = time;
        self.measure();
    }

    /// How long an opening takes, if nothing is in its way.
    pub(super) fn opening_takes(&self) -> Option<Duration> {
        self.openings_took.shortest()
    }

    /// How long before an end its successor must be begun, to be ready in time.
    pub(super) fn lead(&self) -> Duration {
        self.lead
    }

    fn measure(&mut self) {
        let opening = self.openings_took.longest().unwrap_or_default();
        // A full handshake costs one signature at least, so it tells something about the key.
        let took = self.proofs_took.longest().unwrap_or(opening);
        // Where a connection was opened at once, requests have signed some of its proofs themselves.
        let proofs = took.max(self.proofs_would_take);
        self.lead = ((opening + proofs) * 3 / 2 + MARGIN).min(LONGEST_LEAD);
    }

    /// Asks for one more opening ahead, with so many connections open.
    pub(super) fn ask(&mut self, now: Instant, open: usize) -> Allowed {
        if self.stopped_until.is_some_and(|until| now < until) {
            return Allowed::No;
        }
        while self
            .openings
            .front()
            .is_some_and(|(at, _)| *at + MINUTE <= now)
        {
            self.openings.pop_front();
        }
        // Those that have ended within the minute count: their openings ahead do too.
        let lately = self.openings.iter().map(|(_, open)| *open);
        let most = lately.max().unwrap_or_default().max(open);
        if self.openings.len() >= A_MINUTE * most {
            self.stopped_until = Some(now + MINUTE);
            return Allowed::Stops;
        }
        self.openings.push_back((now, open));
        Allowed::Yes
    }
}
