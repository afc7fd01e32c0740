//! The tokens that were proved at one origin, to tell why a proof was needed.

use std::sync::{Mutex, PoisonError};

use bowline_proof::TokenHash;
use lru::LruCache;

/// The tokens that were proved at one origin; none for a token endpoint.
pub(super) struct Proved(Mutex<LruCache<Option<TokenHash>, ()>>);

impl Proved {
    /// Takes note of a proof of this token; whether it is the first.
    pub(super) fn is_first(&self, token: Option<TokenHash>) -> bool {
        let mut proved = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = proved.put(token, ()).is_none();
        if proved.len() > MAX_PROVED {
            proved.pop_lru();
        }
        is_first
    }
}

impl Default for Proved {
    fn default() -> Self {
        // Bounded where it is filled; lru would otherwise reserve the whole bound for every origin.
        Self(Mutex::new(LruCache::unbounded()))
    }
}

/// A token that was dropped from the cache and comes back is counted as first once more.
const MAX_PROVED: usize = 1000;
