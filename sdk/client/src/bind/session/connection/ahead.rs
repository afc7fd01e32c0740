//! Proofs made ahead: which tokens a successor connection needs them for, and making them there.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bowline_proof::AccessToken;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::super::ProofScope;
use super::super::mint::ProofRequest;
use super::{Inner, Reusable};
use crate::bind::{MOST_AHEAD, RequestFacts, TokenInUse, TokenSourceId, TokensInUse};
use crate::conn::identity::Identity;
use crate::observe::Operation;

/// The last request that carried a reusable proof, as far as a successor connection must know it.
pub(super) struct LastUse {
    /// `None`: no request yet.
    pub(super) at: Option<Instant>,
    source: Option<TokenSourceId>,
    operation: Operation,
    expires_at: Option<SystemTime>,
}

/// A token that expires within this time is not proved ahead.
const OUTLIVES: Duration = Duration::from_secs(10);

impl LastUse {
    pub(super) fn by(request: &RequestFacts<'_>, token: &AccessToken, at: Instant) -> Self {
        Self {
            at: Some(at),
            source: request.source,
            operation: request.operation,
            expires_at: token.expires_at(),
        }
    }
}

impl Inner {
    /// The tokens whose reusable proof was carried within this time, the last used first.
    pub(super) fn in_use(&self, within: Duration) -> TokensInUse {
        let (Ok(identity), ProofScope::Connection) = (self.identity(), self.policy.proof_scope)
        else {
            return TokensInUse::default();
        };
        let state = self.lock();
        let mut tokens: Vec<_> = state
            .entries
            .iter()
            .filter_map(|(token, entry)| {
                let used = entry.used.as_ref()?;
                let at = used.at.filter(|at| at.elapsed() <= within)?;
                let is_proved = matches!(entry.reusable, Reusable::Ready(_));
                let token = TokenInUse {
                    token: *token,
                    source: used.source,
                    operation: used.operation,
                    expires_at: used.expires_at,
                };
                is_proved.then_some((at, token))
            })
            .collect();
        drop(state);
        tokens.sort_by_key(|(at, _)| Reverse(*at));
        let tokens = tokens.into_iter().take(MOST_AHEAD);
        TokensInUse {
            certificate: Some(identity.thumbprint()),
            tokens: tokens.map(|(_, token)| token).collect(),
        }
    }

    pub(super) fn prove_ahead(
        self: &Arc<Self>,
        in_use: TokensInUse,
    ) -> Option<BoxFuture<'static, ()>> {
        let identity = self.identity().ok()?.clone();
        // CL-8. Under the other scopes a proof made ahead could be one that no request needs.
        let fits = in_use.certificate == Some(identity.thumbprint())
            && self.policy.proof_scope == ProofScope::Connection;
        if !fits || in_use.tokens.is_empty() {
            return None;
        }
        let inner = self.clone();
        let prove_all = async move {
            for token in in_use.tokens {
                inner.prove_one_ahead(&identity, token).await;
            }
        };
        Some(prove_all.boxed())
    }

    /// Signs the reusable proof of one token behind every request for the key, unless a request has
    /// begun that by itself.
    async fn prove_one_ahead(self: &Arc<Self>, identity: &Arc<Identity>, in_use: TokenInUse) {
        let turn = identity.signings().ahead().await;
        let pending = {
            let mut state = self.lock();
            let is_over = |at: SystemTime| at <= SystemTime::now() + OUTLIVES;
            if state.closed.is_some() || in_use.expires_at.is_some_and(is_over) {
                return;
            }
            let entry = self.entry(&mut state, &in_use.token);
            if !matches!(entry.reusable, Reusable::None) || entry.generation > 0 {
                return;
            }
            let pending = self.start(ProofRequest::ahead(&in_use, identity.clone()));
            entry.reusable = Reusable::Pending(pending.clone());
            entry.used = Some(LastUse {
                at: None,
                source: in_use.source,
                operation: in_use.operation,
                expires_at: in_use.expires_at,
            });
            pending
        };
        // A failure is no request's: one that needs the proof tries again.
        let _ = pending.await;
        drop(turn);
    }
}
