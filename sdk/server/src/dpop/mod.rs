//! DPoP at the resource server (RFC 9449): the replay store and the nonces. The proofs themselves
//! are verified in `bowline_proof`.

mod memory_store;
mod node_secrets;
mod nonces;
#[cfg(feature = "redis")]
mod redis;
mod replay;

use std::fmt;
use std::sync::Arc;

pub use self::memory_store::MemoryReplayStore;
pub use self::node_secrets::{InvalidNodeSecrets, NodeSecrets};
pub(crate) use self::nonces::AcceptedNonces;
pub use self::nonces::DpopNonces;
#[cfg(feature = "redis")]
pub use self::redis::{
    RedisError, RedisErrorKind, RedisReplayStore, RedisReplayStoreBuilder, RedisServer,
};
pub use self::replay::{Insertion, ProofId, ProofOwner, ReplayStore, UsedProof};

/// How DPoP-bound tokens are accepted: the argument of
/// [`BindingLayer::dpop`](crate::BindingLayer::dpop).
///
/// A DPoP proof is not bound to a connection. Until it expires, a copy of it would pass at any node
/// that accepts the request, unless a [`ReplayStore`] records that it was used. Nodes of the same
/// origin must share one, such as a `RedisReplayStore` (feature `redis`).
#[derive(Clone)]
pub struct Dpop {
    pub(crate) replay: Arc<dyn ReplayStore>,
    pub(crate) nonces: Option<Arc<DpopNonces>>,
}

impl Dpop {
    /// Without nonces, and with this replay store: [`MemoryReplayStore`] for a single node.
    pub fn new(replay: impl ReplayStore) -> Self {
        Self {
            replay: Arc::new(replay),
            nonces: None,
        }
    }

    /// Requires a nonce of this server in each proof (RFC 9449 §9), which stops proofs that were
    /// made in advance (§11.2). Costs each client one additional 401 response when it starts.
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
