//! What one origin remembers of access tokens: enough to tell why a proof was needed, and no more.
//!
//! Bounded, least recently used out. It holds keyed hashes: nobody can test from a memory dump
//! whether a given token was here, and a collision costs a wrong label at most.

use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bowline_proof::{Thumbprint, TokenHash};
use lru::LruCache;

use crate::bind::TokenSourceId;
use crate::observe::{Cause, CloseReason};

/// What is remembered for one origin.
pub(crate) struct TokenHistory {
    keys: RandomState,
    inner: Mutex<Inner>,
}

struct Inner {
    tokens: LruCache<Key, Token>,
    sources: LruCache<TokenSourceId, Thumbprint>,
    /// Sources of which the server asked for a session binding of a certificate-bound token.
    challenged_sources: LruCache<TokenSourceId, ()>,
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
        let bound = NonZeroUsize::new(tokens).unwrap_or(NonZeroUsize::MIN);
        Self {
            keys: RandomState::new(),
            inner: Mutex::new(Inner {
                tokens: LruCache::sparse(bound),
                sources: LruCache::sparse(bound),
                challenged_sources: LruCache::sparse(bound),
            }),
        }
    }

    /// Whether the server asked for a session binding of this token before, or of another token
    /// that `source` gave. The caller names a source for certificate-bound tokens only (CL-5).
    pub(crate) fn was_challenged(&self, token: &TokenHash, source: Option<TokenSourceId>) -> bool {
        let inner = self.lock();
        let token = inner.tokens.peek(&self.key(token));
        token.is_some_and(|token| token.challenged)
            || source.is_some_and(|source| inner.challenged_sources.contains(&source))
    }

    /// The server asks for a session binding of this token, and with that of all that `source`
    /// gives.
    pub(crate) fn challenged(&self, token: &TokenHash, source: Option<TokenSourceId>) {
        let mut inner = self.lock();
        inner
            .tokens
            .get_or_insert_mut(self.key(token), Token::default)
            .challenged = true;
        if let Some(source) = source {
            inner.challenged_sources.put(source, ());
        }
    }

    /// A connection is about to hold a first proof of this token: why is it needed?
    pub(crate) fn prove(
        &self,
        token: &TokenHash,
        source: Option<TokenSourceId>,
        certificate: Thumbprint,
    ) -> MintCause {
        let mut inner = self.lock();
        let before = source.and_then(|source| inner.sources.put(source, certificate));
        let token = inner
            .tokens
            .get_or_insert_mut(self.key(token), Token::default);
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
        if let Some(token) = self.lock().tokens.peek_mut(&self.key(token)) {
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
