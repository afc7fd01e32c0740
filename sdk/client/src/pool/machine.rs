//! What the pool decides: events in, actions out, no I/O, and the time is an argument.
//!
//! - h2: one connection however many requests wait for it; another one when the peer's stream limit
//!   is reached.
//! - h1: an idle connection is taken last in, first out; a waiting request takes whichever comes
//!   first, a returned connection or a new one, and the loser is kept idle.
//! - Of several that would do, one that already holds a proof of the request's token is taken.
//! - Until ALPN has spoken, h2 is assumed: one connection is opened and its answer decides whether
//!   more are needed.
//! - Connections are limited per key and in all. A request that cannot open one waits in
//!   order of arrival, and an idle connection of another key makes room.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::conn::facts::{ConnectionId, HttpVersion};
use crate::observe::CloseReason;

/// Connections whose peer allows no streams (SETTINGS_MAX_CONCURRENT_STREAMS is 0), and which carry
/// no request: with so many, no other one is opened.
const MAX_STREAMLESS: usize = 2;

/// A request that waits for a connection, in order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct WaiterId(pub(crate) u64);

/// Connections that can stand in for each other: of one origin and one identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct KeyId(pub(crate) u64);

/// How many connections there may be, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Limits {
    pub(crate) per_key: usize,
    pub(crate) in_all: usize,
    pub(crate) idle: Duration,
    pub(crate) age: Option<Duration>,
}

/// A new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NewConnection {
    pub(crate) id: ConnectionId,
    pub(crate) http: HttpVersion,
    /// Requests that it takes at a time (h2: the peer's SETTINGS_MAX_CONCURRENT_STREAMS).
    pub(crate) streams: usize,
    /// When its certificate stops being valid.
    pub(crate) until: Option<Instant>,
}

/// What happened in a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A request wants a connection.
    Wanted(WaiterId),
    /// A waiting request is gone.
    WaiterGone(WaiterId),
    /// An opening succeeded.
    Opened(NewConnection),
    /// An opening failed.
    OpenFailed,
    /// An h1 connection has carried its response to the end and will be free as soon as hyper has
    /// noticed: worth waiting for rather than open another. `Released` or `Closed` follows.
    Returning(ConnectionId),
    /// A request on the connection has come to its end. h1: it can take another, and says for how
    /// long it may be idle if the peer said so (`Keep-Alive: timeout`).
    Released(ConnectionId, Option<Duration>),
    /// The peer has changed how many requests the connection takes at a time.
    Streams(ConnectionId, usize),
    /// The connection takes no more requests.
    Closed(ConnectionId),
}

/// What is to be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Open one more connection.
    Open(KeyId),
    /// Give the connection to the waiting request: alone if it is h1, as one of many if it is h2.
    Assign(KeyId, ConnectionId, WaiterId),
    /// Tell the waiting request that no connection could be opened.
    Fail(KeyId, WaiterId),
    /// Let the connection go; `Closed` follows when it has gone.
    Close(KeyId, ConnectionId, CloseReason),
}

/// The state of a client's pool.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Machine {
    limits: Limits,
    keys: BTreeMap<KeyId, KeyState>,
    /// Connections that are open or opening, over all keys.
    total: usize,
    /// Keys that may not open what they need because `total` is at its limit, the longest waiting
    /// first.
    blocked: VecDeque<KeyId>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct KeyState {
    /// In the order of their last return.
    members: Vec<Member>,
    /// Requests without a connection, the oldest first.
    waiting: VecDeque<WaiterId>,
    /// Openings under way.
    opening: usize,
    /// What ALPN chose last.
    speaks: Option<HttpVersion>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Member {
    id: ConnectionId,
    /// Requests under way.
    busy: usize,
    /// Requests that it takes at a time.
    streams: usize,
    /// It will be free at once.
    returning: bool,
    /// When it is to be let go if it is idle until then.
    idle_until: Instant,
    /// When it takes no more requests, and why.
    ends: Option<(Instant, CloseReason)>,
    /// It takes no more requests. Once idle it is closed for this reason.
    retiring: Option<CloseReason>,
    /// Its close was asked for.
    closing: bool,
}

impl Member {
    fn is_open(&self) -> bool {
        self.retiring.is_none() && !self.closing
    }

    fn is_free(&self) -> bool {
        self.is_open() && self.busy < self.streams
    }

    fn is_idle(&self) -> bool {
        !self.closing && self.busy == 0
    }
}

impl Machine {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            keys: BTreeMap::new(),
            total: 0,
            blocked: VecDeque::new(),
        }
    }

    /// Takes an event and writes the actions that follow from it, in order. `holds` tells whether a
    /// connection already has a proof of the token of the request that wants one.
    pub(crate) fn handle(
        &mut self,
        now: Instant,
        key_id: KeyId,
        event: Event,
        holds: impl Fn(ConnectionId) -> bool,
        actions: &mut Vec<Action>,
    ) {
        let entry = self.keys.entry(key_id).or_default();
        match event {
            Event::Wanted(waiter) => match entry.free(now, holds) {
                Some(member) => {
                    member.busy += 1;
                    actions.push(Action::Assign(key_id, member.id, waiter));
                    // The usual case ends here: no other request is affected.
                    return;
                }
                None => entry.waiting.push_back(waiter),
            },
            Event::WaiterGone(waiter) => entry.waiting.retain(|w| *w != waiter),
            Event::Opened(new) => {
                entry.opening -= 1;
                entry.speaks = Some(new.http);
                let member = self.limits.member(now, new);
                entry.members.push(member);
            }
            Event::OpenFailed => {
                entry.opening -= 1;
                self.total -= 1;
                entry.open_failed(key_id, actions);
            }
            Event::Returning(id) => {
                if let Some(member) = entry.members.iter_mut().find(|m| m.id == id) {
                    member.returning = true;
                }
            }
            Event::Released(id, keep_alive) => {
                let idle = keep_alive.map_or(self.limits.idle, |said| self.limits.idle.min(said));
                let is_open = entry.release(id, now + idle, now);
                if is_open && entry.waiting.is_empty() && self.blocked.is_empty() {
                    // The usual case ends here: no request waits for it.
                    return;
                }
                self.yield_to_older(key_id, actions);
            }
            Event::Streams(id, streams) => {
                if let Some(member) = entry.members.iter_mut().find(|m| m.id == id) {
                    member.streams = streams;
                }
            }
            Event::Closed(id) => {
                let before = entry.members.len();
                entry.members.retain(|m| m.id != id);
                self.total -= before - entry.members.len();
            }
        }
        self.serve_waiting(now, key_id, actions);
    }

    /// Closes connections that were idle, or open, for too long.
    pub(crate) fn tick(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let ids: Vec<_> = self.keys.keys().copied().collect();
        for id in ids {
            self.serve_waiting(now, id, actions);
        }
        self.keys.retain(|_, entry| !entry.is_unused());
    }

    /// When `tick` will have something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let members = self.keys.values().flat_map(|entry| &entry.members);
        members
            .filter(|m| !m.closing)
            .filter_map(Member::deadline)
            .min()
    }

    /// Whether there are connections, open or opening.
    pub(crate) fn has_connections(&self) -> bool {
        self.total > 0
    }

    /// Whether the key has connections, or requests that wait for one.
    pub(crate) fn uses(&self, key: KeyId) -> bool {
        self.keys.get(&key).is_some_and(|entry| !entry.is_unused())
    }

    /// Assigns the free connections of a key to its waiting requests, then opens connections for
    /// the requests that still wait, as far as the limits allow.
    fn serve_waiting(&mut self, now: Instant, id: KeyId, actions: &mut Vec<Action>) {
        let Some(entry) = self.keys.get_mut(&id) else {
            return;
        };
        entry.retire_over_age(now);
        entry.assign_free(now, id, actions);
        entry.close_finished(now, id, actions);
        if entry.lacks() > 0 && !self.blocked.contains(&id) {
            self.blocked.push_back(id);
        }
        self.open_what_is_missing(actions);
    }

    fn open_what_is_missing(&mut self, actions: &mut Vec<Action>) {
        let mut blocked = std::mem::take(&mut self.blocked);
        blocked.retain(|id| {
            let Some(entry) = self.keys.get_mut(id) else {
                return false;
            };
            while entry.lacks() > 0
                && entry.size() < self.limits.per_key
                && self.total < self.limits.in_all
            {
                entry.opening += 1;
                self.total += 1;
                actions.push(Action::Open(*id));
            }
            // A key at its own limit waits for its own connections.
            entry.lacks() > 0 && entry.size() < self.limits.per_key
        });
        self.blocked = blocked;
        self.make_room(actions);
    }

    /// Closes as many idle connections as there are blocked keys, the longest idle first.
    fn make_room(&mut self, actions: &mut Vec<Action>) {
        let closing = self
            .keys
            .values()
            .flat_map(|entry| &entry.members)
            .filter(|m| m.closing)
            .count();
        for _ in closing..self.blocked.len() {
            let members = self
                .keys
                .iter_mut()
                .flat_map(|(id, entry)| entry.members.iter_mut().map(|m| (*id, m)));
            let Some((key, victim)) = members
                .filter(|(_, m)| m.is_idle())
                .min_by_key(|(_, m)| m.idle_until)
            else {
                return;
            };
            victim.closing = true;
            actions.push(Action::Close(key, victim.id, CloseReason::Evicted));
        }
    }

    /// A connection that came free makes room for an older request of another key rather than
    /// serve a younger one of its own.
    fn yield_to_older(&mut self, id: KeyId, actions: &mut Vec<Action>) {
        if let (Some(older), Some(own)) = (self.oldest_blocked(id), self.oldest_of(id))
            && older < own
        {
            self.make_room(actions);
        }
    }

    /// The oldest request of another key that waits because there are too many connections in all.
    fn oldest_blocked(&self, except: KeyId) -> Option<WaiterId> {
        self.blocked
            .iter()
            .filter(|id| **id != except)
            .filter_map(|id| self.oldest_of(*id))
            .min()
    }

    fn oldest_of(&self, id: KeyId) -> Option<WaiterId> {
        self.keys.get(&id)?.waiting.front().copied()
    }
}

impl Limits {
    fn member(&self, now: Instant, new: NewConnection) -> Member {
        let aged = self.age.map(|age| (now + age, CloseReason::Age));
        let expired = new.until.map(|until| (until, CloseReason::Identity));
        Member {
            id: new.id,
            busy: 0,
            streams: new.streams,
            returning: false,
            idle_until: now + self.idle,
            ends: aged
                .into_iter()
                .chain(expired)
                .min_by_key(|(when, _)| *when),
            retiring: None,
            closing: false,
        }
    }
}

impl Member {
    fn deadline(&self) -> Option<Instant> {
        let ends = self
            .ends
            .filter(|_| self.retiring.is_none())
            .map(|(when, _)| when);
        let idle = (self.busy == 0).then_some(self.idle_until);
        ends.into_iter().chain(idle).min()
    }
}

impl KeyState {
    /// A connection for one more request: one that holds its proof, else the last returned.
    fn free(&mut self, now: Instant, holds: impl Fn(ConnectionId) -> bool) -> Option<&mut Member> {
        let is_free =
            |m: &Member| m.is_free() && m.deadline().is_none_or(|deadline| deadline > now);
        let free = |m: &&(usize, &Member)| is_free(m.1);
        let members = || self.members.iter().enumerate().rev();
        let has_choice = self.members.len() > 1;
        let index = members()
            .filter(|m| has_choice && free(&m))
            .find(|(_, m)| holds(m.id))
            .or_else(|| members().find(|m| free(&m)))
            .map(|(index, _)| index)?;
        self.members.get_mut(index)
    }

    fn assign_free(&mut self, now: Instant, id: KeyId, actions: &mut Vec<Action>) {
        while let Some(waiter) = self.waiting.front().copied() {
            let Some(member) = self.free(now, |_| false) else {
                return;
            };
            member.busy += 1;
            actions.push(Action::Assign(id, member.id, waiter));
            self.waiting.pop_front();
        }
    }

    /// A connection has one request less, and is now the last returned; whether it takes more.
    fn release(&mut self, id: ConnectionId, idle_until: Instant, now: Instant) -> bool {
        let Some(index) = self.members.iter().position(|m| m.id == id) else {
            return false;
        };
        self.members[index..].rotate_left(1);
        let Some(member) = self.members.last_mut() else {
            return false;
        };
        member.busy = member.busy.saturating_sub(1);
        member.returning = false;
        member.idle_until = idle_until;
        member.is_open() && member.deadline().is_none_or(|deadline| deadline > now)
    }

    fn retire_over_age(&mut self, now: Instant) {
        for member in &mut self.members {
            if let Some((when, reason)) = member.ends
                && when <= now
                && member.is_open()
            {
                member.retiring = Some(reason);
            }
        }
    }

    fn close_finished(&mut self, now: Instant, id: KeyId, actions: &mut Vec<Action>) {
        for member in &mut self.members {
            let reason = match member.retiring {
                Some(reason) => reason,
                None if member.idle_until <= now => CloseReason::Idle,
                None => continue,
            };
            if member.is_idle() {
                member.closing = true;
                actions.push(Action::Close(id, member.id, reason));
            }
        }
    }

    /// The failure goes to the requests that no other connection can serve. Each failure reaches at
    /// least one waiting request, so that a server which is down is not called for ever.
    fn open_failed(&mut self, id: KeyId, actions: &mut Vec<Action>) {
        let others = self.members.iter().filter(|m| m.is_open()).count();
        let failed = match self.speaks {
            Some(HttpVersion::H1) => self.waiting.len().saturating_sub(self.opening).min(1),
            Some(HttpVersion::H2) | None if others == 0 => self.waiting.len(),
            Some(HttpVersion::H2) | None => self.waiting.len().min(1),
        };
        actions.extend(
            self.waiting
                .drain(..failed)
                .map(|waiter| Action::Fail(id, waiter)),
        );
    }

    /// How many more openings the waiting requests could use.
    fn lacks(&self) -> usize {
        let useful = match self.speaks {
            Some(HttpVersion::H1) => self.waiting.len(),
            // One after the other: each serves many.
            Some(HttpVersion::H2) | None => self.waiting.len().min(1),
        };
        let returning = self
            .members
            .iter()
            .filter(|m| m.returning && m.is_open())
            .count();
        // A peer that allows no streams would allow none on any number of connections.
        let streamless = self
            .members
            .iter()
            .filter(|m| m.is_open() && m.streams == 0 && m.busy == 0)
            .count();
        if streamless >= MAX_STREAMLESS {
            return 0;
        }
        useful.saturating_sub(self.opening + returning)
    }

    /// Connections that are open or opening.
    fn size(&self) -> usize {
        self.members.len() + self.opening
    }

    fn is_unused(&self) -> bool {
        self.members.is_empty() && self.waiting.is_empty() && self.opening == 0
    }
}

#[cfg(test)]
mod tests;
