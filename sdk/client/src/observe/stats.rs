//! Counts of everything, as a snapshot: totals and a row for each operation.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::hot_rows::{HotRow, HotRows};
use crate::conn::facts::ConnectionFacts;
use crate::observe::ahead::{Ahead, Learned};
use crate::observe::{
    BindingUsed, Cause, CloseReason, Event, Observer, Operation, Outcome, ProofKind,
};

/// Counts events.
#[derive(Default)]
pub(crate) struct Stats {
    /// What each request counts.
    hot: HotRows,
    /// All else, which is rare.
    rest: Mutex<Snapshot>,
}

/// What a client has counted: see [`Client::stats`](crate::Client::stats).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// All operations together.
    pub totals: Row,
    /// Each operation that occurred.
    pub operations: BTreeMap<Operation, Row>,
    /// Connections that completed their handshake.
    pub connections_opened: u64,
    /// Those of them whose TLS session was resumed.
    pub connections_resumed: u64,
    /// Connections that ended, by reason.
    pub connections_closed: BTreeMap<CloseReason, u64>,
    /// Time that TLS handshakes took, added up.
    pub handshake_time: Duration,
    /// Time that signing took, added up.
    pub mint_time: Duration,
    /// Connections opened ahead.
    pub ahead: Ahead,
    /// What was learned of how connections end, for each origin and certificate of which anything
    /// is known.
    pub learned: Vec<Learned>,
}

/// Counts of one operation, or of all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Row {
    /// Requests that were answered or failed.
    pub requests: u64,
    /// Those that were answered.
    pub answered: u64,
    /// Those that failed and were not processed.
    pub failed: u64,
    /// Those that failed and may have been processed (CL-7).
    pub may_have_been_processed: u64,
    /// Those that carried a proof.
    pub with_proof: u64,
    /// Those whose proof held `htm`, `htu` and `jti`.
    pub request_bound: u64,
    /// Proofs signed, by kind.
    pub minted: BTreeMap<ProofKind, u64>,
    /// Proofs signed, by cause.
    pub causes: BTreeMap<Cause, u64>,
    /// Proofs signed with [`Cause::Reconnect`], by why the last connection that carried the token's
    /// proof closed.
    pub after: BTreeMap<CloseReason, u64>,
    /// Requests that carried a proof signed for an earlier one.
    pub reused: u64,
    /// Refused proofs.
    pub refused: u64,
    /// Proofs that were signed and never written.
    pub abandoned: u64,
}

impl Row {
    /// Proofs signed.
    pub fn signatures(&self) -> u64 {
        self.minted.values().sum()
    }

    /// Signatures per request that carried a proof.
    pub fn signatures_per_request(&self) -> f64 {
        ratio(self.signatures(), self.with_proof)
    }

    /// (`ahead` + `parallel` + `reconnect`) ÷ requests that carried a proof: what the network made
    /// the client sign again. Proofs made ahead count: they only come earlier.
    pub fn reproof_ratio(&self) -> f64 {
        let count = |cause| self.causes.get(&cause).copied().unwrap_or(0);
        ratio(
            count(Cause::Ahead) + count(Cause::Parallel) + count(Cause::Reconnect),
            self.with_proof,
        )
    }

    /// Refused proofs ÷ requests that carried a proof.
    pub fn refused_ratio(&self) -> f64 {
        ratio(self.refused, self.with_proof)
    }

    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.answered += other.answered;
        self.failed += other.failed;
        self.may_have_been_processed += other.may_have_been_processed;
        self.with_proof += other.with_proof;
        self.request_bound += other.request_bound;
        self.reused += other.reused;
    }

    fn finish(&mut self, binding: BindingUsed, request_bound: bool, outcome: Outcome) {
        self.requests += 1;
        match outcome {
            Outcome::Answered => self.answered += 1,
            Outcome::Failed => self.failed += 1,
            Outcome::MayHaveBeenProcessed => self.may_have_been_processed += 1,
        }
        self.with_proof += u64::from(binding != BindingUsed::None);
        self.request_bound += u64::from(request_bound);
    }
}

/// Zero where nothing was asked.
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

impl Snapshot {
    /// Applies a count to the totals and to the operation's row.
    fn count(&mut self, operation: Operation, count: impl Fn(&mut Row)) {
        count(&mut self.totals);
        count(self.operations.entry(operation).or_default());
    }

    fn opened(&mut self, facts: &ConnectionFacts, handshake: Option<Duration>) {
        self.connections_opened += 1;
        self.connections_resumed += u64::from(facts.tls().is_some_and(|tls| tls.is_resumed()));
        self.handshake_time += handshake.unwrap_or_default();
    }
}

impl Stats {
    pub(crate) fn snapshot(&self) -> Snapshot {
        let mut snapshot = self.lock().clone();
        for (operation, row) in self.hot.rows() {
            snapshot.totals.add(&row);
            snapshot.operations.entry(operation).or_default().add(&row);
        }
        snapshot
    }

    fn lock(&self) -> MutexGuard<'_, Snapshot> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts what happens with each request, if it is that.
    fn count_hot(&self, event: &Event<'_>) -> bool {
        match *event {
            Event::ProofReused { operation, .. } => {
                let row = self.hot.row(operation);
                row.map(HotRow::reuse).is_some()
            }
            Event::RequestFinished {
                operation,
                binding,
                request_bound,
                outcome,
                ..
            } => {
                let row = self.hot.row(operation);
                row.map(|row| row.finish(binding, request_bound, outcome))
                    .is_some()
            }
            _ => false,
        }
    }
}

impl Observer for Stats {
    fn event(&self, event: &Event<'_>) {
        if self.count_hot(event) {
            return;
        }
        let mut stats = self.lock();
        match *event {
            Event::ConnectionOpened { facts, handshake } => stats.opened(facts, handshake),
            Event::ConnectionClosed { reason, .. } => {
                *stats.connections_closed.entry(reason).or_default() += 1
            }
            Event::ProofMinted {
                operation,
                kind,
                cause,
                after,
                took,
                ..
            } => {
                stats.mint_time += took;
                stats.count(operation, |row| {
                    *row.minted.entry(kind).or_default() += 1;
                    *row.causes.entry(cause).or_default() += 1;
                    if let Some(after) = after {
                        *row.after.entry(after).or_default() += 1;
                    }
                });
            }
            Event::ProofReused { operation, .. } => stats.count(operation, |row| row.reused += 1),
            Event::ProofRefused { operation, .. } => stats.count(operation, |row| row.refused += 1),
            Event::ProofAbandoned { operation, .. } => {
                stats.count(operation, |row| row.abandoned += 1)
            }
            Event::ProofRetired { .. } => {}
            Event::RequestFinished {
                operation,
                binding,
                request_bound,
                outcome,
                ..
            } => stats.count(operation, |row| row.finish(binding, request_bound, outcome)),
        }
    }
}
