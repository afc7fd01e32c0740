//! One key's connections, and the requests that wait for one.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::ahead::{Ahead, Allowed};
use super::demand::Demand;
use super::habits::{End, Habits};
use super::{Action, Ending, KeyId, Limits, Resend, Rule, Use, WaiterId};
use crate::conn::facts::{ConnectionId, HttpVersion};
use crate::observe::CloseReason;

use super::member::{Member, Succession};

/// Connections whose peer allows no streams (SETTINGS_MAX_CONCURRENT_STREAMS is 0), and which carry
/// no request: with so many, no other one is opened.
const MAX_STREAMLESS: usize = 2;

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct KeyState {
    /// In the order of their last return, or of taking over. Boxed, because a returned one moves to the end.
    #[expect(
        clippy::vec_box,
        reason = "64 members are moved for each request otherwise"
    )]
    pub(super) members: Vec<Box<Member>>,
    /// Requests without a connection, in order of arrival.
    pub(super) waiting: BTreeMap<WaiterId, Resend>,
    /// When the openings under way were begun.
    pub(super) openings: VecDeque<Instant>,
    /// What ALPN chose last.
    pub(super) speaks: Option<HttpVersion>,
    pub(super) habits: Habits,
    pub(super) demand: Demand,
    pub(super) ahead: Ahead,
    /// Until when no further connection is opened because the idle ones are stale.
    pub(super) trusts_until: Option<Instant>,
    /// When it is to be forgotten, if it stays unused until then.
    pub(super) forget_at: Option<Instant>,
    /// Its entry in `Machine::due`.
    pub(super) due: Option<Instant>,
    /// Its entry in `Machine::idle`.
    pub(super) idle: Option<Instant>,
    /// Its entry in `Machine::blocked`.
    pub(super) blocked: Option<WaiterId>,
}

impl KeyState {
    /// From the last returned on: a connection that is looked for is one that is in use.
    pub(super) fn member(&mut self, id: ConnectionId) -> Option<&mut Member> {
        let mut members = self.members.iter_mut().rev();
        members.find(|m| m.id == id).map(|m| &mut **m)
    }

    /// A connection for one more request: one that holds its proof, else the last returned; else
    /// one that is being made ready to take over, else one that may be stale.
    pub(super) fn free(
        &mut self,
        now: Instant,
        takes_stale: bool,
        holds: impl Fn(ConnectionId) -> bool,
    ) -> Option<&mut Member> {
        let has_choice = self.members.len() > 1;
        let habit = self.habits.habit();
        let (mut last_returned, mut preparing, mut stale) = (None, None, None);
        for (index, member) in self.members.iter().enumerate().rev() {
            if !member.is_free(now) {
                continue;
            }
            let place = if member.prepares_for.is_some() {
                &mut preparing
            } else if member.is_stale(now, habit) {
                &mut stale
            } else if !has_choice || holds(member.id) {
                return self.members.get_mut(index).map(|m| &mut **m);
            } else {
                &mut last_returned
            };
            place.get_or_insert(index);
        }
        let stale = stale.filter(|_| takes_stale);
        let chosen = last_returned.or(preparing).or(stale)?;
        self.members.get_mut(chosen).map(|m| &mut **m)
    }

    pub(super) fn assign_free(&mut self, now: Instant, id: KeyId, actions: &mut Vec<Action>) {
        while let Some((waiter, resend)) = self.waiting.first_key_value() {
            let (waiter, resend) = (*waiter, *resend);
            // A fresh one may be coming.
            let takes_stale = resend == Resend::Allowed || self.openings.is_empty();
            let Some(member) = self.free(now, takes_stale, |_| false) else {
                return;
            };
            member.assign(now);
            actions.push(Action::Assign(id, member.id, waiter));
            self.waiting.pop_first();
        }
    }

    /// A connection has one request less, and is now the last returned; whether it takes more, and
    /// until when it may be idle.
    pub(super) fn release(
        &mut self,
        id: ConnectionId,
        made: Use,
        limit: Duration,
        now: Instant,
    ) -> (bool, Instant) {
        let idle = match made {
            Use::Alone { took, keep_alive } => {
                self.demand.served(took);
                keep_alive.map_or(limit, |said| said.min(limit))
            }
            Use::Stream | Use::None => limit,
        };
        let Some(index) = self.members.iter().rposition(|m| m.id == id) else {
            return (false, now + idle);
        };
        self.members[index..].rotate_left(1);
        let Some(member) = self.members.last_mut() else {
            return (false, now + idle);
        };
        member.busy = member.busy.saturating_sub(1);
        member.returning = false;
        if made == Use::None {
            member.unwritten();
        } else {
            member.last_used = now;
            member.idle_until = now + idle;
        }
        let is_open = member.is_open() && member.deadline().is_none_or(|deadline| deadline > now);
        (is_open, member.idle_until)
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

    /// The failure goes to the requests that no other connection can serve. Where as many are being
    /// opened as requests wait, that is none; else each failure reaches at least one, so that a server
    /// which is down is not called for ever.
    pub(super) fn open_failed(&mut self, id: KeyId, actions: &mut Vec<Action>) {
        let others = self.members.iter().filter(|m| m.is_open()).count();
        let (waiting, opening) = (self.waiting.len(), self.openings.len());
        let failed = match self.speaks {
            Some(HttpVersion::H1) if waiting <= opening => 0,
            // Its share: one, where each request has an opening of its own.
            Some(HttpVersion::H1) if others == 0 => waiting.div_ceil(opening + 1),
            Some(HttpVersion::H2) | None if others == 0 => waiting,
            _ => waiting.min(1),
        };
        for _ in 0..failed {
            let waiter = self.waiting.pop_first();
            actions.extend(waiter.map(|(waiter, _)| Action::Fail(id, waiter)));
        }
    }

    /// How many more openings the waiting requests could use.
    pub(super) fn lacks(&self, now: Instant) -> usize {
        if self.waiting.is_empty() {
            return 0;
        }
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
        let coming = self.openings.len() + returning;
        match self.speaks {
            Some(HttpVersion::H1) => {
                let most = self.waiting.len().saturating_sub(coming);
                self.lacks_h1(now, most)
            }
            // One after the other: each serves many.
            Some(HttpVersion::H2) | None => 1_usize.saturating_sub(coming),
        }
    }

    /// The request that waits longest, if another connection may be opened for it as far as this
    /// key is concerned.
    pub(super) fn wants_opening(&self, now: Instant, limits: &Limits) -> Option<WaiterId> {
        // A key at its own limit waits for its own connections.
        let may_open = self.size() < limits.per_key && self.lacks(now) > 0;
        let first = self.waiting.first_key_value().map(|(waiter, _)| *waiter);
        first.filter(|_| may_open)
    }

    /// The connection that would be let go first for being idle.
    pub(super) fn longest_idle(&mut self) -> Option<&mut Member> {
        let idle = self.members.iter_mut().filter(|m| m.is_idle());
        idle.min_by_key(|m| m.idle_until).map(|m| &mut **m)
    }

    /// When the key is to be looked at.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let open = self.members.iter().filter(|m| !m.closing);
        let members = open.flat_map(|m| {
            // Once it has passed, a request brings it up again, or nothing does.
            let replace_at = m.replace_at.filter(|at| *at > now);
            let is_pending = m.succession == Succession::Open && m.is_open();
            let tell_expiry_at = m.tell_expiry_at.filter(|at| *at > now && m.is_open());
            [
                m.deadline(),
                replace_at.filter(|_| is_pending),
                tell_expiry_at,
            ]
        });
        let others = self.habits.due().into_iter().chain(self.lacks_more_at(now));
        members.flatten().chain(others).min()
    }

    /// Looks at what was learned, and plans with it when each connection is replaced.
    pub(super) fn plan(&mut self, now: Instant, limits: &Limits) {
        self.habits.settle(now);
        if !limits.ahead {
            return;
        }
        let (habit, lead) = (self.habits.habit(), self.ahead.lead());
        for member in &mut self.members {
            member.plan(habit, lead);
        }
    }

    /// The connections in use whose certificate is about to expire, each of them once.
    pub(super) fn expiring(
        &mut self,
        now: Instant,
        lead: Duration,
    ) -> impl Iterator<Item = ConnectionId> {
        let expiring = self
            .members
            .iter_mut()
            .filter(move |m| m.expires_soon(now) && m.is_open() && m.is_in_use(now, lead));
        expiring.map(|member| {
            member.expiry_told();
            member.id
        })
    }

    /// Opens a connection ahead, if there may be one more.
    pub(super) fn opens_ahead(
        &mut self,
        now: Instant,
        id: KeyId,
        old: ConnectionId,
        limits: &Limits,
        actions: &mut Vec<Action>,
    ) -> bool {
        if !self.waiting.is_empty() || self.size() >= limits.per_key {
            return false;
        }
        let serving = self
            .members
            .iter()
            .filter(|m| m.is_open() && m.prepares_for.is_none());
        let allowed = match limits.breaks(Rule::Bound) {
            true => Allowed::Yes,
            false => self.ahead.ask(now, serving.count().max(1)),
        };
        match allowed {
            Allowed::Yes => {
                self.begin_opening(now);
                actions.push(Action::OpenAhead(id, old, self.ahead.lead()));
            }
            Allowed::Stops => actions.push(Action::StopAhead(id)),
            Allowed::No => {}
        }
        allowed == Allowed::Yes
    }

    /// A connection is gone. Returns it, and learns from its end.
    pub(super) fn remove(
        &mut self,
        id: ConnectionId,
        ending: Ending,
        now: Instant,
    ) -> Option<Member> {
        let index = self.members.iter().position(|m| m.id == id)?;
        let open = self.members.len();
        let member = self.members.remove(index);
        for successor in &mut self.members {
            // It takes over as it is.
            successor.prepares_for.take_if(|old| *old == id);
        }
        if ending != Ending::Other && !member.closing {
            let idle = match member.busy {
                0 => now.saturating_duration_since(member.last_used),
                _ => Duration::ZERO,
            };
            let end = End {
                age: now.saturating_duration_since(member.opened_at),
                requests: member.requests,
                idle,
                is_goaway: ending == Ending::Goaway,
            };
            self.habits.add(now, end, open);
        }
        Some(*member)
    }

    /// A successor is ready: the connection that it replaces takes no more requests, and it takes the
    /// next one. Where there are others the server could find it idle otherwise, and end it.
    pub(super) fn take_over(&mut self, id: ConnectionId, now: Instant) {
        let lead = self.ahead.lead();
        let Some(index) = self.members.iter().rposition(|m| m.id == id) else {
            return;
        };
        let old = self.members[index].prepares_for.take();
        self.members[index..].rotate_left(1);
        if let Some(old) = old.and_then(|old| self.member(old))
            && old.is_open()
        {
            old.retire(now, lead);
        }
    }

    /// Whether a request that cannot be sent again is to get a fresh connection although an idle
    /// one is free, because that may be about to end: once for each learned life.
    pub(super) fn distrusts(&mut self, now: Instant) -> bool {
        let Some(idle) = self.habits.habit().idle else {
            return false;
        };
        let is_asked = self.openings.is_empty()
            && self.trusts_until.is_none_or(|until| until <= now)
            && self
                .members
                .iter()
                .any(|m| m.is_free(now) && m.is_stale(now, self.habits.habit()));
        if is_asked {
            self.trusts_until = Some(now + idle);
        }
        is_asked
    }

    pub(super) fn begin_opening(&mut self, now: Instant) {
        self.openings.push_back(now);
        self.demand.opens();
    }

    /// One of the openings is over: the first, as far as can be told.
    pub(super) fn end_opening(&mut self) {
        self.openings.pop_front();
        self.demand.opens();
    }

    /// Connections that are open or opening.
    pub(super) fn size(&self) -> usize {
        self.members.len() + self.openings.len()
    }

    /// Whether its time has come.
    pub(super) fn is_forgotten(&self, now: Instant) -> bool {
        self.is_forgettable() && self.forget_at.is_none_or(|at| at <= now)
    }

    /// Whether nothing is lost with it.
    pub(super) fn is_forgettable(&self) -> bool {
        self.is_unused() && self.habits.due().is_none()
    }

    pub(super) fn is_unused(&self) -> bool {
        self.members.is_empty() && self.waiting.is_empty() && self.openings.is_empty()
    }
}
