//! A replay store in the memory of one process.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::{Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use rustls_pki_types::UnixTime;

use super::{Insertion, ProofId, ProofOwner, ReplayStore, UsedProof};
use crate::shares::Shares;

/// Stores used proofs in this process, up to a capacity, each until it is too old to be accepted.
///
/// An entry takes about 150 bytes. At a steady rate there are as many entries as requests within
/// the proofs' window ([`BindingLayer::windows`](crate::BindingLayer::windows)). When it is full,
/// requests are refused: accepting them without an entry would allow replays. Once it is 80 % full,
/// those of an owner that holds 1 % of it are refused, so that one client cannot fill it.
pub struct MemoryReplayStore {
    capacity: usize,
    state: Mutex<State>,
}

struct State {
    used: HashSet<ProofId>,
    /// By the last second for which they must be kept.
    by_expiry: BTreeMap<u64, Vec<(ProofId, ProofOwner)>>,
    shares: Shares,
    /// The newest time that a caller has named: entries were dropped by it.
    newest: u64,
}

/// How many expired entries each insertion drops at most, so that no single request has to drop all
/// of them.
const MAX_DROPPED_PER_INSERT: usize = 16;

impl MemoryReplayStore {
    /// For at most `capacity` entries.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            state: Mutex::new(State {
                used: HashSet::new(),
                by_expiry: BTreeMap::new(),
                shares: Shares::new(capacity),
                newest: 0,
            }),
        }
    }

    fn insert_now(&self, proof: ProofId, owner: ProofOwner, now: u64, until: u64) -> Insertion {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.newest = state.newest.max(now);
        // Its entry may have been dropped already, if the caller's clock has been set back.
        if state.used.contains(&proof) || until < state.newest {
            return Insertion::Seen;
        }
        state.drop_expired();
        if !state.shares.take(owner) {
            return Insertion::Full;
        }
        state.used.insert(proof);
        let last = state.by_expiry.entry(until).or_default();
        last.push((proof, owner));
        Insertion::Fresh
    }
}

impl Default for MemoryReplayStore {
    /// A million entries, which suffices for 2,700 requests a second with the default windows.
    fn default() -> Self {
        Self::new(1_000_000)
    }
}

impl ReplayStore for MemoryReplayStore {
    fn insert(&self, proof: UsedProof, now: UnixTime) -> BoxFuture<'_, Insertion> {
        let UsedProof { id, owner, until } = proof;
        ready(self.insert_now(id, owner, now.as_secs(), until.as_secs())).boxed()
    }
}

impl State {
    fn drop_expired(&mut self) {
        for _ in 0..MAX_DROPPED_PER_INSERT {
            let Some(mut oldest) = self
                .by_expiry
                .first_entry()
                .filter(|oldest| *oldest.key() < self.newest)
            else {
                return;
            };
            if let Some((proof, owner)) = oldest.get_mut().pop() {
                self.used.remove(&proof);
                self.shares.give_back(owner);
            }
            if oldest.get().is_empty() {
                oldest.remove();
            }
        }
    }
}

impl fmt::Debug for MemoryReplayStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryReplayStore")
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
