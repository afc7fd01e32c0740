//! The tokens that were proved at one origin, to tell why a proof was needed.

use std::sync::{Mutex, PoisonError};

use bowline_proof::TokenHash;

use crate::cache::Cache;

/// The tokens that were proved at one origin; none for a token endpoint.
pub(super) struct Proved(Mutex<Cache<Option<TokenHash>, ()>>);

impl Proved {
    /// Takes note of a proof of this token; whether it is the first.
    pub(super) fn is_first(&self, token: Option<TokenHash>) -> bool {
        let mut proved = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = proved.get(&token).is_none();
        if is_first {
            proved.insert(&token, ());
        }
        is_first
    }
}

impl Default for Proved {
    fn default() -> Self {
        Self(Mutex::new(Cache::new(MAX_PROVED)))
    }
}

/// A token that was dropped for another one and comes back is counted as first once more.
const MAX_PROVED: usize = 1000;
