//! What was opened ahead, and what was learned to know when.

use std::time::Duration;

use crate::origin::Origin;

/// Connections that were opened ahead, to take over from others: see `docs/src/pool.md`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ahead {
    /// Opened.
    pub opened: u64,
    /// Those of them that carried a request.
    pub used: u64,
    /// Those of them that ended without one.
    pub never_used: u64,
    /// Openings ahead that failed, which no request noticed.
    pub failed: u64,
    /// How often opening ahead stopped for a minute, because there were too many.
    pub stopped: u64,
    /// Connections opened because the idle ones had been idle for longer than they usually live.
    pub distrusted: u64,
}

/// How the connections to an origin end, as far as it was learned. It is about all callers of a
/// client: for the client's operator, not for its callers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Learned {
    /// The origin.
    pub origin: Origin,
    /// How old a connection in use becomes.
    pub age: Option<Duration>,
    /// How many requests a connection carries.
    pub requests: Option<u64>,
    /// How long an idle connection lives.
    pub idle: Option<Duration>,
    /// From how many ends it was learned.
    pub ends: usize,
}
