//! VerdictCache by token hash: bounded, each until its time, and one question at a time about one token.

use std::num::NonZeroUsize;
use std::time::Duration;

use bowline_proof::TokenHash;
use moka::future::Cache;
use rustls_pki_types::UnixTime;

use super::response::Verdict;

/// A `moka` cache, because it keeps what is used often in preference to what came once (a flood of
/// made-up tokens does not push good ones out, as it would with the least recently used going
/// first), and has those who ask about the same token wait for one question.
pub(super) struct VerdictCache(Cache<TokenHash, CachedVerdict>);

/// An answer, and the second in which it is not to be used any more.
#[derive(Clone)]
pub(super) struct CachedVerdict {
    pub(super) verdict: Verdict,
    pub(super) until: UnixTime,
}

impl VerdictCache {
    /// For about `capacity` tokens. `longest` only frees memory: what decides is [`CachedVerdict::until`], by
    /// a clock that may be replaced.
    pub(super) fn new(capacity: NonZeroUsize, longest: Duration) -> Self {
        let cache = Cache::builder().max_capacity(capacity.get() as u64);
        Self(cache.time_to_live(longest).build())
    }

    /// What is known about a token; `question` is put if nothing is, and by one caller only. If
    /// that one goes away, another puts its own.
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
