//! The store of used proofs (RFC 9449 §11.1). It is a trait because several nodes may have to share
//! one store.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};
use bowline_proof::dpop::Verified;
use futures_util::future::BoxFuture;
use rustls_pki_types::UnixTime;

/// Records which proofs were used. [`MemoryReplayStore`](crate::MemoryReplayStore) implements it
/// for a single node.
pub trait ReplayStore: Send + Sync + 'static {
    /// Records that this proof is used, unless it was used before. Of any number of concurrent
    /// calls with the same proof, on all nodes together, only one may get [`Insertion::Fresh`].
    ///
    /// The entry must be kept through the second `until` and may be dropped after it: the proof is
    /// then too old to be accepted. `now` is the time of the layer's clock.
    fn insert(&self, proof: ProofId, now: UnixTime, until: UnixTime) -> BoxFuture<'_, Insertion>;
}

/// The result of an insertion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Insertion {
    /// The entry was not there and has been stored. The only result that lets a request pass.
    Fresh,
    /// The entry was there: the proof is a replay (401).
    Seen,
    /// The store is full (503).
    Full,
    /// The store cannot be reached (503).
    Unavailable,
}

/// Identifies a proof: a hash of its `jti` together with its key, or with the connection that a
/// trusted proxy attests. So one client cannot use up the `jti` of another.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProofId([u8; 32]);

impl ProofId {
    /// The 32 bytes of the hash.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// For a DPoP proof: no two clients have a key in common.
    pub(crate) fn from_dpop(proof: &Verified) -> Self {
        Self::hash(proof.key.as_bytes(), &proof.jti)
    }

    /// For a session-binding proof on a connection to a trusted proxy; `connection` is a hash of
    /// that connection.
    pub(crate) fn from_attested(connection: &[u8; 32], jti: &str) -> Self {
        Self::hash(connection, jti)
    }

    fn hash(owner: &[u8; 32], jti: &str) -> Self {
        let mut hash = Context::new(&SHA256);
        // `owner` has a fixed length, so two different pairs never give the same bytes.
        hash.update(owner);
        hash.update(jti.as_bytes());
        let mut bytes = [0; 32];
        bytes.copy_from_slice(hash.finish().as_ref());
        Self(bytes)
    }
}

/// Shows nothing that comes from a proof (EX-7).
impl fmt::Debug for ProofId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProofId(redacted)")
    }
}
