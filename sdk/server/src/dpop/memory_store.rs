//! A replay store in the memory of one process.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::{Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use rustls_pki_types::UnixTime;

use super::{Insertion, ProofId, ReplayStore};

/// Stores used proofs in this process, up to a capacity, each until it is too old to be accepted.
///
/// An entry takes about 100 bytes. At a steady rate there are as many entries as requests within
/// the proofs' window ([`BindingLayer::windows`](crate::BindingLayer::windows)). When it is full,
/// requests are refused: accepting them without an entry would allow replays.
pub struct MemoryReplayStore {
    capacity: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    used: HashSet<ProofId>,
    /// By the last second for which they must be kept.
    by_expiry: BTreeMap<u64, Vec<ProofId>>,
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
            state: Mutex::default(),
        }
    }

    fn insert_now(&self, proof: ProofId, now: u64, until: u64) -> Insertion {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.used.contains(&proof) {
            return Insertion::Seen;
        }
        state.drop_expired(now);
        if state.used.len() >= self.capacity {
            return Insertion::Full;
        }
        state.used.insert(proof);
        state.by_expiry.entry(until).or_default().push(proof);
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
    fn insert(&self, proof: ProofId, now: UnixTime, until: UnixTime) -> BoxFuture<'_, Insertion> {
        ready(self.insert_now(proof, now.as_secs(), until.as_secs())).boxed()
    }
}

impl State {
    fn drop_expired(&mut self, now: u64) {
        for _ in 0..MAX_DROPPED_PER_INSERT {
            let Some(mut oldest) = self
                .by_expiry
                .first_entry()
                .filter(|oldest| *oldest.key() < now)
            else {
                return;
            };
            if let Some(proof) = oldest.get_mut().pop() {
                self.used.remove(&proof);
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
