//! The memory of proofs that were used (RFC 9449 §11.1): a seam, because several nodes may have to
//! share it.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};
use bowline_proof::dpop::Verified;
use futures_util::future::BoxFuture;
use rustls_pki_types::UnixTime;

/// Remembers which proofs were used. [`MemoryReplayStore`](crate::MemoryReplayStore) is one, for a
/// single node.
pub trait ReplayStore: Send + Sync + 'static {
    /// Notes that this proof is used now, unless it was used before; of any number of concurrent
    /// calls with the same proof, on whatever node, one may get [`Insertion::Fresh`].
    ///
    /// The entry must be kept through the second `until`, and may be forgotten after: the proof is
    /// then too old to be taken. `now` is the time of the layer's clock.
    fn insert(&self, proof: ProofId, now: UnixTime, until: UnixTime) -> BoxFuture<'_, Insertion>;
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Insertion {
    /// It was not there; now it is. The only answer that lets a request pass.
    Fresh,
    /// It was there: the proof is a replay (401).
    Seen,
    /// No more can be remembered now (503).
    Full,
    /// The memory cannot be reached (503).
    Unavailable,
}

/// Names a proof: a hash of its key, or of the connection that a trusted proxy attests, and of its
/// `jti`; so nobody can use up another's `jti`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProofId([u8; 32]);

impl ProofId {
    /// The 32 bytes of the hash.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Of a DPoP proof: no two clients have a key in common.
    pub(crate) fn from_dpop(proof: &Verified) -> Self {
        Self::hash(proof.key.as_bytes(), &proof.jti)
    }

    /// Of a session-binding proof on a connection to a trusted proxy, of which `connection` is a
    /// hash.
    pub(crate) fn from_attested(connection: &[u8; 32], jti: &str) -> Self {
        Self::hash(connection, jti)
    }

    fn hash(owner: &[u8; 32], jti: &str) -> Self {
        let mut hash = Context::new(&SHA256);
        // The first has a fixed length, so no two pairs run together to the same bytes.
        hash.update(owner);
        hash.update(jti.as_bytes());
        let mut bytes = [0; 32];
        bytes.copy_from_slice(hash.finish().as_ref());
        Self(bytes)
    }
}

/// As of everything that comes from a proof, nothing.
impl fmt::Debug for ProofId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProofId(redacted)")
    }
}
