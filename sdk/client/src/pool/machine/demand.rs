//! What requests on HTTP/1.1 cost and what they wait for: the numbers that [`h1`](super::h1) decides by.

use std::time::Duration;

use tokio::time::Instant;

use crate::last::Last;

/// How many requests count.
const MEASURED: usize = 16;

/// What requests have cost the key's connections, and have waited for them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Demand {
    /// How long requests had their connection to themselves, from when they were written.
    pub(super) served: Last<MEASURED>,
    /// How long a proof takes; nothing before the first.
    pub(super) proof: Duration,
    /// How long requests have waited together, since a connection was opened last. That adds up over
    /// short queues too: where requests often wait a little, one more connection is worth its time.
    pub(super) waited: Duration,
    /// Until when that is counted; `None` if no request waits, or nothing is known to judge it by.
    pub(super) counted: Option<Instant>,
}

/// How long a request has its connection on average, and another connection takes.
#[derive(Clone, Copy)]
pub(super) struct Pace {
    pub(super) request: Duration,
    /// Until it serves: an opening and a proof.
    pub(super) another: Duration,
}

impl Pace {
    /// How long a request that is waited for may last.
    pub(super) fn longest_request(self) -> Duration {
        match self.request > self.another {
            true => Duration::ZERO,
            false => self.request.max(self.another / 4),
        }
    }

    /// How long an opening that is waited for may take: beyond this it may have lost a packet.
    pub(super) fn longest_opening(self) -> Duration {
        self.another * 2
    }

    /// How many connections serve so many requests before another one does.
    pub(super) fn useful(self, requests: usize) -> usize {
        let time = self.request.as_nanos() * requests as u128;
        let useful = time.div_ceil(self.another.as_nanos().max(1));
        usize::try_from(useful)
            .unwrap_or(usize::MAX)
            .clamp(1, requests.max(1))
    }
}

impl Demand {
    pub(super) fn served(&mut self, took: Duration) {
        self.served.add(took);
    }

    pub(super) fn proofs_take(&mut self, time: Duration) {
        self.proof = time;
    }

    /// A connection is being opened, or was.
    pub(super) fn opens(&mut self) {
        self.waited = Duration::ZERO;
    }

    pub(super) fn waited_until(&self, now: Instant, since: Instant, waiting: usize) -> Duration {
        let waiting = u32::try_from(waiting).unwrap_or(u32::MAX);
        let time = now.saturating_duration_since(since);
        self.waited.saturating_add(time.saturating_mul(waiting))
    }
}
