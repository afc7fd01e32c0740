//! What one origin remembers of access tokens: enough to tell why a proof was needed, and no more.
//!
//! Bounded, with random replacement. It holds keyed hashes: a memory dump does not tell
//! whether a given token was here, and a collision costs a wrong label at most.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bowline_proof::{Thumbprint, TokenHash};

use crate::bind::TokenSourceId;
use crate::cache::Cache;
use crate::observe::{Cause, CloseReason};

/// What is remembered for one origin.
pub(crate) struct TokenHistory {
    keys: RandomState,
    inner: Mutex<Inner>,
}

struct Inner {
    tokens: Cache<Key, Token>,
    sources: Cache<TokenSourceId, Source>,
}

#[derive(Default)]
struct Source {
    /// The certificate that its last proved token was bound to.
    certificate: Option<Thumbprint>,
    /// The server asked for a session binding of one of its certificate-bound tokens.
    challenged: bool,
}

type Key = u64;

#[derive(Default)]
struct Token {
    /// The server asked for a session binding although the token does not show that it needs one.
    challenged: bool,
    proved: bool,
    /// Live connections that hold a proof of it.
    holders: usize,
    /// Why the last of them closed.
    last_closed: Option<CloseReason>,
}

/// Why the first proof of a token on a connection was needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MintCause {
    pub(crate) cause: Cause,
    pub(crate) after: Option<CloseReason>,
}

impl TokenHistory {
    pub(crate) fn new(tokens: usize) -> Self {
        Self {
            keys: RandomState::new(),
            inner: Mutex::new(Inner {
                tokens: Cache::new(tokens),
                sources: Cache::new(tokens),
            }),
        }
    }

    /// Whether the server asked before for a session binding of this token, or of another token of
    /// `source`. The source is that of a certificate-bound token; see [`Self::challenged`].
    pub(crate) fn was_challenged(&self, token: &TokenHash, source: Option<TokenSourceId>) -> bool {
        let inner = self.lock();
        let token = inner.tokens.get(&self.key(token));
        let source = source.and_then(|source| inner.sources.get(&source));
        token.is_some_and(|token| token.challenged)
            || source.is_some_and(|source| source.challenged)
    }

    /// The server asks for a session binding of this token. If the token is certificate-bound, the
    /// demand is the server's policy and not the token's, so it counts for the token's source: the
    /// successors are proved from their first request on (CL-5).
    pub(crate) fn challenged(&self, token: &TokenHash, source: Option<TokenSourceId>) {
        let mut inner = self.lock();
        if let Some(source) = source {
            let (source, _) = inner.sources.get_or_insert_with(&source, Source::default);
            source.challenged = true;
        }
        let key = self.key(token);
        let (token, _) = inner.tokens.get_or_insert_with(&key, Token::default);
        token.challenged = true;
    }

    /// A connection is about to hold a first proof of this token: why is it needed?
    pub(crate) fn prove(
        &self,
        token: &TokenHash,
        source: Option<TokenSourceId>,
        certificate: Thumbprint,
    ) -> MintCause {
        let mut inner = self.lock();
        let before = source.and_then(|source| {
            let (source, _) = inner.sources.get_or_insert_with(&source, Source::default);
            source.certificate.replace(certificate)
        });
        let key = self.key(token);
        let (token, _) = inner.tokens.get_or_insert_with(&key, Token::default);
        let cause = match before {
            Some(last) if last != certificate => Cause::Identity,
            Some(_) if !token.proved => Cause::Token,
            _ if !token.proved => Cause::First,
            _ if token.holders > 0 => Cause::Parallel,
            _ => Cause::Reconnect,
        };
        token.proved = true;
        token.holders += 1;
        MintCause {
            cause,
            after: token.last_closed.filter(|_| cause == Cause::Reconnect),
        }
    }

    /// A connection that held a proof of this token closed.
    pub(crate) fn closed(&self, token: &TokenHash, reason: CloseReason) {
        if let Some(token) = self.lock().tokens.get_mut(&self.key(token)) {
            token.holders = token.holders.saturating_sub(1);
            token.last_closed = Some(reason);
        }
    }

    fn key(&self, token: &TokenHash) -> Key {
        self.keys.hash_one(token)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
