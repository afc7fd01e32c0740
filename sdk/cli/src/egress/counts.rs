//! What an egress has counted.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use bowline::Snapshot;

#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Connections of agents to the listener.
    pub(crate) connections: Count,
    /// Those of them that another user opened.
    pub(crate) strangers: Count,
    /// `CONNECT`s to allowed origins.
    pub(crate) intercepted: Count,
    /// Tunnels to other hosts.
    pub(crate) tunnels: Count,
    /// Requests passed on to an origin.
    pub(crate) requests: Count,
    /// Requests that were refused.
    pub(crate) refused: Count,
}

#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// `--stats`: what the agent did, and what it cost.
pub(crate) struct Report<'a> {
    pub(crate) counts: &'a Counts,
    pub(crate) client: &'a Snapshot,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { counts, client } = self;
        write!(
            f,
            "{} agent connections in, {} requests; {} connections out, {} signatures",
            counts.connections.get(),
            counts.requests.get(),
            client.connections_opened,
            client.totals.signatures(),
        )?;
        let causes = client.totals.causes.iter();
        let causes: Vec<String> = causes
            .map(|(cause, count)| format!("{} {count}", cause.label()))
            .collect();
        if !causes.is_empty() {
            write!(f, " ({})", causes.join(", "))?;
        }
        write!(
            f,
            "; {} tunnels without a proof, {} requests refused",
            counts.tunnels.get(),
            counts.refused.get(),
        )
    }
}
