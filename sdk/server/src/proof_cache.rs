//! The proofs and `jti` values seen on one connection (RS-9, RS-11).

use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest;
use bowline_proof::{AccessToken, Scheme, TokenHash};
use lru::LruCache;
use zeroize::Zeroizing;

use crate::generation::Generation;
use crate::used_jtis::{JtiError, JtiUse, UsedJtis};

/// The proofs that passed on this connection and the `jti` values that were used on it. It is freed
/// with the connection.
///
/// A request whose proof was verified before is found in one of two places, the cheaper first:
///
/// 1. `recent`: the few pairs of token and proof that passed last, themselves, because comparing
///    them costs a tenth of hashing them. They are zeroized when they are dropped, at the latest
///    with the connection.
/// 2. `passed`: the digests of token and proof, for many tokens.
///
/// Only reusable proofs are stored there. A proof with request claims is verified every time, and
/// its `jti` goes to `used_jtis`.
pub(crate) struct ProofCache(Mutex<State>);

struct State {
    /// The pairs that passed last, the most recent first.
    recent: Vec<Pair>,
    /// Token -> the reusable proof that passed last. The least recently used entry is dropped
    /// first.
    passed: LruCache<TokenHash, Digest>,
    /// By which configuration the proofs in both have passed. By another, they may not.
    generation: Generation,
    used_jtis: UsedJtis,
}

struct Pair {
    token: AccessToken,
    /// Its `ekm` is the exporter value (EX-7).
    proof: Zeroizing<Box<[u8]>>,
}

/// Most connections need one; a few let several agents of one process share a connection.
const RECENT: usize = 4;

/// Of a longer pair only the digests are kept, to bound the memory of a connection.
const MAX_PAIR_BYTES: usize = 4096;

type Digest = [u8; 32];

impl ProofCache {
    pub(crate) fn new() -> Self {
        // `insert` enforces the bound. With `LruCache::new` lru would reserve the whole bound for
        // every connection, although most connections carry one token.
        Self(Mutex::new(State {
            recent: Vec::new(),
            passed: LruCache::unbounded(),
            generation: Generation::default(),
            used_jtis: UsedJtis::default(),
        }))
    }

    /// The token of these credentials, if their scheme is Bearer and the token was among the last
    /// that passed with the same proof (RS-5..RS-8).
    pub(crate) fn lookup(
        &self,
        credentials: &[u8],
        proof: &[u8],
        generation: Generation,
    ) -> Option<AccessToken> {
        let secret = credentials.strip_prefix(b"Bearer ")?;
        let mut state = self.state_of(generation);
        let found = state.recent.iter().position(|pair| {
            // In constant time, so that timing reveals neither.
            verify_slices_are_equal(&pair.proof, proof).is_ok()
                && verify_slices_are_equal(pair.token.secret().as_bytes(), secret).is_ok()
        })?;
        state.recent[..=found].rotate_right(1);
        Some(state.recent[0].token.clone())
    }

    /// Whether this proof passed RS-5..RS-8 with this token before. Digests are compared, so the
    /// timing does not depend on the cached proof.
    pub(crate) fn has_passed(
        &self,
        token: &AccessToken,
        proof: &[u8],
        generation: Generation,
    ) -> bool {
        let digest = sha256(proof);
        let mut state = self.state_of(generation);
        let passed = state.passed.get(token.hash()) == Some(&digest);
        if passed {
            state.keep(token, proof);
        }
        passed
    }

    /// Caches this reusable proof, which passed, for at most `tokens` tokens.
    pub(crate) fn insert(
        &self,
        token: &AccessToken,
        proof: &[u8],
        tokens: NonZeroUsize,
        generation: Generation,
    ) {
        let digest = sha256(proof);
        let mut state = self.state_of(generation);
        state.passed.put(*token.hash(), digest);
        if state.passed.len() > tokens.get()
            && let Some((evicted, _)) = state.passed.pop_lru()
        {
            state.recent.retain(|pair| *pair.token.hash() != evicted);
        }
        state.keep(token, proof);
    }

    /// Marks a `jti` as used: of any number of concurrent calls with the same value one succeeds
    /// (RS-9). Returns how many more may be stored.
    pub(crate) fn use_jti(&self, wanted: &JtiUse<'_>) -> Result<usize, JtiError> {
        self.state().used_jtis.insert(wanted)
    }

    /// Forgets a `jti` that was marked as used, for a request that is refused after all.
    pub(crate) fn forget_jti(&self, jti: &str) {
        self.state().used_jtis.forget(jti);
    }

    /// What passed by another configuration is dropped (RS-13). A request that was begun under the
    /// former one may come later; then the next one drops what that one has left.
    fn state_of(&self, generation: Generation) -> MutexGuard<'_, State> {
        let mut state = self.state();
        if state.generation != generation {
            state.generation = generation;
            state.recent.clear();
            state.passed.clear();
        }
        state
    }

    /// Poisoning is ignored: the state is valid after each single change, even if a thread panicked
    /// between two.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A token has one reusable proof: a newer one replaces the older one.
    fn keep(&mut self, token: &AccessToken, proof: &[u8]) {
        self.recent.retain(|pair| pair.token.hash() != token.hash());
        // `lookup` returns tokens for the scheme Bearer only. A token that came with another scheme
        // must not be returned there.
        if token.scheme() != Scheme::Bearer || token.secret().len() + proof.len() > MAX_PAIR_BYTES {
            return;
        }
        self.recent.truncate(RECENT - 1);
        let (token, proof) = (token.clone(), Zeroizing::new(proof.into()));
        self.recent.insert(0, Pair { token, proof });
    }
}

fn sha256(bytes: &[u8]) -> Digest {
    let mut digest = Digest::default();
    digest.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    digest
}
