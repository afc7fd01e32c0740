//! DPoP (RFC 9449) on the client: a proof for each request, signed by a key that its token is bound
//! to.
//!
//! It needs no client certificate and nothing of the connection. It is here, behind the same seam,
//! because the proof of a request that moves to another connection or is sent again must be a new
//! one (§7.3), and because nonces come with responses.
//!
//! - [`by_demand`]: which of the two bindings a token goes to.
//! - [`connection`]: one connection's side.
//! - [`mint`]: making one proof.
//! - [`nonces`]: what an origin wants to see in the next proof.
//! - [`record`]: one proof, from its signing to its end.

mod by_demand;
mod connection;
mod mint;
mod nonces;
mod record;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bowline_proof::dpop::DpopKey;

use crate::bind::{Bind, BindConnection};
use crate::connection::ConnectionFacts;
use crate::observe::Observers;
use crate::origin::Origin;

use nonces::Nonces;

pub(crate) use by_demand::ByDemand;

/// In the extensions of a request to a token endpoint: it carries a proof by the client's DPoP key,
/// though it has no access token, and the token that is issued will be bound to that key (RFC 9449
/// §5).
///
/// A first answer 400 that brings a nonce (§8) makes the request go out once more with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DpopProofRequired;

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
mod tests {
    use super::*;

    #[test]
    fn origins_that_nobody_is_connected_to_are_forgotten_in_the_end() {
        let key = DpopKey::generate().unwrap();
        let binding = DpopBinding::new(key, Duration::MAX, Observers(Arc::new([])));
        let nonces = |number: usize| {
            let uri = format!("https://h{number}.example.com/").parse().unwrap();
            binding.nonces(&Origin::from_uri(&uri).unwrap())
        };
        let connected = nonces(0);
        for number in 1..3 * MAX_ORIGINS {
            nonces(number);
        }
        assert!(binding.origins.lock().unwrap().len() <= MAX_ORIGINS);
        assert!(Arc::ptr_eq(&connected, &nonces(0)));
    }
}
