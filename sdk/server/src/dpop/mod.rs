//! DPoP at the resource server (RFC 9449): what it takes beyond the proofs themselves, that is
//! memory and nonces.

mod memory_store;
mod nonces;
mod replay;

use std::fmt;
use std::sync::Arc;

pub use self::memory_store::MemoryReplayStore;
pub use self::nonces::DpopNonces;
pub use self::replay::{Insertion, ProofId, ReplayStore};

/// How tokens that are bound to a DPoP key are taken: give it to
/// [`BindingLayer::dpop`](crate::BindingLayer::dpop).
///
/// A DPoP proof is not tied to a connection. So a copy of it is good wherever the request may go,
/// until it is too old, unless somebody remembers that it was there: the [`ReplayStore`]. Nodes
/// that answer to the same origin must share one.
#[derive(Clone)]
pub struct Dpop {
    pub(crate) replay: Arc<dyn ReplayStore>,
    pub(crate) nonces: Option<Arc<DpopNonces>>,
}

impl Dpop {
    /// Without nonces, and with this memory: [`MemoryReplayStore`] for a single node.
    pub fn new(replay: impl ReplayStore) -> Self {
        Self {
            replay: Arc::new(replay),
            nonces: None,
        }
    }

    /// Requires a nonce of this server in each proof (RFC 9449 §9), which stops proofs that were
    /// made in advance (§11.2). Costs each client one more answer 401 when it starts.
    #[must_use]
    pub fn nonces(mut self, nonces: DpopNonces) -> Self {
        self.nonces = Some(Arc::new(nonces));
        self
    }
}

impl fmt::Debug for Dpop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dpop")
            .field("nonces", &self.nonces)
            .finish_non_exhaustive()
    }
}
