//! Another configuration for a layer that is in use.

use std::fmt;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use rustls_pki_types::UnixTime;

use super::policy::InvalidPolicy;
use super::{BindingLayer, Current, Settings};
use crate::TokenValidator;
use crate::generation::Generation;

/// Replaces the configuration of a [`BindingLayer`] that is in use, at run time: see
/// [`BindingLayer::reloader`].
pub struct Reloader<V> {
    current: Arc<Current<V>>,
}

impl<V: TokenValidator> Reloader<V> {
    pub(super) fn new(current: Arc<Current<V>>) -> Self {
        Self { current }
    }

    /// Gives the present configuration to `change` and puts what it returns into use, in all
    /// services of the layer. A request that has begun is checked by the former configuration to
    /// its end. Before the next one, every connection's cache of proofs that have passed is
    /// cleared: they are verified again. Used `jti` values stay, and are kept for as long as the
    /// longer of both [`windows`](BindingLayer::windows) needs.
    ///
    /// [`dpop`](BindingLayer::dpop) and [`trusted_proxies`](BindingLayer::trusted_proxies) should be
    /// given the former replay store: a new one does not know which proofs were used.
    ///
    /// # Errors
    /// The options contradict each other. The former configuration stays in use.
    pub fn reload(
        &self,
        change: impl FnOnce(BindingLayer<V>) -> BindingLayer<V>,
    ) -> Result<(), InvalidPolicy> {
        let _one_at_a_time = self
            .current
            .reloads
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let former = self.current.load();
        let changed = change(BindingLayer::from_parts(
            former.validator.clone(),
            former.settings.clone(),
        ));
        changed.check()?;
        let changed = changed.current.load();
        let mut settings = changed.settings.clone();
        settings.generation = Generation::next();
        settings.former_windows = FormerWindows::after(&former.settings);
        let policy = settings.policy.name();
        if settings.observe {
            tracing::warn!(
                policy,
                "the configuration was replaced; the policy is only observed"
            );
        } else {
            tracing::info!(
                policy,
                "the configuration was replaced; the policy is enforced"
            );
        }
        self.current.store(changed.validator.clone(), settings);
        Ok(())
    }
}

impl<V> Clone for Reloader<V> {
    fn clone(&self) -> Self {
        Self {
            current: self.current.clone(),
        }
    }
}

impl<V> fmt::Debug for Reloader<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloader").finish_non_exhaustive()
    }
}

/// What used `jti` values were kept for before the windows were replaced. A wider window would
/// accept again a proof whose `jti` was forgotten by the narrower one, so proofs from before are
/// held to the narrowest.
#[derive(Clone, Copy, Debug)]
pub(super) struct FormerWindows {
    /// The last second of `iat` that the former windows accepted.
    issued_until: u64,
    past: Duration,
}

impl FormerWindows {
    fn after(settings: &Settings) -> Option<Self> {
        let (now, windows) = (settings.now().as_secs(), &settings.windows);
        let past = match &settings.former_windows {
            Some(former) if former.issued_until >= now.saturating_sub(windows.past.as_secs()) => {
                former.past.min(windows.past)
            }
            _ => windows.past,
        };
        Some(Self {
            issued_until: now.saturating_add(windows.future.as_secs()),
            past,
        })
    }
}

impl Settings {
    /// The last second in which a proof for one request is accepted that was issued at this time
    /// (RS-8).
    pub(super) fn accepted_until(&self, issued_at: UnixTime) -> UnixTime {
        let issued_at = issued_at.as_secs();
        let past = match &self.former_windows {
            Some(former) if issued_at <= former.issued_until => former.past.min(self.windows.past),
            _ => self.windows.past,
        };
        let until = issued_at.saturating_add(past.as_secs());
        UnixTime::since_unix_epoch(Duration::from_secs(until))
    }
}
