//! Session-binding proofs on the client: one per (access token, connection), made after the
//! connection is chosen.
//!
//! - [`history`]: what an origin remembers of tokens, to tell why a proof was needed.
//! - [`connection`]: one connection's proofs.
//! - [`mint`]: making one proof.
//! - [`token_filter`]: which tokens a connection may have a proof of, without a lock.
//! - [`record`]: one proof, from its signing to its end.

mod connection;
mod history;
mod mint;
mod record;
#[cfg(test)]
mod tests;
mod token_filter;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::bind::per_origin::PerOrigin;
use crate::bind::{Bind, BindConnection};
use crate::conn::facts::ConnectionFacts;
use crate::observe::Observers;
use crate::origin::Origin;

use history::TokenHistory;

/// Whether requests carry a session-binding proof.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum BindingPolicy {
    /// As the token demands: `cnf.tls_exp` in a JWT, or an earlier `use_session_binding` for it, or
    /// for another token of its source where both are bound to a certificate (CL-5). A token that
    /// demands nothing goes as a plain bearer token and is counted so.
    #[default]
    Auto,
    /// No access token leaves without a proof.
    Require,
}

/// What a proof covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProofScope {
    /// One reusable proof per (token, connection) (PR-8).
    #[default]
    Connection,
    /// A proof for each request, with `htm`, `htu` and `jti` (PR-6).
    Request,
    /// The first request of each (token, connection) has a proof of its own, with `htm`, `htu` and
    /// `jti`; the later ones share one reusable proof. A connection that carries one request only
    /// costs one signature, as with `Request`, and is as hard to replay; one that lasts costs two.
    /// From the second request on it promises no more than `Connection`. See
    /// `docs/src/proof-scope.md`.
    Adaptive,
}

/// How proofs are made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SessionPolicy {
    pub(crate) binding: BindingPolicy,
    pub(crate) proof_scope: ProofScope,
    /// A reusable proof older than this is replaced.
    pub(crate) max_proof_age: Option<Duration>,
    /// How long the key may take.
    pub(crate) sign_timeout: Duration,
    /// Proofs kept per connection.
    pub(crate) proofs_per_connection: usize,
    /// Tokens remembered per origin.
    pub(crate) tokens_per_origin: usize,
}

/// The session-binding implementation of [`Bind`].
pub(crate) struct SessionBinding {
    policy: SessionPolicy,
    /// Origins with a scope of their own.
    scopes: HashMap<Origin, ProofScope>,
    observers: Observers,
    histories: PerOrigin<TokenHistory>,
}

impl SessionBinding {
    pub(crate) fn new(
        policy: SessionPolicy,
        scopes: HashMap<Origin, ProofScope>,
        observers: Observers,
    ) -> Self {
        Self {
            policy,
            scopes,
            observers,
            histories: PerOrigin::default(),
        }
    }
}

impl Bind for SessionBinding {
    fn open(&self, facts: &Arc<ConnectionFacts>) -> Arc<dyn BindConnection> {
        let make = || TokenHistory::new(self.policy.tokens_per_origin);
        let history = self.histories.get_or_insert_with(facts.origin(), make);
        let mut policy = self.policy;
        if let Some(scope) = self.scopes.get(facts.origin()) {
            policy.proof_scope = *scope;
        }
        Arc::new(connection::SessionConnection::new(
            policy,
            facts.clone(),
            history,
            self.observers.clone(),
        ))
    }
}
