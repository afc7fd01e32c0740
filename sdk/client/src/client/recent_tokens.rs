//! Tokens that come as `Authorization` fields, which most callers know no better than to send: each
//! is read and hashed once, not with every request.

use std::hash::BuildHasher;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bowline_proof::{AccessToken, InvalidAccessToken};
use bytes::Bytes;
use http::HeaderValue;
use lru::DefaultHasher;
use zeroize::Zeroizing;

use crate::cache::Cache;

/// The tokens that came before. They stay in memory until others replace them or the client is
/// dropped.
pub(super) struct RecentTokens {
    keys: DefaultHasher,
    known: Mutex<Cache<Key, Known>>,
}

/// A keyed hash of the field. Not SHA-256, and not the token: a collision is noticed by the field.
type Key = u64;

struct Known {
    field: HeaderValue,
    token: AccessToken,
}

impl RecentTokens {
    /// At most this many.
    pub(super) fn new(bound: usize) -> Self {
        Self {
            keys: DefaultHasher::default(),
            known: Mutex::new(Cache::new(bound)),
        }
    }

    /// The token in a field with the scheme `Bearer` or `DPoP`.
    pub(super) fn find_or_read(
        &self,
        field: &HeaderValue,
    ) -> Result<AccessToken, InvalidAccessToken> {
        // Most clients have one token: no hash at all.
        if let Some(known) = self.lock().last().filter(|known| known.field == *field) {
            return Ok(known.token.clone());
        }
        let key = self.keys.hash_one(field.as_bytes());
        if let Some(known) = self.lock().get_mut(&key)
            && known.field == *field
        {
            return Ok(known.token.clone());
        }
        let token = AccessToken::from_credentials(field)?;
        let known = Known {
            field: copy(field, &token),
            token: token.clone(),
        };
        // What goes for it is dropped, and cleared, when the lock is free.
        let gone = self.lock().insert(&key, known);
        drop(gone);
        Ok(token)
    }

    fn lock(&self) -> MutexGuard<'_, Cache<Key, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The field, in memory that is cleared when it is dropped, and that is no part of a larger buffer.
fn copy(field: &HeaderValue, token: &AccessToken) -> HeaderValue {
    if token.authorization() == field {
        return token.authorization().clone();
    }
    // Written otherwise than usual, such as `bearer`.
    let bytes = Bytes::from_owner(Zeroizing::new(field.as_bytes().to_vec()));
    let mut copy = HeaderValue::from_maybe_shared(bytes).unwrap_or_else(|_| field.clone());
    copy.set_sensitive(true);
    copy
}

#[cfg(test)]
mod tests;
