//! What the verifier saw, for those who count.

use bowline_proof::Check;
use bowline_proof::dpop::DpopCheck;

use crate::{BindingClass, ConnectionId};

/// The outcome of one request at a [`BindingLayer`](crate::BindingLayer).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerEvent {
    /// The request passed.
    Verified {
        /// The connection it came over.
        connection: ConnectionId,
        /// What its token is bound to.
        class: BindingClass,
        /// The proof had passed on this connection before, so that no signature was verified.
        cached: bool,
        /// The proof had `jti`, `htm` and `htu`.
        per_request_claims: bool,
    },
    /// The request was refused.
    Refused {
        /// The connection it came over.
        connection: ConnectionId,
        /// By which check.
        check: Check,
    },
    /// The request was refused by a check of DPoP.
    DpopRefused {
        /// The connection it came over.
        connection: ConnectionId,
        /// By which check.
        check: DpopCheck,
    },
    /// Whether the token is valid, or a DPoP proof was used before, could not be found out (503).
    Unavailable {
        /// The connection it came over.
        connection: ConnectionId,
    },
}

/// Receives the events of a [`BindingLayer`](crate::BindingLayer), on the task of the request: be quick. A closure is one.
pub trait VerifierObserver: Send + Sync + 'static {
    /// Takes note of one outcome.
    fn observe(&self, event: &ServerEvent);
}

impl<F: Fn(&ServerEvent) + Send + Sync + 'static> VerifierObserver for F {
    fn observe(&self, event: &ServerEvent) {
        self(event);
    }
}
