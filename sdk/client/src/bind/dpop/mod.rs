//! DPoP (RFC 9449) on the client: a proof for each request, signed by a key that its token is bound
//! to.
//!
//! It needs no client certificate and nothing of the connection. It is here, behind the same seam,
//! because the proof of a request that moves to another connection or is sent again must be a new
//! one (§7.3), and because nonces come with responses.
//!
//! - [`connection`]: one connection's side, and making its proofs.
//! - [`nonces`]: what an origin wants to see in the next proof.
//! - [`proved`]: which tokens were proved at an origin.

mod connection;
mod nonces;
mod proved;

use std::sync::Arc;
use std::time::Duration;

use bowline_proof::dpop::DpopKey;

use crate::bind::per_origin::PerOrigin;
use crate::bind::{Bind, BindConnection};
use crate::conn::facts::ConnectionFacts;
use crate::observe::Observers;

use nonces::Nonces;
use proved::Proved;

/// The DPoP implementation of [`Bind`].
pub(crate) struct DpopBinding {
    key: DpopKey,
    /// How long the key may take.
    sign_timeout: Duration,
    observers: Observers,
    nonces: PerOrigin<Nonces>,
    proved: PerOrigin<Proved>,
}

impl DpopBinding {
    pub(crate) fn new(key: DpopKey, sign_timeout: Duration, observers: Observers) -> Self {
        Self {
            key,
            sign_timeout,
            observers,
            nonces: PerOrigin::default(),
            proved: PerOrigin::default(),
        }
    }
}

impl Bind for DpopBinding {
    fn open(&self, facts: &Arc<ConnectionFacts>) -> Arc<dyn BindConnection> {
        let nonces = self
            .nonces
            .get_or_insert_with(facts.origin(), Nonces::default);
        let proved = self
            .proved
            .get_or_insert_with(facts.origin(), Proved::default);
        Arc::new(connection::DpopConnection::new(
            self.key.clone(),
            self.sign_timeout,
            facts.clone(),
            nonces,
            proved,
            self.observers.clone(),
        ))
    }
}
