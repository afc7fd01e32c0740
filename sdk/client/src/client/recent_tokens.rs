//! Tokens that come as `Authorization` fields, which most callers know no better than to send: each
//! is read and hashed once, not with every request.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bowline_proof::{AccessToken, InvalidAccessToken};
use http::HeaderValue;

/// The tokens that came last. They stay in memory until newer ones replace them or the client is
/// dropped.
#[derive(Default)]
pub(super) struct RecentTokens(Mutex<VecDeque<AccessToken>>);

/// Few: each is compared with the field of a request that brings another.
const MAX_TOKENS: usize = 8;

impl RecentTokens {
    /// The token in a field with the scheme `Bearer` or `DPoP`.
    pub(super) fn find_or_read(
        &self,
        field: &HeaderValue,
    ) -> Result<AccessToken, InvalidAccessToken> {
        let known = self
            .lock()
            .iter()
            .find(|token| token.authorization() == field)
            .cloned();
        if let Some(token) = known {
            return Ok(token);
        }
        let token = AccessToken::from_credentials(field)?;
        let mut tokens = self.lock();
        tokens.truncate(MAX_TOKENS - 1);
        tokens.push_front(token.clone());
        Ok(token)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<AccessToken>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
