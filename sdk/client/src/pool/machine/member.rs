//! One connection, as the machine sees it.

use std::time::Duration;

use tokio::time::Instant;

use super::habits::Habit;
use super::{Limits, NewConnection};
use crate::conn::facts::ConnectionId;
use crate::observe::CloseReason;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Member {
    pub(super) id: ConnectionId,
    /// Requests under way.
    pub(super) busy: usize,
    /// Requests that it takes at a time.
    pub(super) streams: usize,
    /// It will be free at once.
    pub(super) returning: bool,
    pub(super) opened_at: Instant,
    /// When a request last came or went.
    pub(super) last_used: Instant,
    /// The same before the last request was given to it.
    used_before: Instant,
    /// Requests that it was given.
    pub(super) requests: u64,
    /// Since when they have come without a pause, and how many there had been by then.
    steady: (Instant, u64),
    /// When it is to be let go if it is idle until then.
    pub(super) idle_until: Instant,
    /// When it takes no more requests, and why.
    pub(super) ends: Option<(Instant, CloseReason)>,
    /// How many requests the peer takes on it (`Keep-Alive: max`).
    pub(super) ends_after: Option<u64>,
    /// It takes no more requests. Once idle it is closed for this reason.
    pub(super) retiring: Option<CloseReason>,
    /// Its close was asked for.
    pub(super) closing: bool,
    /// A share of the time by which it is replaced earlier than it must be, of 65,536.
    jitter: u16,
    /// When a successor is to be opened.
    pub(super) replace_at: Option<Instant>,
    /// When its certificate stops being valid, until it was told that this is near.
    expires: Option<Instant>,
    /// When that is to be told.
    pub(super) tell_expiry_at: Option<Instant>,
    pub(super) succession: Succession,
    /// It is the successor of this one, and not ready to take over.
    pub(super) prepares_for: Option<ConnectionId>,
}

/// What became of a connection's one successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Succession {
    /// None was opened.
    Open,
    /// It is being opened, or made ready.
    Begun,
    /// It could not be opened: there will be no other.
    Failed,
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
            opened_at: now,
            last_used: now,
            used_before: now,
            requests: 0,
            steady: (now, 0),
            idle_until: now + limits.idle,
            ends: aged
                .into_iter()
                .chain(expired)
                .min_by_key(|(when, _)| *when),
            ends_after: None,
            retiring: None,
            closing: false,
            jitter: new.jitter,
            replace_at: None,
            expires: new.until,
            tell_expiry_at: None,
            succession: Succession::Open,
            prepares_for: None,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.retiring.is_none() && !self.closing
    }

    /// Whether it takes one more request now.
    pub(super) fn is_free(&self, now: Instant) -> bool {
        self.is_open() && self.busy < self.streams && self.deadline().is_none_or(|due| due > now)
    }

    pub(super) fn is_idle(&self) -> bool {
        !self.closing && self.busy == 0
    }

    /// Whether it has been idle for longer than connections of this origin live.
    pub(super) fn is_stale(&self, now: Instant, habit: Habit) -> bool {
        self.busy == 0 && habit.idle.is_some_and(|idle| self.last_used + idle < now)
    }

    /// It is given a request.
    pub(super) fn assign(&mut self, now: Instant) {
        if self.busy == 0 && self.last_used + LATELY < now {
            self.steady = (now, self.requests);
        }
        self.busy += 1;
        self.requests += 1;
        self.used_before = self.last_used;
        self.last_used = now;
    }

    /// The request was not written: the peer knows nothing of it.
    pub(super) fn unwritten(&mut self) {
        self.requests = self.requests.saturating_sub(1);
        self.last_used = self.used_before;
    }

    /// When it is to be let go.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let ends = self.ends.filter(|_| self.retiring.is_none());
        let ends = ends.map(|(when, _)| when);
        let idle = (self.busy == 0).then_some(self.idle_until);
        ends.into_iter().chain(idle).min()
    }

    /// When it will take no more requests, as far as that is known or learned. The end of its
    /// certificate does not count: a successor of the same key would have the same one.
    fn foreseen(&self, habit: Habit) -> Option<Instant> {
        let own = self.ends.filter(|(_, reason)| *reason == CloseReason::Age);
        let learned = habit.age.map(|age| self.opened_at + age);
        own.map(|(when, _)| when).into_iter().chain(learned).min()
    }

    /// Notes when a successor is to be opened: ahead of the end by `lead` and by a random time, so
    /// that connections which were opened together are not replaced together.
    pub(super) fn plan(&mut self, habit: Habit, lead: Duration) {
        self.replace_at = self.foreseen(habit).map(|end| {
            let life = end.saturating_duration_since(self.opened_at);
            let early = lead + self.share((lead / 2).max(life / 20));
            self.opened_at + life.saturating_sub(early).max(life / 2)
        });
        self.tell_expiry_at = self.expires.map(|end| {
            let life = end.saturating_duration_since(self.opened_at);
            self.opened_at + life.saturating_sub(lead + self.share(lead))
        });
    }

    /// Whether it is time to tell that its certificate is about to expire.
    pub(super) fn expires_soon(&self, now: Instant) -> bool {
        self.tell_expiry_at.is_some_and(|at| at <= now)
    }

    /// It was told.
    pub(super) fn expiry_told(&mut self) {
        self.expires = None;
        self.tell_expiry_at = None;
    }

    /// Whether its end is so near that a successor is to be opened, or has been.
    pub(super) fn is_to_be_replaced(&self, now: Instant, habit: Habit, lead: Duration) -> bool {
        self.is_open()
            && self.prepares_for.is_none()
            && (self.replace_at.is_some_and(|at| at <= now)
                || self.is_used_up(now, habit.requests, lead))
    }

    /// Whether the requests that it still takes may not last for longer than `lead`.
    fn is_used_up(&self, now: Instant, learned: Option<u64>, lead: Duration) -> bool {
        let Some(most) = learned.into_iter().chain(self.ends_after).min() else {
            return false;
        };
        // Not before half of them: a lead is a guess.
        if self.requests < most.div_ceil(2) {
            return false;
        }
        let early = (lead + self.share(lead / 2)).as_secs_f64();
        // At the rate at which they come now: it may have been a spare one for a long time.
        let (since, before) = self.steady;
        let came = (self.requests - before) as f64;
        let time = now.saturating_duration_since(since).as_secs_f64();
        let coming = came * early / time.max(early);
        self.requests + coming.ceil() as u64 + 1 >= most
    }

    /// Whether requests come, so that one would meet its end. None has come to one that was opened
    /// beside others for a burst that was over before.
    pub(super) fn is_in_use(&self, now: Instant, lead: Duration) -> bool {
        // Of a short life, a part: a connection that was used once is not in use.
        let life = match (self.ends, self.replace_at) {
            (Some((when, CloseReason::Age)), _) => Some(when),
            (_, learned) => learned,
        };
        let life = life.map(|end| end.saturating_duration_since(self.opened_at));
        // Of the time that it may be idle too: nearly over, it is closed sooner than it would be replaced.
        let idle = self.idle_until.saturating_duration_since(self.last_used);
        let lately = life.into_iter().chain([idle]).min().unwrap_or_default() / 4;
        let lately = lately.min(LATELY + lead);
        self.busy > 0 || self.requests > 0 && self.last_used + lately > now
    }

    /// Its successor has taken over.
    pub(super) fn retire(&mut self, now: Instant, lead: Duration) {
        let reason = match self.ends {
            Some((when, CloseReason::Age)) if when <= now + 3 * lead => CloseReason::Age,
            _ => CloseReason::Replaced,
        };
        self.retiring.get_or_insert(reason);
    }

    /// A random part of `time`.
    fn share(&self, time: Duration) -> Duration {
        time * u32::from(self.jitter) / (1 << 16)
    }
}

/// A connection without a request for longer than this, and a lead, is not in use.
const LATELY: Duration = Duration::from_secs(1);
