//! One proof, from its signing to its end.

use std::sync::Arc;

use bowline_proof::dpop::{DPOP_HEADER, Nonce, Proof};
use http::HeaderValue;

use crate::bind::use_count::Uses;
use crate::bind::{Attachment, Memo};
use crate::conn::facts::ConnectionId;
use crate::observe::{BindingUsed, Observers, Operation};

/// A signed proof, and what became of it: reported when its request lets it go.
pub(super) struct Record {
    proof: Proof,
    /// The nonce in it.
    pub(super) nonce: Option<Nonce>,
    uses: Uses,
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
            uses: Uses::new(operation, connection, observers),
        }
    }

    /// `authorization` is the token with the scheme `DPoP` (RFC 9449 §7.1).
    pub(super) fn attachment(self: Arc<Self>, authorization: Option<HeaderValue>) -> Attachment {
        Attachment {
            name: DPOP_HEADER,
            value: self.proof.header_value(),
            authorization,
            used: BindingUsed::Dpop,
            request_bound: true,
            memo: self,
        }
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
