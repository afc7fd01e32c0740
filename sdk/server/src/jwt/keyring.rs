//! The key set in use, and when to fetch another.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::time::Instant;

use super::keys::KeySet;
use super::source::{Jwks, JwksError};
use crate::TokenError;

pub(super) struct Keyring {
    source: Jwks,
    times: RefreshTimes,
    cached_tokens: NonZeroUsize,
    /// The last good set.
    current: ArcSwapOption<KeySet>,
    asked: Mutex<Asked>,
    /// Held while fetching, so that concurrent callers wait for the result instead of fetching too.
    fetching: tokio::sync::Mutex<()>,
}

/// See [`JwtValidatorBuilder`](super::JwtValidatorBuilder).
#[derive(Clone, Copy, Debug)]
pub(super) struct RefreshTimes {
    pub(super) refresh: Duration,
    pub(super) retry: Duration,
    pub(super) max_stale: Duration,
}

/// When the source was asked for a set.
#[derive(Clone, Copy, Default)]
struct Asked {
    last_attempt: Option<Instant>,
    last_success: Option<Instant>,
    successes: u64,
}

impl Keyring {
    pub(super) fn new(source: Jwks, times: RefreshTimes, cached_tokens: NonZeroUsize) -> Self {
        Self {
            source,
            times,
            cached_tokens,
            current: ArcSwapOption::empty(),
            asked: Mutex::default(),
            fetching: tokio::sync::Mutex::new(()),
        }
    }

    /// The set in use. If it is old, a newer one is fetched in the background and serves later
    /// callers.
    ///
    /// # Errors
    /// There is none, or it was not fetched again for so long that its keys may have been
    /// withdrawn.
    pub(super) async fn keys(self: &Arc<Self>) -> Result<Arc<KeySet>, TokenError> {
        let Some(keys) = self.in_use() else {
            self.fetch_unless(|keyring| keyring.in_use().is_some())
                .await;
            return self.in_use().ok_or_else(|| {
                TokenError::unavailable("the key set could not be fetched", self.until_retry())
            });
        };
        if self.claim_attempt(self.times.refresh) {
            let keyring = self.clone();
            tokio::spawn(async move {
                let _one_at_a_time = keyring.fetching.lock().await;
                keyring.fetch().await;
            });
        }
        Ok(keys)
    }

    /// A set that is newer than `old`, if there is one: it is fetched, unless the retry interval
    /// has not passed yet since the last attempt. Callers that arrive during a fetch share its
    /// outcome. `None` if there is none.
    ///
    /// # Errors
    /// The source could not be asked now, so there may be one.
    pub(super) async fn newer_than(
        self: &Arc<Self>,
        old: &Arc<KeySet>,
    ) -> Result<Option<Arc<KeySet>>, TokenError> {
        if self.source.is_fixed() {
            return Ok(None);
        }
        let before = self.asked().successes;
        let known = old.clone();
        self.fetch_unless(move |keyring| {
            let current = keyring.current.load();
            current
                .as_ref()
                .is_none_or(|current| !Arc::ptr_eq(current, &known))
        })
        .await;
        match self.in_use() {
            Some(newer) if !Arc::ptr_eq(&newer, old) => Ok(Some(newer)),
            _ if self.asked().successes > before => Ok(None),
            _ => Err(TokenError::unavailable(
                "the key of the access token is unknown, and the key set cannot be fetched now",
                self.until_retry(),
            )),
        }
    }

    /// Whether a fetch is under way.
    pub(super) fn is_fetching(&self) -> bool {
        self.fetching.try_lock().is_err()
    }

    /// The last good set, unless it is too old to be trusted.
    fn in_use(&self) -> Option<Arc<KeySet>> {
        let is_stale = self
            .asked()
            .last_success
            .is_none_or(|last| last.elapsed() >= self.times.max_stale);
        if is_stale && !self.source.is_fixed() {
            return None;
        }
        self.current.load_full()
    }

    /// Fetches, after the fetch that is under way, if it is still needed and the retry interval has
    /// passed since the last attempt.
    async fn fetch_unless(
        self: &Arc<Self>,
        is_needless: impl FnOnce(&Self) -> bool + Send + 'static,
    ) {
        let keyring = self.clone();
        // In a task of its own, so that a cancelled caller does not cancel the fetch for the
        // others.
        let attempt = tokio::spawn(async move {
            let _one_at_a_time = keyring.fetching.lock().await;
            if !is_needless(&keyring) && keyring.claim_attempt(keyring.times.retry) {
                keyring.fetch().await;
            }
        });
        // It fails only if it panicked; then the current set stays in use.
        let _ = attempt.await;
    }

    /// How long until the source may be asked again.
    fn until_retry(&self) -> Duration {
        let elapsed = self.asked().last_attempt.map(|last| last.elapsed());
        self.times.retry.saturating_sub(elapsed.unwrap_or_default())
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an attempt may be made now. Of concurrent callers only one gets `true`.
    fn claim_attempt(&self, interval: Duration) -> bool {
        let mut asked = self.asked();
        let due = asked
            .last_attempt
            .is_none_or(|last| last.elapsed() >= interval);
        if due {
            asked.last_attempt = Some(Instant::now());
        }
        due
    }

    async fn fetch(&self) {
        let loaded = self.source.load().await;
        match loaded.and_then(|document| self.adopt(document)) {
            Ok(()) => {
                let mut asked = self.asked();
                asked.last_success = Some(Instant::now());
                asked.successes += 1;
            }
            Err(error) => {
                let cause = std::error::Error::source(&error);
                let held = self.current.load().is_some();
                tracing::warn!(source = %self.source, %error, cause, held, "the key set was not refreshed");
            }
        }
    }

    /// Makes a document the current key set. An unchanged document changes nothing, so the cached
    /// tokens stay valid.
    fn adopt(&self, document: Vec<u8>) -> Result<(), JwksError> {
        if self
            .current
            .load()
            .as_ref()
            .is_some_and(|current| current.is_from(&document))
        {
            return Ok(());
        }
        let keys = KeySet::parse(document, self.cached_tokens).map_err(JwksError::malformed)?;
        let (usable, unusable) = (keys.len(), keys.unusable());
        if unusable.is_empty() {
            tracing::info!(source = %self.source, usable, "a new key set is in use");
        } else {
            tracing::warn!(
                source = %self.source,
                usable,
                unusable = unusable.len(),
                which = %unusable,
                "a new key set is in use, without the keys that cannot be used"
            );
        }
        self.current.store(Some(Arc::new(keys)));
        Ok(())
    }
}
