//! Records every signature by token and connection, and checks that its cause is possible (CL-3).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use bowline_http_client::{
    BindingUsed, Cause, CloseReason, ConnectionId, Event, Observer, Operation, Outcome, ProofKind,
    Thumbprint,
};

/// Records the events of one client. An event names no token, so each token has its own operation
/// here.
#[derive(Clone, Default)]
pub(crate) struct SignatureAudit(Arc<Mutex<Records>>);

#[derive(Default)]
struct Records {
    certificates: HashMap<ConnectionId, Thumbprint>,
    closed: HashMap<ConnectionId, CloseReason>,
    pairs: BTreeMap<(Operation, ConnectionId), Pair>,
    with_claims: BTreeMap<Operation, u64>,
    requests: u64,
}

/// One token on one connection.
#[derive(Debug, Default)]
struct Pair {
    reusable: u64,
    for_one_request: u64,
    abandoned: u64,
    causes: Vec<(Cause, Option<CloseReason>)>,
}

impl Observer for SignatureAudit {
    fn event(&self, event: &Event<'_>) {
        let mut records = self.records();
        match *event {
            Event::ConnectionOpened { facts, .. } => {
                let identity = facts.identity().expect("the server asks for a certificate");
                records
                    .certificates
                    .insert(facts.id(), identity.thumbprint());
            }
            Event::ConnectionClosed { facts, reason, .. } => {
                let before = records.closed.insert(facts.id(), reason);
                assert_eq!(before, None, "a connection ends once");
            }
            Event::ProofMinted {
                operation,
                connection,
                kind,
                cause,
                after,
                ..
            } => {
                let pair = records.pairs.entry((operation, connection)).or_default();
                match kind {
                    ProofKind::Connection => pair.reusable += 1,
                    ProofKind::Request => pair.for_one_request += 1,
                    other => panic!("no {other:?} proof was asked for"),
                }
                pair.causes.push((cause, after));
            }
            Event::ProofAbandoned {
                operation,
                connection,
            } => {
                records
                    .pairs
                    .entry((operation, connection))
                    .or_default()
                    .abandoned += 1;
            }
            Event::RequestFinished {
                operation,
                binding,
                request_bound,
                outcome,
                ..
            } => {
                records.requests += 1;
                assert!(outcome != Outcome::Answered || binding == BindingUsed::Session);
                *records.with_claims.entry(operation).or_default() += u64::from(request_bound);
            }
            _ => {}
        }
    }
}

impl SignatureAudit {
    /// Checks the records after every request has ended, and returns the count of each cause.
    /// `sourced` says whether a token came from the one token source of the run.
    pub(crate) fn check(
        &self,
        requests: u64,
        sourced: impl Fn(Operation) -> bool,
    ) -> BTreeMap<Cause, usize> {
        let records = self.records();
        assert_eq!(records.requests, requests);
        let certificates: HashSet<_> = records.certificates.values().collect();
        let mut tokens: BTreeMap<Operation, Vec<(ConnectionId, &Pair)>> = BTreeMap::new();
        for ((token, connection), pair) in &records.pairs {
            pair.check();
            tokens.entry(*token).or_default().push((*connection, pair));
        }
        let mut counts = BTreeMap::new();
        let mut first_of_the_source = 0;
        for (token, pairs) in &tokens {
            let count = |cause| causes(pairs).filter(|(c, _)| *c == cause).count();
            let (first, successor, identity) = (
                count(Cause::First),
                count(Cause::Token),
                count(Cause::Identity),
            );
            if sourced(*token) {
                first_of_the_source += first;
                // At its first signature the token was new, or the source's last signature was made
                // with another certificate.
                assert!(first + successor <= 1, "{token:?}: new only once");
                assert!(first + successor + identity >= 1, "{token:?}: never new");
                assert!(identity == 0 || certificates.len() > 1);
            } else {
                assert_eq!(
                    (first, successor, identity),
                    (1, 0, 0),
                    "{token:?}: new once, and has no source"
                );
            }
            let connections = pairs
                .iter()
                .filter(|(_, pair)| !pair.causes.is_empty())
                .count();
            for (cause, after) in causes(pairs) {
                *counts.entry(cause).or_default() += 1;
                match cause {
                    Cause::Reconnect => {
                        let after = after.expect("a reconnect has a reason");
                        let reasons = pairs
                            .iter()
                            .filter_map(|(connection, _)| records.closed.get(connection));
                        assert!(
                            reasons.into_iter().any(|reason| *reason == after),
                            "{token:?}: no connection that held its proof closed as {after:?}"
                        );
                    }
                    Cause::Parallel => assert!(
                        connections > 1,
                        "{token:?}: parallel to no other connection"
                    ),
                    Cause::Challenge | Cause::Age => {
                        panic!("{token:?}: nothing was refused, no age was set")
                    }
                    _ => {}
                }
                assert!(after.is_none() || cause == Cause::Reconnect);
            }
        }
        assert!(first_of_the_source <= 1, "a source has one first token");
        counts
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        // A failed assertion in an observer must not be hidden by a poisoned lock.
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Pair {
    /// CL-3: one reusable proof, one request-bound proof for the first request, and one more for
    /// each that was abandoned.
    fn check(&self) {
        assert!(self.reusable <= 1 + self.abandoned, "{self:?}");
        assert!(
            self.for_one_request <= 1 + self.abandoned,
            "one request is the first: {self:?}"
        );
        let signed = self.reusable + self.for_one_request;
        assert_eq!(self.causes.len() as u64, signed);
        let proof_scope = self
            .causes
            .iter()
            .filter(|(cause, _)| *cause == Cause::Scope)
            .count() as u64;
        // The network causes the first signature on a connection, the proof scope any other.
        assert!(proof_scope < signed.max(1), "{self:?}");
        assert!(signed - proof_scope <= 1 + self.abandoned, "{self:?}");
    }
}

fn causes<'a>(
    pairs: &'a [(ConnectionId, &'a Pair)],
) -> impl Iterator<Item = (Cause, Option<CloseReason>)> + 'a {
    pairs
        .iter()
        .flat_map(|(_, pair)| pair.causes.iter().copied())
}
