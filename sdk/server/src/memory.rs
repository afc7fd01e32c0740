//! What one connection remembers of the proofs that it has seen (RS-9, RS-11).

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest;
use bowline_proof::TokenHash;
use lru::LruCache;

/// The proofs that passed on this connection and the `jti` values used up on it. It holds digests only, and it is freed
/// with the connection.
pub(crate) struct ProofMemory(Mutex<State>);

struct State {
    /// Token -> the one reusable proof that passed last. Least recently used goes first.
    passed: LruCache<TokenHash, Digest>,
    used: HashSet<Digest>,
}

type Digest = [u8; 32];

/// Why a `jti` was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JtiRefused {
    Seen,
    QuotaFull,
}

impl ProofMemory {
    pub(crate) fn new() -> Self {
        // Unbounded only in name: `remember` holds the bound. lru would otherwise reserve the whole bound for every
        // connection, most of which carry one token.
        Self(Mutex::new(State {
            passed: LruCache::unbounded(),
            used: HashSet::new(),
        }))
    }

    /// Whether this very proof passed RS-5..RS-8 with this token before. Comparing digests keeps the comparison's
    /// timing independent of the remembered proof.
    pub(crate) fn has_passed(&self, token: &TokenHash, proof: &[u8]) -> bool {
        let digest = sha256(proof);
        self.state().passed.get(token) == Some(&digest)
    }

    pub(crate) fn remember(&self, token: TokenHash, proof: &[u8], tokens: NonZeroUsize) {
        let digest = sha256(proof);
        let mut state = self.state();
        state.passed.put(token, digest);
        if state.passed.len() > tokens.get() {
            state.passed.pop_lru();
        }
    }

    /// Uses `jti` up: of any number of concurrent calls with the same value one succeeds (RS-9). Tells how many are left.
    pub(crate) fn use_up(&self, jti: &str, quota: usize) -> Result<usize, JtiRefused> {
        let digest = sha256(jti.as_bytes());
        let mut state = self.state();
        if state.used.contains(&digest) {
            return Err(JtiRefused::Seen);
        }
        if state.used.len() >= quota {
            return Err(JtiRefused::QuotaFull);
        }
        state.used.insert(digest);
        Ok(quota - state.used.len())
    }

    /// Every change is a single insertion, so the state is sound even if a holder of the lock panicked.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn sha256(octets: &[u8]) -> Digest {
    let mut digest = Digest::default();
    digest.copy_from_slice(digest::digest(&digest::SHA256, octets).as_ref());
    digest
}
