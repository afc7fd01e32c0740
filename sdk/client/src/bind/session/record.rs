//! One proof, from its signature to its last use.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bowline_proof::{PROOF_HEADER, Proof};

use crate::bind::Attachment;
use crate::bind::use_count::UseCounter;
use crate::conn::facts::ConnectionId;
use crate::observe::{BindingUsed, Observers, Operation, ProofKind};

/// A signed proof, and what became of it. When the last request that carries it drops it, its
/// [`UseCounter`] reports it.
pub(crate) struct IssuedProof {
    proof: Proof,
    pub(crate) kind: ProofKind,
    /// Which proof of its (token, connection) it is: a refusal of an older one says nothing of a
    /// newer one (CL-5).
    pub(crate) generation: u32,
    /// Made because the one before it was refused.
    pub(crate) is_replacement: bool,
    made: Instant,
    accepted: AtomicBool,
    uses: Arc<UseCounter>,
}

impl IssuedProof {
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
            uses: Arc::new(UseCounter::new(operation, connection, observers)),
        }
    }

    pub(crate) fn attachment(self: &Arc<Self>) -> Attachment {
        Attachment {
            request_bound: self.kind == ProofKind::Request,
            uses: Some(self.uses.clone()),
            ..Attachment::with_memo(
                PROOF_HEADER,
                self.proof.header_value(),
                BindingUsed::Session,
                self.clone(),
            )
        }
    }

    pub(crate) fn age(&self) -> Duration {
        self.made.elapsed()
    }

    /// The server accepted it.
    pub(crate) fn accept(&self) {
        self.accepted.store(true, Ordering::Release);
    }

    pub(crate) fn was_accepted(&self) -> bool {
        self.accepted.load(Ordering::Acquire)
    }
}
