//! One key's connections, and the requests that wait for one.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use super::{Action, KeyId, Limits, NewConnection, WaiterId};
use crate::conn::facts::{ConnectionId, HttpVersion};
use crate::observe::CloseReason;

/// Connections whose peer allows no streams (SETTINGS_MAX_CONCURRENT_STREAMS is 0), and which carry
/// no request: with so many, no other one is opened.
const MAX_STREAMLESS: usize = 2;

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct KeyState {
    /// In the order of their last return.
    pub(super) members: Vec<Member>,
    /// Requests without a connection, in order of arrival.
    pub(super) waiting: BTreeSet<WaiterId>,
    /// Openings under way.
    pub(super) opening: usize,
    /// What ALPN chose last.
    pub(super) speaks: Option<HttpVersion>,
    /// Its entry in `Machine::due`.
    pub(super) due: Option<Instant>,
    /// Its entry in `Machine::idle`.
    pub(super) idle: Option<Instant>,
    /// Its entry in `Machine::blocked`.
    pub(super) blocked: Option<WaiterId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Member {
    pub(super) id: ConnectionId,
    /// Requests under way.
    pub(super) busy: usize,
    /// Requests that it takes at a time.
    pub(super) streams: usize,
    /// It will be free at once.
    pub(super) returning: bool,
    /// When it is to be let go if it is idle until then.
    pub(super) idle_until: Instant,
    /// When it takes no more requests, and why.
    ends: Option<(Instant, CloseReason)>,
    /// It takes no more requests. Once idle it is closed for this reason.
    retiring: Option<CloseReason>,
    /// Its close was asked for.
    pub(super) closing: bool,
}

impl Member {
    pub(super) fn new(now: Instant, limits: &Limits, new: NewConnection) -> Self {
        let aged = limits.age.map(|age| (now + age, CloseReason::Age));
        let expired = new.until.map(|until| (until, CloseReason::Identity));
        Self {
            id: new.id,
            busy: 0,
            streams: new.streams,
            returning: false,
            idle_until: now + limits.idle,
            ends: aged
                .into_iter()
                .chain(expired)
                .min_by_key(|(when, _)| *when),
            retiring: None,
            closing: false,
        }
    }

    fn is_open(&self) -> bool {
        self.retiring.is_none() && !self.closing
    }

    /// Whether it takes one more request now.
    fn is_free(&self, now: Instant) -> bool {
        self.is_open() && self.busy < self.streams && self.deadline().is_none_or(|due| due > now)
    }

    pub(super) fn is_idle(&self) -> bool {
        !self.closing && self.busy == 0
    }

    /// When it is to be looked at.
    fn deadline(&self) -> Option<Instant> {
        let ends = self.ends.filter(|_| self.retiring.is_none());
        let ends = ends.map(|(when, _)| when);
        let idle = (self.busy == 0).then_some(self.idle_until);
        ends.into_iter().chain(idle).min()
    }
}

impl KeyState {
    /// From the last returned on: a connection that is looked for is one that is in use.
    pub(super) fn member(&mut self, id: ConnectionId) -> Option<&mut Member> {
        self.members.iter_mut().rev().find(|m| m.id == id)
    }

    /// A connection for one more request: one that holds its proof, else the last returned.
    pub(super) fn free(
        &mut self,
        now: Instant,
        holds: impl Fn(ConnectionId) -> bool,
    ) -> Option<&mut Member> {
        let has_choice = self.members.len() > 1;
        let mut last_returned = None;
        for (index, member) in self.members.iter().enumerate().rev() {
            if !member.is_free(now) {
                continue;
            }
            if !has_choice || holds(member.id) {
                return self.members.get_mut(index);
            }
            last_returned = last_returned.or(Some(index));
        }
        self.members.get_mut(last_returned?)
    }

    pub(super) fn assign_free(&mut self, now: Instant, id: KeyId, actions: &mut Vec<Action>) {
        while let Some(waiter) = self.waiting.first().copied() {
            let Some(member) = self.free(now, |_| false) else {
                return;
            };
            member.busy += 1;
            actions.push(Action::Assign(id, member.id, waiter));
            self.waiting.pop_first();
        }
    }

    /// A connection has one request less, and is now the last returned; whether it takes more.
    pub(super) fn release(&mut self, id: ConnectionId, idle: Duration, now: Instant) -> bool {
        let Some(index) = self.members.iter().rposition(|m| m.id == id) else {
            return false;
        };
        self.members[index..].rotate_left(1);
        let Some(member) = self.members.last_mut() else {
            return false;
        };
        member.busy = member.busy.saturating_sub(1);
        member.returning = false;
        member.idle_until = now + idle;
        member.is_open() && member.deadline().is_none_or(|deadline| deadline > now)
    }

    pub(super) fn retire_over_age(&mut self, now: Instant) {
        for member in &mut self.members {
            if let Some((when, reason)) = member.ends
                && when <= now
                && member.is_open()
            {
                member.retiring = Some(reason);
            }
        }
    }

    /// Closes what is idle and is to be used no more; returns how many.
    pub(super) fn close_finished(
        &mut self,
        now: Instant,
        id: KeyId,
        actions: &mut Vec<Action>,
    ) -> usize {
        let before = actions.len();
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
        actions.len() - before
    }

    /// The failure goes to the requests that no other connection can serve. Each failure reaches at
    /// least one waiting request, so that a server which is down is not called for ever.
    pub(super) fn open_failed(&mut self, id: KeyId, actions: &mut Vec<Action>) {
        let others = self.members.iter().filter(|m| m.is_open()).count();
        let failed = match self.speaks {
            Some(HttpVersion::H1) => self.waiting.len().saturating_sub(self.opening).min(1),
            Some(HttpVersion::H2) | None if others == 0 => self.waiting.len(),
            Some(HttpVersion::H2) | None => self.waiting.len().min(1),
        };
        for _ in 0..failed {
            let waiter = self.waiting.pop_first();
            actions.extend(waiter.map(|waiter| Action::Fail(id, waiter)));
        }
    }

    /// How many more openings the waiting requests could use.
    pub(super) fn lacks(&self) -> usize {
        if self.waiting.is_empty() {
            return 0;
        }
        let useful = match self.speaks {
            Some(HttpVersion::H1) => self.waiting.len(),
            // One after the other: each serves many.
            Some(HttpVersion::H2) | None => 1,
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

    /// The request that waits longest, if another connection may be opened for it as far as this
    /// key is concerned.
    pub(super) fn wants_opening(&self, limits: &Limits) -> Option<WaiterId> {
        // A key at its own limit waits for its own connections.
        let may_open = self.lacks() > 0 && self.size() < limits.per_key;
        self.waiting.first().copied().filter(|_| may_open)
    }

    /// The connection that would be let go first for being idle.
    pub(super) fn longest_idle(&mut self) -> Option<&mut Member> {
        let idle = self.members.iter_mut().filter(|m| m.is_idle());
        idle.min_by_key(|m| m.idle_until)
    }

    /// When the key is to be looked at.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let open = self.members.iter().filter(|m| !m.closing);
        open.filter_map(Member::deadline).min()
    }

    /// Connections that are open or opening.
    pub(super) fn size(&self) -> usize {
        self.members.len() + self.opening
    }

    pub(super) fn is_unused(&self) -> bool {
        self.members.is_empty() && self.waiting.is_empty() && self.opening == 0
    }
}
