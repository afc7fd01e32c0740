//! One proof, from its signing to its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bowline_proof::{PROOF_HEADER, Proof};

use crate::bind::{Attachment, Memo};
use crate::connection::ConnectionId;
use crate::observe::{BindingUsed, Event, Observers, Operation, ProofKind};

/// A signed proof, and what became of it: reported when the last request that carries it lets it go.
pub(crate) struct Record {
    proof: Proof,
    pub(crate) kind: ProofKind,
    /// Which proof of its (token, connection) it is: a refusal of an older one says nothing of a newer one (CL-5).
    pub(crate) generation: u32,
    /// Made because the one before it was refused.
    pub(crate) is_replacement: bool,
    made: Instant,
    accepted: AtomicBool,
    requests: AtomicU64,
    operation: Operation,
    connection: ConnectionId,
    observers: Observers,
}

impl Record {
    pub(crate) fn new(
        proof: Proof,
        kind: ProofKind,
        generation: u32,
        is_replacement: bool,
        operation: Operation,
        connection: ConnectionId,
        observers: Observers,
    ) -> Self {
        Self {
            proof,
            kind,
            generation,
            is_replacement,
            made: Instant::now(),
            accepted: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            operation,
            connection,
            observers,
        }
    }

    pub(crate) fn attachment(self: &Arc<Self>) -> Attachment {
        Attachment {
            name: PROOF_HEADER,
            value: self.proof.header_value(),
            authorization: None,
            used: BindingUsed::Session,
            per_request: self.kind == ProofKind::Request,
            memo: self.clone(),
        }
    }

    pub(crate) fn age(&self) -> Duration {
        self.made.elapsed()
    }

    /// The server took it.
    pub(crate) fn accept(&self) {
        self.accepted.store(true, Ordering::Release);
    }

    pub(crate) fn was_accepted(&self) -> bool {
        self.accepted.load(Ordering::Acquire)
    }
}

impl Memo for Record {
    fn writing(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    fn unsent(&self) {
        self.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let (operation, connection) = (self.operation, self.connection);
        match *self.requests.get_mut() {
            0 => self.observers.emit(&Event::ProofAbandoned { operation, connection }),
            requests => self.observers.emit(&Event::ProofRetired { operation, requests }),
        }
    }
}
