//! How many requests are under way, and whose.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bowline::server::{ClientCertificate, ConnectionFacts, VerifiedBinding};

/// Requests at a time. When few places are left, one client cannot have them all: long event
/// streams hold a place each.
pub(super) struct Places {
    total: usize,
    hasher: RandomState,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    taken: usize,
    by_client: HashMap<Client, usize>,
}

/// A hash of what names a client, under a key of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Client(u64);

/// A request that is under way, until this is dropped.
pub(crate) struct Place {
    places: Arc<Places>,
    client: Client,
}

impl Places {
    pub(super) fn new(total: usize) -> Arc<Self> {
        Arc::new(Self {
            total,
            hasher: RandomState::new(),
            state: Mutex::default(),
        })
    }

    /// Its certificate's SPIFFE ID, else subject, else the certificate itself; without one its
    /// address, or the /64 of it. Behind a proxy that speaks for it, it is the client and not the
    /// proxy.
    pub(super) fn client(
        &self,
        binding: Option<&VerifiedBinding>,
        facts: Option<&ConnectionFacts>,
    ) -> Client {
        let own = facts.and_then(ConnectionFacts::certificate);
        let certificate = match binding {
            Some(binding) => binding.presented_certificate(),
            None => own,
        };
        let peer = facts.and_then(ConnectionFacts::peer);
        Client(match certificate {
            Some(certificate) => self.named(certificate),
            None => self.hasher.hash_one(peer.map(|peer| prefix(peer.ip()))),
        })
    }

    fn named(&self, certificate: &ClientCertificate) -> u64 {
        match (certificate.spiffe_id(), certificate.subject()) {
            (Some(id), _) => self.hasher.hash_one(id),
            (None, "") => self.hasher.hash_one(certificate.thumbprint().as_bytes()),
            (None, subject) => self.hasher.hash_one(subject),
        }
    }

    /// `None`: there is none, or none for this client.
    pub(super) fn take(self: &Arc<Self>, client: Client) -> Option<Place> {
        let mut state = self.state();
        let own = state.by_client.get(&client).copied().unwrap_or_default();
        let is_scarce = state.taken >= self.total.saturating_mul(4) / 5;
        if state.taken >= self.total || is_scarce && own > self.total / 5 {
            return None;
        }
        state.taken += 1;
        *state.by_client.entry(client).or_default() += 1;
        Some(Place {
            places: self.clone(),
            client,
        })
    }

    /// Poisoning is ignored: the state is valid after each single change.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.places.state();
        state.taken -= 1;
        if let Some(own) = state.by_client.get_mut(&self.client) {
            *own -= 1;
            if *own == 0 {
                state.by_client.remove(&self.client);
            }
        }
    }
}

/// Every host can have all addresses of its /64.
fn prefix(address: IpAddr) -> [u8; 8] {
    let mut prefix = [0; 8];
    match address.to_canonical() {
        IpAddr::V4(v4) => prefix[..4].copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => prefix.copy_from_slice(&v6.octets()[..8]),
    }
    prefix
}

#[cfg(test)]
mod tests;
