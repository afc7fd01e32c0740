//! The key set in use, and when to fetch another.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::time::Instant;

use super::keys::KeySet;
use super::source::{Jwks, JwksError};
use crate::TokenError;

pub(super) struct Keyring {
    source: Jwks,
    refresh_interval: Duration,
    retry_interval: Duration,
    cached_tokens: NonZeroUsize,
    /// The last good set.
    current: ArcSwapOption<KeySet>,
    last_attempt: Mutex<Option<Instant>>,
    /// Held while fetching, so that concurrent callers wait for the result instead of fetching too.
    fetching: tokio::sync::Mutex<()>,
}

impl Keyring {
    pub(super) fn new(
        source: Jwks,
        refresh_interval: Duration,
        retry_interval: Duration,
        cached_tokens: NonZeroUsize,
    ) -> Self {
        Self {
            source,
            refresh_interval,
            retry_interval,
            cached_tokens,
            current: ArcSwapOption::empty(),
            last_attempt: Mutex::new(None),
            fetching: tokio::sync::Mutex::new(()),
        }
    }

    /// The set in use. If it is old, a newer one is fetched in the background and serves later
    /// callers.
    pub(super) async fn keys(self: &Arc<Self>) -> Result<Arc<KeySet>, TokenError> {
        let Some(keys) = self.current.load_full() else {
            return self.newer_than(None).await;
        };
        if self.claim_attempt(self.refresh_interval) {
            let keyring = self.clone();
            tokio::spawn(async move {
                let _one_at_a_time = keyring.fetching.lock().await;
                keyring.fetch().await;
            });
        }
        Ok(keys)
    }

    /// The set in use, fetched again if it is still `old` and the retry interval has passed since
    /// the last attempt. Callers that arrive during a fetch share its outcome.
    pub(super) async fn newer_than(
        self: &Arc<Self>,
        old: Option<Arc<KeySet>>,
    ) -> Result<Arc<KeySet>, TokenError> {
        let keyring = self.clone();
        // In a task of its own, so that a cancelled caller does not cancel the fetch for the
        // others.
        let attempt = tokio::spawn(async move {
            let _one_at_a_time = keyring.fetching.lock().await;
            let unchanged = match (&old, &*keyring.current.load()) {
                (Some(old), Some(current)) => Arc::ptr_eq(old, current),
                (_, current) => current.is_none(),
            };
            if unchanged && keyring.claim_attempt(keyring.retry_interval) {
                keyring.fetch().await;
            }
        });
        // It fails only if it panicked; then the current set stays in use.
        let _ = attempt.await;
        self.current.load_full().ok_or_else(|| {
            TokenError::unavailable("the key set could not be fetched yet", self.retry_interval)
        })
    }

    /// Whether an attempt may be made now. Of concurrent callers only one gets `true`.
    fn claim_attempt(&self, interval: Duration) -> bool {
        let mut last = self
            .last_attempt
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| last.elapsed() >= interval);
        if due {
            *last = Some(Instant::now());
        }
        due
    }

    async fn fetch(&self) {
        match self
            .source
            .load()
            .await
            .and_then(|document| self.adopt(document))
        {
            Ok(()) => {}
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
        tracing::info!(source = %self.source, usable = keys.len(), "a new key set is in use");
        self.current.store(Some(Arc::new(keys)));
        Ok(())
    }
}
