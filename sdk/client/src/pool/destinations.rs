//! Where a client's connections lead to: one destination for each origin and identity, and the
//! number of its key in the machine.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use bowline_proof::Thumbprint;

use super::machine::KeyId;
use crate::conn::dial::Destination;
use crate::conn::identities::IdentityConfig;
use crate::conn::tls::{self, LastCertificateRequest};
use crate::origin::Origin;

/// Beyond this many, destinations without a connection are forgotten, with their session tickets.
const MAX_DESTINATIONS: usize = 1024;

pub(super) struct Destinations {
    keys: HashMap<PoolKey, KeyId>,
    /// Its keys are numbers of ours: nobody can choose them so that they collide.
    by_key: HashMap<KeyId, Arc<Destination>, lru::DefaultHasher>,
    /// The destination of the last request: many clients have only one, and this is looked up under
    /// the pool's lock.
    last_used: Option<(KeyId, Arc<Destination>)>,
    last_key: u64,
    /// With so many, the unused ones are looked for. Where more are in use, later: it must not be
    /// done for each new one.
    looks_at: usize,
}

/// What makes connections interchangeable.
#[derive(Clone, PartialEq, Eq, Hash)]
struct PoolKey {
    origin: Origin,
    identity: Option<Thumbprint>,
}

/// A [`PoolKey`] whose parts are somewhere else: to look one up copies nothing.
trait AsPoolKey {
    fn parts(&self) -> (&Origin, Option<Thumbprint>);
}

impl AsPoolKey for PoolKey {
    fn parts(&self) -> (&Origin, Option<Thumbprint>) {
        (&self.origin, self.identity)
    }
}

impl AsPoolKey for (&Origin, Option<Thumbprint>) {
    fn parts(&self) -> (&Origin, Option<Thumbprint>) {
        *self
    }
}

impl<'a> Borrow<dyn AsPoolKey + 'a> for PoolKey {
    fn borrow(&self) -> &(dyn AsPoolKey + 'a) {
        self
    }
}

impl PartialEq for dyn AsPoolKey + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for dyn AsPoolKey + '_ {}

/// As `PoolKey` derives it: both find the same entry.
impl Hash for dyn AsPoolKey + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

impl Destinations {
    pub(super) fn new() -> Self {
        Self {
            keys: HashMap::new(),
            by_key: HashMap::default(),
            last_used: None,
            last_key: 0,
            looks_at: MAX_DESTINATIONS,
        }
    }

    pub(super) fn get(&self, key: KeyId) -> Option<&Arc<Destination>> {
        self.by_key.get(&key)
    }

    /// The key of an origin and an identity. `uses` tells whether a key is in use: a new one may
    /// make others be forgotten.
    pub(super) fn key(
        &mut self,
        origin: &Origin,
        identity: &Arc<IdentityConfig>,
        uses: impl Fn(KeyId) -> bool,
    ) -> KeyId {
        let thumbprint = identity.thumbprint();
        if let Some((key, destination)) = &self.last_used
            && destination.origin == *origin
            && destination.identity.thumbprint() == thumbprint
        {
            return *key;
        }
        let found = self
            .keys
            .get(&(origin, thumbprint) as &dyn AsPoolKey)
            .copied();
        let key = found.unwrap_or_else(|| self.insert(origin, identity, uses));
        let destination = self.by_key.get(&key);
        self.last_used = destination.map(|destination| (key, destination.clone()));
        key
    }

    fn insert(
        &mut self,
        origin: &Origin,
        identity: &Arc<IdentityConfig>,
        uses: impl Fn(KeyId) -> bool,
    ) -> KeyId {
        if self.keys.len() >= self.looks_at {
            self.keys.retain(|_, key| uses(*key));
            self.by_key.retain(|key, _| uses(*key));
            self.last_used = None;
            self.looks_at = MAX_DESTINATIONS.max(2 * self.keys.len());
        }
        self.last_key += 1;
        let key = KeyId(self.last_key);
        let destination = Destination {
            origin: origin.clone(),
            identity: identity.clone(),
            tls: origin.is_https().then(|| tls::for_origin(&identity.tls)),
            last_request: LastCertificateRequest::default(),
        };
        self.by_key.insert(key, Arc::new(destination));
        let pool_key = PoolKey {
            origin: origin.clone(),
            identity: identity.thumbprint(),
        };
        self.keys.insert(pool_key, key);
        key
    }
}

#[cfg(test)]
mod tests;
