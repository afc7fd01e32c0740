//! A bounded cache of introspection verdicts by token hash, with one request at a time per token.

use std::num::NonZeroUsize;
use std::time::Duration;

use bowline_proof::TokenHash;
use moka::future::Cache;
use rustls_pki_types::UnixTime;

use super::response::Verdict;

/// A `moka` cache, for two reasons. It prefers entries that are used often, so a flood of made-up
/// tokens does not evict valid ones, as it would in an LRU cache. And concurrent callers with the
/// same token wait for one request.
pub(super) struct VerdictCache(Cache<TokenHash, CachedVerdict>);

/// A verdict, and the second from which it must not be used any more.
#[derive(Clone)]
pub(super) struct CachedVerdict {
    pub(super) verdict: Verdict,
    pub(super) until: UnixTime,
}

impl VerdictCache {
    /// For about `capacity` tokens. `longest` only frees memory; [`CachedVerdict::until`] decides,
    /// by the validator's clock.
    pub(super) fn new(capacity: NonZeroUsize, longest: Duration) -> Self {
        let cache = Cache::builder().max_capacity(capacity.get() as u64);
        Self(cache.time_to_live(longest).build())
    }

    /// The cached verdict about a token, or the result of `ask`, which one caller runs while others
    /// wait. If that caller is cancelled, another runs its own.
    pub(super) async fn get_or_ask(
        &self,
        token: &TokenHash,
        now: UnixTime,
        ask: impl Future<Output = CachedVerdict>,
    ) -> CachedVerdict {
        let fresh = |known: &CachedVerdict| now.as_secs() < known.until.as_secs();
        if let Some(known) = self.0.get(token).await.filter(fresh) {
            return known;
        }
        let entry = self.0.entry(*token);
        entry
            .or_insert_with_if(ask, |known| !fresh(known))
            .await
            .into_value()
    }
}
