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

mod agenda;
mod ahead;
mod demand;
mod h1;
mod habits;
mod key;
mod member;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::conn::facts::{ConnectionId, HttpVersion};
use crate::observe::CloseReason;

use agenda::Agenda;
use key::KeyState;
use member::{Member, Succession};

pub(crate) use habits::Habit;

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
    /// Whether connections are opened ahead, to take over from those that are about to end.
    pub(crate) ahead: bool,
    /// A rule that does not hold, so that the exploration can be seen to notice.
    #[cfg(test)]
    pub(crate) broken: Option<Rule>,
}

/// Rules of opening ahead that a test can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Rule {
    /// Each connection has one successor at most.
    OneSuccessor,
    /// What is idle gets none.
    InUse,
    /// Ten a minute for each connection that is open.
    Bound,
}

impl Limits {
    fn breaks(&self, rule: Rule) -> bool {
        #[cfg(test)]
        return self.broken == Some(rule);
        #[cfg(not(test))]
        {
            let _ = rule;
            false
        }
    }
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
    /// How long it took to open.
    pub(crate) took: Duration,
    /// Random.
    pub(crate) jitter: u16,
}

/// Whether a request may be sent again if its connection ends before it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Resend {
    Allowed,
    Never,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Ending {
    /// The peer has sent GOAWAY, under TLS.
    Goaway,
    /// The peer has said under TLS that it is over: close_notify, or `Connection: close`.
    Orderly,
    /// We ended it, or it broke, or nothing proves that the peer ended it.
    Other,
}

/// What a request has made of the connection that it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Nothing was written.
    None,
    /// h2: a stream.
    Stream,
    /// h1: it had the connection to itself.
    Alone {
        /// For how long, from when it was written.
        took: Duration,
        /// How long the connection may be idle, if the peer said so (`Keep-Alive: timeout`).
        keep_alive: Option<Duration>,
    },
}

/// What happened in a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A request wants a connection.
    Wanted(WaiterId, Resend),
    /// A waiting request is gone.
    WaiterGone(WaiterId),
    /// An opening succeeded.
    Opened(NewConnection),
    /// An opening failed.
    OpenFailed,
    /// An opening ahead succeeded: the new connection is made ready to take over from this one.
    OpenedAhead(NewConnection, ConnectionId),
    /// An opening ahead failed: that of the successor of this one.
    OpenAheadFailed(ConnectionId),
    /// The connection is ready to take over; how long its proofs have taken, if any were made.
    Ready(ConnectionId, Option<Duration>),
    /// How long the proof takes that a request needs on a connection which does not hold it.
    ProofsTake(Duration),
    /// The peer takes so many more requests on the connection (`Keep-Alive: max`).
    Left(ConnectionId, u64),
    /// An h1 connection has carried its response to the end and will be free as soon as hyper has
    /// noticed: worth waiting for rather than open another. `Released` or `Closed` follows.
    Returning(ConnectionId),
    /// A request on the connection has come to its end. h1: it can take another.
    Released(ConnectionId, Use),
    /// The peer has changed how many requests the connection takes at a time.
    Streams(ConnectionId, usize),
    /// The connection takes no more requests.
    Closed(ConnectionId, Ending),
    /// The certificate of this connection, which is of another key, is about to expire: the
    /// requests that it carries will come to this key.
    Expected(ConnectionId),
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
    /// Open a connection that takes over from this one, which was in use within this time before
    /// its end. `OpenedAhead` or `OpenAheadFailed` follows, and `Ready`.
    OpenAhead(KeyId, ConnectionId, Duration),
    /// For a minute no connection is opened ahead in this key: there were too many.
    StopAhead(KeyId),
    /// An idle connection may have ended, so another one is opened.
    Distrust(KeyId),
    /// The certificate of this connection, which is in use, is about to expire. If another one is
    /// held, `Expected` follows for that one's key.
    Expires(KeyId, ConnectionId),
}

/// The state of a client's pool. No step looks at more than the connections of one key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Machine {
    limits: Limits,
    keys: BTreeMap<KeyId, KeyState>,
    /// Connections that are open or opening, over all keys.
    total: usize,
    /// Connections whose close was asked for, over all keys.
    closing: usize,
    /// When each key is to be looked at.
    due: Agenda,
    /// When the first idle connection of each key is to be let go.
    idle: Agenda,
    /// Keys that may not open what they need because `total` is at its limit, each with its request
    /// that waits longest.
    blocked: BTreeSet<(WaiterId, KeyId)>,
}

impl Machine {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            keys: BTreeMap::new(),
            total: 0,
            closing: 0,
            due: Agenda::default(),
            idle: Agenda::default(),
            blocked: BTreeSet::new(),
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
        entry.count_waiting(now);
        match event {
            Event::Wanted(waiter, resend) => {
                let (habit, lead) = (entry.habits.habit(), entry.ahead.lead());
                let takes_stale = resend == Resend::Allowed;
                let none_waits = entry.waiting.is_empty();
                if let Some(member) = entry.free(now, takes_stale, holds) {
                    member.assign(now);
                    actions.push(Action::Assign(key_id, member.id, waiter));
                    // The usual case ends here: no other request is affected.
                    let is_ending = || {
                        member.succession == Succession::Open
                            && member.is_to_be_replaced(now, habit, lead)
                    };
                    if self.limits.ahead && (is_ending() || member.expires_soon(now)) {
                        self.open_ahead(now, key_id, actions);
                    }
                    if !none_waits {
                        // Others wait for this connection.
                        self.serve_waiting(now, key_id, actions);
                    }
                    return;
                }
                let has_room = self.blocked.is_empty()
                    && self.total < self.limits.in_all
                    && entry.size() < self.limits.per_key;
                if self.limits.ahead && !takes_stale && has_room && entry.distrusts(now) {
                    entry.begin_opening(now);
                    self.total += 1;
                    actions.extend([Action::Open(key_id), Action::Distrust(key_id)]);
                }
                entry.waiting.insert(waiter, resend);
            }
            Event::WaiterGone(waiter) => {
                entry.waiting.remove(&waiter);
            }
            Event::Opened(new) => {
                entry.end_opening();
                entry.speaks = Some(new.http);
                entry.ahead.opened(new.took);
                let member = Member::new(now, &self.limits, new);
                entry.members.push(Box::new(member));
                let until = now + self.limits.idle;
                self.idle.note(&mut entry.idle, key_id, until);
            }
            Event::OpenedAhead(new, old) => {
                entry.end_opening();
                entry.speaks = Some(new.http);
                entry.ahead.opened(new.took);
                let is_open = entry.member(old).is_some_and(|old| old.is_open());
                let mut member = Member::new(now, &self.limits, new);
                member.prepares_for = is_open.then_some(old);
                entry.members.push(Box::new(member));
                let until = now + self.limits.idle;
                self.idle.note(&mut entry.idle, key_id, until);
            }
            Event::OpenFailed => {
                entry.end_opening();
                self.total -= 1;
                // A stale connection, if there is one, is better than an error.
                entry.assign_free(now, key_id, actions);
                entry.open_failed(key_id, actions);
            }
            Event::OpenAheadFailed(old) => {
                // No request's failure: what waits for a connection gets an opening of its own.
                entry.end_opening();
                self.total -= 1;
                if let Some(old) = entry.member(old) {
                    old.succession = Succession::Failed;
                }
            }
            Event::Ready(id, took) => {
                if let Some(took) = took {
                    entry.ahead.proved(took);
                }
                entry.take_over(id, now);
            }
            Event::Left(id, requests) => {
                let (habit, lead) = (entry.habits.habit(), entry.ahead.lead());
                let Some(member) = entry.member(id) else {
                    return;
                };
                member.ends_after = Some(member.requests.saturating_add(requests));
                if self.limits.ahead && member.is_to_be_replaced(now, habit, lead) {
                    self.open_ahead(now, key_id, actions);
                }
                return;
            }
            Event::ProofsTake(time) => {
                entry.demand.proofs_take(time);
                if entry.waiting.is_empty() {
                    return;
                }
            }
            Event::Returning(id) => {
                if let Some(member) = entry.member(id) {
                    member.returning = true;
                }
            }
            Event::Released(id, made) => {
                let (is_open, idle_until) = entry.release(id, made, self.limits.idle, now);
                self.due.note(&mut entry.due, key_id, idle_until);
                self.idle.note(&mut entry.idle, key_id, idle_until);
                if is_open && entry.waiting.is_empty() && self.blocked.is_empty() {
                    // The usual case ends here: no request waits for it.
                    return;
                }
                self.yield_to_older(key_id, actions);
            }
            Event::Streams(id, streams) => {
                if let Some(member) = entry.member(id) {
                    member.streams = streams;
                }
            }
            Event::Closed(id, ending) => {
                let is_alone = !entry.habits.has_just_seen_one(now);
                if let Some(member) = entry.remove(id, ending, now) {
                    self.total -= 1;
                    self.closing -= usize::from(member.closing);
                    if ending == Ending::Goaway && is_alone {
                        self.open_at_once(now, key_id, &member, actions);
                    }
                }
            }
            Event::Expected(old) => {
                let has_room = self.blocked.is_empty() && self.total < self.limits.in_all;
                if has_room
                    && entry.size() == 0
                    && entry.opens_ahead(now, key_id, old, &self.limits, actions)
                {
                    self.total += 1;
                }
            }
        }
        self.serve_waiting(now, key_id, actions);
    }

    /// Closes connections that were idle, or open, for too long.
    pub(crate) fn tick(&mut self, now: Instant, actions: &mut Vec<Action>) {
        for id in self.due.due(now) {
            if self
                .keys
                .get(&id)
                .is_some_and(|entry| entry.is_forgotten(now))
            {
                self.forget(id);
            } else {
                self.serve_waiting(now, id, actions);
            }
        }
    }

    /// When `tick` may have something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.due.first().map(|(when, _)| when)
    }

    /// Whether there are connections, open or opening.
    pub(crate) fn has_connections(&self) -> bool {
        self.total > 0
    }

    /// Whether the key has connections, or requests that wait for one.
    pub(crate) fn uses(&self, key: KeyId) -> bool {
        self.keys.get(&key).is_some_and(|entry| !entry.is_unused())
    }

    /// How long before an end its successor is begun.
    pub(crate) fn lead(&self, key: KeyId) -> Duration {
        self.keys
            .get(&key)
            .map_or(Duration::ZERO, |entry| entry.ahead.lead())
    }

    /// What was learned of each key, and from how many ends.
    pub(crate) fn learned(&self) -> impl Iterator<Item = (KeyId, Habit, usize)> {
        let keys = self.keys.iter();
        keys.map(|(id, entry)| (*id, entry.habits.habit(), entry.habits.ends()))
    }

    /// Whether the key has a connection that a request would get now, and that is one of these.
    pub(crate) fn serves(
        &self,
        now: Instant,
        key: KeyId,
        is_one: impl Fn(ConnectionId) -> bool,
    ) -> bool {
        let Some(entry) = self.keys.get(&key) else {
            return false;
        };
        let habit = entry.habits.habit();
        let mut ready = entry
            .members
            .iter()
            .filter(|m| m.is_free(now) && m.prepares_for.is_none() && !m.is_stale(now, habit));
        ready.any(|m| is_one(m.id))
    }

    /// How long the proofs of a connection that has ended would have taken, if made for a successor.
    pub(crate) fn proofs_would_take(&mut self, key: KeyId, time: Duration) {
        if let Some(entry) = self.keys.get_mut(&key) {
            entry.ahead.proofs_would_take(time);
        }
    }

    /// How long a request on HTTP/1.1 may last that others wait for; nothing if that is not known.
    pub(crate) fn longest_request(&self, key: KeyId) -> Duration {
        let entry = self.keys.get(&key);
        entry.map_or(Duration::ZERO, KeyState::longest_request)
    }

    /// Whether so many requests can share one connection on HTTP/1.1 (see [`h1`]).
    pub(crate) fn can_share(&self, key: KeyId, requests: usize) -> bool {
        let entry = self.keys.get(&key);
        entry.is_some_and(|entry| entry.can_share(requests))
    }

    /// Whether the key has a connection whose peer allows no streams.
    pub(crate) fn has_streamless(&self, key: KeyId) -> bool {
        let members = self.keys.get(&key).map(|entry| entry.members.iter());
        members.is_some_and(|mut members| members.any(|m| m.streams == 0))
    }

    /// Assigns the free connections of a key to its waiting requests, then opens connections for
    /// the requests that still wait, as far as the limits allow.
    fn serve_waiting(&mut self, now: Instant, id: KeyId, actions: &mut Vec<Action>) {
        let Some(entry) = self.keys.get_mut(&id) else {
            return;
        };
        entry.count_waiting(now);
        entry.plan(now, &self.limits);
        entry.retire_over_age(now);
        entry.assign_free(now, id, actions);
        self.closing += entry.close_finished(now, id, actions);
        self.block(now, id);
        self.open_what_is_missing(now, actions);
        self.open_ahead(now, id, actions);
        self.schedule(now, id);
    }

    /// Opens successors of the connections of a key that are about to end, if they are in use.
    fn open_ahead(&mut self, now: Instant, id: KeyId, actions: &mut Vec<Action>) {
        if !self.limits.ahead {
            return;
        }
        let Some(entry) = self.keys.get_mut(&id) else {
            return;
        };
        let (habit, lead) = (entry.habits.habit(), entry.ahead.lead());
        let expiring = entry.expiring(now, lead);
        actions.extend(expiring.map(|old| Action::Expires(id, old)));
        for index in 0..entry.members.len() {
            let member = &entry.members[index];
            let may_begin =
                member.succession == Succession::Open || self.limits.breaks(Rule::OneSuccessor);
            let is_in_use = member.is_in_use(now, lead) || self.limits.breaks(Rule::InUse);
            if !may_begin || !is_in_use || !member.is_to_be_replaced(now, habit, lead) {
                continue;
            }
            let old = member.id;
            // Requests come first, those of other keys too.
            let has_room = self.blocked.is_empty() && self.total < self.limits.in_all;
            if !has_room || !entry.opens_ahead(now, id, old, &self.limits, actions) {
                return;
            }
            self.total += 1;
            entry.members[index].succession = Succession::Begun;
        }
    }

    /// The peer has ended a connection with GOAWAY: the next request finds another one.
    fn open_at_once(&mut self, now: Instant, id: KeyId, ended: &Member, actions: &mut Vec<Action>) {
        let Some(entry) = self.keys.get_mut(&id) else {
            return;
        };
        let lead = entry.ahead.lead();
        let is_missed = ended.succession == Succession::Open && ended.is_in_use(now, lead);
        // Where others are open, this may be the first of several that end.
        let is_alone = entry.size() == 0 && self.blocked.is_empty();
        if self.limits.ahead
            && is_missed
            && is_alone
            && self.total < self.limits.in_all
            && entry.opens_ahead(now, id, ended.id, &self.limits, actions)
        {
            self.total += 1;
        }
    }

    /// Notes whether the key waits to open a connection.
    fn block(&mut self, now: Instant, id: KeyId) {
        let Some(entry) = self.keys.get_mut(&id) else {
            return;
        };
        let blocked = entry.wants_opening(now, &self.limits);
        let before = std::mem::replace(&mut entry.blocked, blocked);
        if before != blocked {
            if let Some(before) = before {
                self.blocked.remove(&(before, id));
            }
            self.blocked.extend(blocked.map(|waiter| (waiter, id)));
        }
    }

    fn open_what_is_missing(&mut self, now: Instant, actions: &mut Vec<Action>) {
        while self.total < self.limits.in_all
            && let Some((_, id)) = self.blocked.first().copied()
            && let Some(entry) = self.keys.get_mut(&id)
        {
            entry.begin_opening(now);
            self.total += 1;
            actions.push(Action::Open(id));
            self.block(now, id);
        }
        self.make_room(actions);
    }

    /// Notes when the key is to be looked at next.
    fn schedule(&mut self, now: Instant, id: KeyId) {
        let Some(entry) = self.keys.get_mut(&id) else {
            return;
        };
        let next = if entry.is_forgettable() {
            // What was learned, and what ALPN chose, is remembered for a while.
            Some(*entry.forget_at.get_or_insert(now + self.limits.idle))
        } else {
            entry.forget_at = None;
            entry.deadline(now)
        };
        self.due.set(&mut entry.due, id, next);
    }

    fn forget(&mut self, id: KeyId) {
        if let Some(mut entry) = self.keys.remove(&id) {
            self.due.set(&mut entry.due, id, None);
            self.idle.set(&mut entry.idle, id, None);
        }
    }

    /// Closes as many idle connections as there are blocked keys, the longest idle first.
    fn make_room(&mut self, actions: &mut Vec<Action>) {
        while self.closing < self.blocked.len() && self.evict(actions) {}
    }

    /// Closes the connection that has been idle for longest, if there is one.
    fn evict(&mut self, actions: &mut Vec<Action>) -> bool {
        while let Some((noted, id)) = self.idle.first() {
            let Some(entry) = self.keys.get_mut(&id) else {
                return false;
            };
            match entry.longest_idle() {
                Some(victim) if victim.idle_until <= noted => {
                    victim.closing = true;
                    self.closing += 1;
                    actions.push(Action::Close(id, victim.id, CloseReason::Evicted));
                    return true;
                }
                // The note was of a connection that has been used since, or is gone.
                other => {
                    let next = other.map(|m| m.idle_until);
                    self.idle.set(&mut entry.idle, id, next);
                }
            }
        }
        false
    }

    /// A connection that came free makes room for an older request of another key rather than
    /// serve a younger one of its own.
    fn yield_to_older(&mut self, id: KeyId, actions: &mut Vec<Action>) {
        let mut others = self.blocked.iter().filter(|(_, key)| *key != id);
        let older = others.next().map(|(waiter, _)| *waiter);
        let own = self
            .keys
            .get(&id)
            .and_then(|entry| entry.waiting.first_key_value());
        if let (Some(older), Some(own)) = (older, own)
            && older < *own.0
        {
            self.make_room(actions);
        }
    }
}

#[cfg(test)]
mod tests;
