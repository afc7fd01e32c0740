//! What an egress has counted.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bowline::client::{Cause, Event, Observer};
use metrics::{Label, counter};

#[derive(Debug)]
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
    /// Connections to origins: the metrics have them as the client's.
    opened: AtomicU64,
    signatures: Mutex<BTreeMap<Cause, u64>>,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            connections: Count::of("bowline_egress_agent_connections_total"),
            strangers: Count::of("bowline_egress_strangers_total"),
            intercepted: Count::of("bowline_egress_intercepted_total"),
            tunnels: Count::of("bowline_egress_tunnels_total"),
            requests: Count::of("bowline_egress_passed_on_total"),
            refused: Count::of("bowline_egress_refused_total"),
            opened: AtomicU64::new(0),
            signatures: Mutex::default(),
        }
    }
}

impl Counts {
    /// Poisoning is ignored: the map is valid after each single change.
    fn signatures(&self) -> MutexGuard<'_, BTreeMap<Cause, u64>> {
        self.signatures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of all clients, also those that a reload has replaced.
impl Observer for Counts {
    fn event(&self, event: &Event<'_>) {
        match event {
            Event::ConnectionOpened { .. } => {
                self.opened.fetch_add(1, Ordering::Relaxed);
            }
            Event::ProofMinted { cause, .. } => {
                *self.signatures().entry(*cause).or_default() += 1;
            }
            _ => {}
        }
    }
}

/// A number that only grows, and its metric.
#[derive(Debug)]
pub(crate) struct Count {
    value: AtomicU64,
    metric: &'static str,
}

impl Count {
    fn of(metric: &'static str) -> Self {
        Self {
            value: AtomicU64::new(0),
            metric,
        }
    }

    pub(crate) fn add(&self) {
        self.add_with(Vec::new());
    }

    pub(crate) fn add_with(&self, labels: Vec<Label>) {
        self.value.fetch_add(1, Ordering::Relaxed);
        counter!(self.metric, labels).increment(1);
    }

    pub(crate) fn get(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }
}

/// What the agents did, and what it cost: `--stats`, and the last line of a service.
impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signatures = self.signatures();
        write!(
            f,
            "{} agent connections in, {} requests; {} connections out, {} signatures",
            self.connections.get(),
            self.requests.get(),
            self.opened.load(Ordering::Relaxed),
            signatures.values().sum::<u64>(),
        )?;
        let causes = signatures.iter();
        let causes: Vec<String> = causes
            .map(|(cause, count)| format!("{} {count}", cause.label()))
            .collect();
        if !causes.is_empty() {
            write!(f, " ({})", causes.join(", "))?;
        }
        write!(
            f,
            "; {} tunnels without a proof, {} requests refused",
            self.tunnels.get(),
            self.refused.get(),
        )
    }
}
