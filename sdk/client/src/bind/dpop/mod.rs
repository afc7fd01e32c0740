//! DPoP (RFC 9449) on the client: a proof for each request, signed by a key that its token is bound
//! to.
//!
//! It needs no client certificate and nothing of the connection. It is here, behind the same seam,
//! because the proof of a request that moves to another connection or is sent again must be a new
//! one (§7.3), and because nonces come with responses.
//!
//! - [`connection`]: one connection's side, and making its proofs.
//! - [`nonces`]: what an origin wants to see in the next proof.
//! - [`record`]: one proof, from its signing to its end.

mod connection;
mod nonces;
mod record;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bowline_proof::dpop::DpopKey;

use crate::bind::{Bind, BindConnection};
use crate::conn::facts::ConnectionFacts;
use crate::observe::Observers;
use crate::origin::Origin;

use nonces::Nonces;

/// The DPoP implementation of [`Bind`].
pub(crate) struct DpopBinding {
    key: DpopKey,
    /// How long the key may take.
    sign_timeout: Duration,
    observers: Observers,
    origins: Mutex<HashMap<Origin, Arc<Nonces>>>,
}

impl DpopBinding {
    pub(crate) fn new(key: DpopKey, sign_timeout: Duration, observers: Observers) -> Self {
        Self {
            key,
            sign_timeout,
            observers,
            origins: Mutex::default(),
        }
    }

    fn nonces(&self, origin: &Origin) -> Arc<Nonces> {
        let mut origins = self.origins.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(nonces) = origins.get(origin) {
            return nonces.clone();
        }
        // Bounded by the origins in use: a nonce that was forgotten costs one more answer 401.
        if origins.len() >= MAX_ORIGINS {
            origins.retain(|_, nonces| Arc::strong_count(nonces) > 1);
        }
        let nonces = Arc::new(Nonces::default());
        origins.insert(origin.clone(), nonces.clone());
        nonces
    }
}

const MAX_ORIGINS: usize = 1024;

impl Bind for DpopBinding {
    fn open(&self, facts: &Arc<ConnectionFacts>) -> Arc<dyn BindConnection> {
        Arc::new(connection::Proving::new(
            self.key.clone(),
            self.sign_timeout,
            facts.clone(),
            self.nonces(facts.origin()),
            self.observers.clone(),
        ))
    }
}

#[cfg(test)]
mod tests;
