//! The store of used proofs (RFC 9449 §11.1). It is a trait because several nodes may have to share
//! one store.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use bowline_proof::dpop::Verified;
use futures_util::future::BoxFuture;
use rustls_pki_types::UnixTime;
use serde_json::Value;

use crate::Requester;

/// Records which proofs were used. [`MemoryReplayStore`](crate::MemoryReplayStore) implements it
/// for a single node.
pub trait ReplayStore: Send + Sync + 'static {
    /// Records that this proof is used, unless it was used before. Of any number of concurrent
    /// calls with the same proof, on all nodes together, only one may get [`Insertion::Fresh`].
    ///
    /// The entry must be kept through the second [`until`](UsedProof::until) and may be dropped after it: the proof is
    /// then too old to be accepted. `now` is the time of the layer's clock, which never goes back.
    ///
    /// Whether `until` has passed must be decided by a time that never goes back either. A store
    /// that several nodes share must keep the entry for longer, by the most that the clocks of two
    /// nodes can differ: the node whose clock is behind still accepts the proof.
    ///
    /// A store that can become full should count the entries of each owner, and refuse those of an
    /// owner that fills it: see [`MemoryReplayStore`](crate::MemoryReplayStore).
    fn insert(&self, proof: UsedProof, now: UnixTime) -> BoxFuture<'_, Insertion>;
}

/// One store for several layers, or for a layer and its next configuration.
impl<R: ReplayStore> ReplayStore for Arc<R> {
    fn insert(&self, proof: UsedProof, now: UnixTime) -> BoxFuture<'_, Insertion> {
        R::insert(self, proof, now)
    }
}

/// A proof that a client has used, as a [`ReplayStore`] keeps it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct UsedProof {
    /// Which proof.
    pub id: ProofId,
    /// Who has used it.
    pub owner: ProofOwner,
    /// The last second in which it would be accepted.
    pub until: UnixTime,
}

/// The result of an insertion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Insertion {
    /// The entry was not there and has been stored. The only result that lets a request pass.
    Fresh,
    /// The entry was there: the proof is a replay (401).
    Seen,
    /// The store is full, or has no room for more entries of this owner (503).
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
        Self::hashed(proof.key.as_bytes(), &proof.jti)
    }

    /// For a session-binding proof on a connection to a trusted proxy; `connection` is a hash of
    /// that connection.
    pub(crate) fn from_attested(connection: &[u8; 32], jti: &str) -> Self {
        Self::hashed(connection, jti)
    }

    fn hashed(owner: &[u8; 32], jti: &str) -> Self {
        Self(hash([&owner[..], jti.as_bytes()]))
    }
}

/// The owner by which used proofs are counted: a hash of issuer, subject and client of the token
/// that they came with. The client alone does not suffice, because a client may act for many users; the
/// key does not either, because a client may make as many keys as it likes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProofOwner([u8; 32]);

impl ProofOwner {
    /// The 32 bytes of the hash.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// By the claims of the token: `iss`, `sub`, and `client_id` or `azp`. If they name neither
    /// subject nor client, by the client that sent the request.
    pub(crate) fn of(claims: &Value, requester: &Requester) -> Self {
        let claim = |name| claims.get(name).and_then(Value::as_str);
        let (subject, client) = (claim("sub"), claim("client_id").or_else(|| claim("azp")));
        let parts = [claim("iss"), subject, client];
        if subject.or(client).is_some() {
            Self(hash(parts.map(|part| part.unwrap_or_default().as_bytes())))
        } else {
            Self::named(&requester.to_string())
        }
    }

    pub(crate) fn named(name: &str) -> Self {
        Self(hash([name.as_bytes()]))
    }
}

/// Shows no hash of a user's identity.
impl fmt::Debug for ProofOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProofOwner(redacted)")
    }
}

/// Two different lists of parts never give the same bytes: the length of each comes first.
fn hash<const N: usize>(parts: [&[u8]; N]) -> [u8; 32] {
    let mut hash = Context::new(&SHA256);
    for part in parts {
        hash.update(&(part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut bytes = [0; 32];
    bytes.copy_from_slice(hash.finish().as_ref());
    bytes
}

/// Shows nothing that comes from a proof (EX-7).
impl fmt::Debug for ProofId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProofId(redacted)")
    }
}
