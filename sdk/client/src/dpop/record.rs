//! One proof, from its signing to its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bowline_proof::dpop::{DPOP_HEADER, Nonce, Proof};
use http::HeaderValue;

use crate::bind::{Attachment, Memo};
use crate::connection::ConnectionId;
use crate::observe::{BindingUsed, Event, Observers, Operation};

/// A signed proof, and what became of it: reported when its request lets it go.
pub(super) struct Record {
    proof: Proof,
    /// The nonce in it.
    pub(super) nonce: Option<Nonce>,
    requests: AtomicU64,
    operation: Operation,
    connection: ConnectionId,
    observers: Observers,
}

impl Record {
    pub(super) fn new(
        proof: Proof,
        nonce: Option<Nonce>,
        operation: Operation,
        connection: ConnectionId,
        observers: Observers,
    ) -> Self {
        Self {
            proof,
            nonce,
            requests: AtomicU64::new(0),
            operation,
            connection,
            observers,
        }
    }

    /// `authorization` is the token with the scheme `DPoP` (RFC 9449 §7.1).
    pub(super) fn attachment(self: Arc<Self>, authorization: Option<HeaderValue>) -> Attachment {
        Attachment {
            name: DPOP_HEADER,
            value: self.proof.header_value(),
            authorization,
            used: BindingUsed::Dpop,
            per_request: true,
            memo: self,
        }
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
