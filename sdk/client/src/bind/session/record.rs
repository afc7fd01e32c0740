//! One proof, from its signing to its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bowline_proof::{PROOF_HEADER, Proof};

use crate::bind::use_count::Uses;
use crate::bind::{Attachment, Memo};
use crate::conn::facts::ConnectionId;
use crate::observe::{BindingUsed, Observers, Operation, ProofKind};

/// A signed proof, and what became of it: reported when the last request that carries it lets it
/// go.
pub(crate) struct Record {
    proof: Proof,
    pub(crate) kind: ProofKind,
    /// Which proof of its (token, connection) it is: a refusal of an older one says nothing of a
    /// newer one (CL-5).
    pub(crate) generation: u32,
    /// Made because the one before it was refused.
    pub(crate) is_replacement: bool,
    made: Instant,
    accepted: AtomicBool,
    uses: Uses,
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
            uses: Uses::new(operation, connection, observers),
        }
    }

    pub(crate) fn attachment(self: &Arc<Self>) -> Attachment {
        Attachment {
            name: PROOF_HEADER,
            value: self.proof.header_value(),
            authorization: None,
            used: BindingUsed::Session,
            request_bound: self.kind == ProofKind::Request,
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
        self.uses.writing();
    }

    fn unsent(&self) {
        self.uses.unsent();
    }
}
