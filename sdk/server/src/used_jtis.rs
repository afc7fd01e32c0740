//! The `jti` values that were used on one connection (RS-9), and how many all connections of a
//! layer store.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest;

use crate::ProofOwner;
use crate::shares::Shares;

/// The used `jti` values of one connection, each until RS-8 would refuse its proof anyway.
#[derive(Default)]
pub(crate) struct UsedJtis {
    used: HashSet<Digest>,
    /// By the last second for which they must be kept.
    by_expiry: BTreeMap<u64, Vec<(Digest, ProofOwner)>>,
    /// Of the first layer that used one on this connection. There should be no second one.
    total: Option<Arc<JtiTotal>>,
}

type Digest = [u8; 32];

/// A `jti` to be used, and within which bounds.
pub(crate) struct JtiUse<'a> {
    pub(crate) jti: &'a str,
    pub(crate) owner: ProofOwner,
    /// By a clock that never goes back.
    pub(crate) now: u64,
    /// The last second in which its proof would be accepted.
    pub(crate) until: u64,
    /// How many a connection may store.
    pub(crate) quota: usize,
    pub(crate) total: &'a Arc<JtiTotal>,
}

/// Why a `jti` was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JtiError {
    Seen,
    /// This connection stores as many as it may.
    QuotaFull,
    /// All connections together do.
    TotalFull,
}

impl UsedJtis {
    /// Marks a `jti` as used and returns how many more this connection may store.
    pub(crate) fn insert(&mut self, wanted: &JtiUse<'_>) -> Result<usize, JtiError> {
        let digest = sha256(wanted.jti.as_bytes());
        if self.used.contains(&digest) {
            return Err(JtiError::Seen);
        }
        self.drop_expired(wanted.now);
        if self.used.len() >= wanted.quota {
            return Err(JtiError::QuotaFull);
        }
        let total = self.total.get_or_insert_with(|| wanted.total.clone());
        if !total.shares().take(wanted.owner) {
            return Err(JtiError::TotalFull);
        }
        self.used.insert(digest);
        let last = self.by_expiry.entry(wanted.until).or_default();
        last.push((digest, wanted.owner));
        Ok(wanted.quota - self.used.len())
    }

    pub(crate) fn forget(&mut self, jti: &str) {
        let digest = sha256(jti.as_bytes());
        if !self.used.remove(&digest) {
            return;
        }
        for entries in self.by_expiry.values_mut() {
            if let Some(found) = entries.iter().position(|(used, _)| *used == digest) {
                let (_, owner) = entries.swap_remove(found);
                if let Some(total) = &self.total {
                    total.shares().give_back(owner);
                }
                return;
            }
        }
    }

    fn drop_expired(&mut self, now: u64) {
        let kept = self.by_expiry.split_off(&now);
        let expired = std::mem::replace(&mut self.by_expiry, kept);
        for (digest, _) in expired.values().flatten() {
            self.used.remove(digest);
        }
        self.give_back(&expired);
    }

    fn give_back(&self, entries: &BTreeMap<u64, Vec<(Digest, ProofOwner)>>) {
        let Some(total) = self.total.as_ref().filter(|_| !entries.is_empty()) else {
            return;
        };
        let mut shares = total.shares();
        for (_, owner) in entries.values().flatten() {
            shares.give_back(*owner);
        }
    }
}

/// RS-9: they are freed when the connection closes.
impl Drop for UsedJtis {
    fn drop(&mut self) {
        self.give_back(&self.by_expiry);
    }
}

/// How many used `jti` values all connections of a layer store.
pub(crate) struct JtiTotal(Mutex<Shares>);

impl JtiTotal {
    pub(crate) fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Shares::new(capacity))))
    }

    fn shares(&self) -> MutexGuard<'_, Shares> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn sha256(bytes: &[u8]) -> Digest {
    let mut digest = Digest::default();
    digest.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    digest
}
