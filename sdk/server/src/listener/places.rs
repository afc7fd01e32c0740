//! Which connections may stay when there are many: the places of a listener, and who holds them.
//!
//! Knows no I/O. The rules are in [`ConnectionLimits`](crate::ConnectionLimits::max_connections).

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::DefaultClock;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::activity::Activity;
use crate::limit::Limit;
use crate::limit_reports::LimitReports;
use crate::owner::{AddressPrefix, Owner};
use crate::{ConnectionFacts, ConnectionLimits};

/// No connection is closed for another one before it is this old.
const MIN_AGE: Duration = Duration::from_secs(10);

/// From this share of the places on there are limits: 4 of 5.
const CROWDED: (usize, usize) = (4, 5);

/// The share of the places that connections without a certificate may hold: 1 of 5.
const UNVERIFIED: (usize, usize) = (1, 5);

/// Connections that were evicted and are still closing: at most a fifth of the places, and these.
const CLOSING: usize = 16;

/// Handshakes of one address in a second, and at once, while it is crowded.
const HANDSHAKES_A_SECOND: NonZeroU32 = NonZeroU32::new(20).unwrap();
const HANDSHAKES_AT_ONCE: NonZeroU32 = NonZeroU32::new(100).unwrap();

/// Addresses for which the rate is kept until those that rest are forgotten.
const MAX_ADDRESSES: usize = 4096;

type HandshakeRate = RateLimiter<AddressPrefix, HashMapStateStore<AddressPrefix>, DefaultClock>;

/// The places of one listener.
pub(crate) struct Places {
    max: usize,
    max_per_owner: Option<usize>,
    rate: HandshakeRate,
    limits: Arc<LimitReports>,
    table: Mutex<Table>,
}

/// A place that is taken. Dropping it frees it.
pub(crate) struct Place {
    number: u64,
    places: Arc<Places>,
    evicted: Arc<Notify>,
}

#[derive(Default)]
struct Table {
    next: u64,
    /// Connections in their handshake.
    handshakes: HashSet<u64>,
    /// Connections that were evicted and are not closed yet.
    closing: HashSet<u64>,
    settled: HashMap<u64, Holder>,
    holders: HashMap<Holder, HashMap<u64, Resident>>,
    /// How many connections the clients of each authority have.
    authorities: HashMap<Arc<str>, usize>,
    /// How many connections have no client certificate.
    unverified: usize,
}

/// Who holds connections. The same name from another authority is another holder, so that no
/// authority can speak for the clients of another.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Holder {
    /// The issuer of the client certificate, if there is one.
    authority: Option<Arc<str>>,
    owner: Owner,
}

struct Resident {
    since: Instant,
    activity: Arc<Activity>,
    evicted: Arc<Notify>,
}

impl Places {
    pub(crate) fn new(limits: &ConnectionLimits, reports: Arc<LimitReports>) -> Arc<Self> {
        let quota = Quota::per_second(HANDSHAKES_A_SECOND).allow_burst(HANDSHAKES_AT_ONCE);
        Arc::new(Self {
            max: limits.max_connections,
            max_per_owner: limits.max_connections_per_owner,
            rate: RateLimiter::hashmap(quota),
            limits: reports,
            table: Mutex::default(),
        })
    }

    /// A place for a connection from `peer`, before its handshake; `None` if it must be closed.
    pub(crate) fn admit(self: &Arc<Self>, peer: SocketAddr) -> Option<Place> {
        let prefix = AddressPrefix::of(peer.ip());
        let refused = |limit| {
            self.limits.reached(limit, &Owner::Address(prefix));
            None
        };
        let mut table = self.table();
        let evicted = if is_more(table.held() + 1, CROWDED, self.max) {
            if self.exceeds_rate(prefix) {
                drop(table);
                return refused(Limit::HandshakeRate);
            }
            match table.victim(self.max) {
                Some(_) if table.closing.len() > self.max / 5 + CLOSING => {
                    drop(table);
                    return refused(Limit::Full);
                }
                Some((holder, number)) => {
                    table.evict(number);
                    Some(holder.owner)
                }
                None if table.held() >= self.max => {
                    drop(table);
                    return refused(Limit::Full);
                }
                None => None,
            }
        } else {
            None
        };
        table.next += 1;
        let number = table.next;
        table.handshakes.insert(number);
        drop(table);
        if let Some(owner) = evicted {
            self.limits.reached(Limit::Evicted, &owner);
        }
        Some(Place {
            number,
            places: self.clone(),
            evicted: Arc::default(),
        })
    }

    fn exceeds_rate(&self, prefix: AddressPrefix) -> bool {
        if self.rate.len() > MAX_ADDRESSES {
            self.rate.retain_recent();
        }
        self.rate.check_key(&prefix).is_err()
    }

    /// Poisoning is ignored: the table is valid after each single change.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The handshake has succeeded, so that the holder is known. `false` if the owner holds too
    /// many connections, and none of them can be closed for this one.
    pub(crate) fn settle(&self, facts: &ConnectionFacts, activity: &Arc<Activity>) -> bool {
        let holder = Holder {
            authority: facts.certificate().map(|one| one.issuer().clone()),
            owner: facts.owner(),
        };
        self.settle_as(holder, activity)
    }

    fn settle_as(&self, holder: Holder, activity: &Arc<Activity>) -> bool {
        let mut table = self.places.table();
        let held = table.holders.get(&holder).map_or(0, HashMap::len);
        if self.places.max_per_owner.is_some_and(|max| held >= max) {
            let victim = table.idlest([&holder].into_iter());
            if let Some((_, number)) = victim {
                table.evict(number);
            }
            drop(table);
            self.places.limits.reached(Limit::OwnerFull, &holder.owner);
            if victim.is_none() {
                return false;
            }
            table = self.places.table();
        }
        let resident = Resident {
            since: Instant::now(),
            activity: activity.clone(),
            evicted: self.evicted.clone(),
        };
        table.settle(self.number, holder, resident);
        true
    }

    /// Completes when the connection must go for another one.
    pub(crate) async fn evicted(&self) {
        self.evicted.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.table().free(self.number);
    }
}

impl Table {
    /// Without those that are closing.
    fn held(&self) -> usize {
        self.handshakes.len() + self.settled.len()
    }

    fn settle(&mut self, number: u64, holder: Holder, resident: Resident) {
        self.handshakes.remove(&number);
        match &holder.authority {
            Some(authority) => *self.authorities.entry(authority.clone()).or_default() += 1,
            None => self.unverified += 1,
        }
        self.settled.insert(number, holder.clone());
        self.holders
            .entry(holder)
            .or_default()
            .insert(number, resident);
    }

    /// Frees a place. Returns the connection that had it, if its handshake was over.
    fn free(&mut self, number: u64) -> Option<Resident> {
        self.handshakes.remove(&number);
        self.closing.remove(&number);
        let holder = self.settled.remove(&number)?;
        match &holder.authority {
            Some(authority) => {
                if let Some(count) = self.authorities.get_mut(authority) {
                    *count -= 1;
                    if *count == 0 {
                        self.authorities.remove(authority);
                    }
                }
            }
            None => self.unverified -= 1,
        }
        let residents = self.holders.get_mut(&holder)?;
        let resident = residents.remove(&number);
        if residents.is_empty() {
            self.holders.remove(&holder);
        }
        resident
    }

    fn evict(&mut self, number: u64) {
        if let Some(resident) = self.free(number) {
            self.closing.insert(number);
            resident.evicted.notify_one();
        }
    }

    /// The connection that has to go for a new one.
    fn victim(&self, max: usize) -> Option<(Holder, u64)> {
        let unverified = if is_more(self.unverified, UNVERIFIED, max) {
            self.idlest(self.largest(|authority| authority.is_none()))
        } else {
            None
        };
        unverified.or_else(|| {
            let most = self.authorities.values().copied().max()?;
            let holds_most = |authority: &Option<Arc<str>>| {
                let authority = authority.as_ref();
                authority.is_some_and(|authority| self.authorities.get(authority) == Some(&most))
            };
            self.idlest(self.largest(holds_most))
        })
    }

    /// The holders that hold most, of those with such an authority.
    fn largest(&self, of: impl Fn(&Option<Arc<str>>) -> bool) -> impl Iterator<Item = &Holder> {
        let mut most = 0;
        let mut largest = Vec::new();
        for (holder, residents) in &self.holders {
            if residents.len() < most || !of(&holder.authority) {
                continue;
            }
            if residents.len() > most {
                largest.clear();
                most = residents.len();
            }
            largest.push(holder);
        }
        largest.into_iter()
    }

    /// The connection of these holders that has been idle for longest, of those that may go.
    fn idlest<'a>(&self, holders: impl Iterator<Item = &'a Holder>) -> Option<(Holder, u64)> {
        let now = Instant::now();
        let (_, holder, number) = holders
            .filter_map(|holder| Some((holder, self.holders.get(holder)?)))
            .flat_map(|(holder, residents)| residents.iter().map(move |one| (holder, one)))
            .filter(|(_, (_, resident))| now.duration_since(resident.since) >= MIN_AGE)
            .filter_map(|(holder, (number, resident))| {
                Some((resident.activity.idle_since()?, holder, *number))
            })
            .min_by_key(|(since, _, number)| (*since, *number))?;
        Some((holder.clone(), number))
    }
}

/// Whether `held` is more than this share of `max`.
fn is_more(held: usize, (part, of): (usize, usize), max: usize) -> bool {
    held.saturating_mul(of) > max.saturating_mul(part)
}

#[cfg(test)]
mod tests;
