//! What one origin's ends have in common, so that the next one is foreseen.
//!
//! Only ends that came under TLS are reported here: anyone on the way can forge a FIN or a RST.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// How many ends of a kind are kept.
const KEPT: usize = 16;
/// So many make a habit.
const HABIT: usize = 8;
/// For so long an end is remembered.
const MEMORY: Duration = Duration::from_secs(600);
/// Ends within this time are looked at together.
const TOGETHER: Duration = Duration::from_secs(1);
/// A shorter life is not worth an opening ahead.
const SHORTEST_LIFE: Duration = Duration::from_secs(5);
/// A connection that was idle for so long ended because of it, if it ended then.
const IDLE: Duration = Duration::from_secs(1);

/// An orderly end by the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct End {
    pub(super) age: Duration,
    /// Requests that it had carried.
    pub(super) requests: u64,
    /// For how long it had been idle; zero if it was in use.
    pub(super) idle: Duration,
    /// By GOAWAY.
    pub(super) is_goaway: bool,
}

/// What the ends of an origin's connections have in common: the low end of the last
/// [`KEPT`], where there are [`HABIT`] at least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Habit {
    /// How old a connection in use becomes.
    pub(crate) age: Option<Duration>,
    /// How many requests a connection carries.
    pub(crate) requests: Option<u64>,
    /// How long an idle connection lives.
    pub(crate) idle: Option<Duration>,
}

impl End {
    fn was_idle(&self) -> bool {
        self.idle >= IDLE
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Habits {
    /// Age in milliseconds and number of requests, of connections in use.
    in_use: Samples<(u64, u64)>,
    /// Idle time in milliseconds.
    idle: Samples<u64>,
    /// Ends that may turn out to belong together.
    recent: Option<Recent>,
    habit: Habit,
    /// Until when `habit` holds, if no end is added.
    holds_until: Option<Instant>,
}

/// Ends that came within [`TOGETHER`] of the first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Recent {
    since: Instant,
    /// Connections that were open before the first end.
    open: usize,
    /// All of them are counted, and the first [`KEPT`] kept.
    count: usize,
    goaways: usize,
    ends: Vec<End>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Samples<T>(VecDeque<(Instant, T)>);

impl<T> Default for Samples<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T: Copy> Samples<T> {
    fn push(&mut self, at: Instant, value: T) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back((at, value));
    }

    fn forget(&mut self, now: Instant) {
        self.0.retain(|(at, _)| *at + MEMORY > now);
    }

    fn sorted<V: Ord>(&self, value: impl Fn(&T) -> V) -> Option<Vec<V>> {
        if self.0.len() < HABIT {
            return None;
        }
        let mut values: Vec<_> = self.0.iter().map(|(_, sample)| value(sample)).collect();
        values.sort();
        Some(values)
    }
}

/// The second lowest of [`KEPT`], the lowest of [`HABIT`].
fn low(sorted: &[u64]) -> u64 {
    sorted[sorted.len() / 10]
}

/// How far the values lie apart, in thousandths of the highest; `None` if they have nothing in
/// common.
fn spread(sorted: &[u64]) -> Option<u64> {
    let (low, high) = (low(sorted), *sorted.last()?);
    let apart = (high - low).saturating_mul(1000) / high.max(1);
    (sorted[sorted.len() / 2] <= low.saturating_mul(2)).then_some(apart)
}

impl Habits {
    pub(super) fn habit(&self) -> Habit {
        self.habit
    }

    /// How many ends it was learned from.
    pub(super) fn ends(&self) -> usize {
        self.in_use.0.len() + self.idle.0.len()
    }

    /// Whether another connection of the origin has just ended.
    pub(super) fn has_just_seen_one(&self, now: Instant) -> bool {
        let recent = self.recent.as_ref();
        recent.is_some_and(|recent| now < recent.since + TOGETHER)
    }

    /// A connection was ended by the peer, of `open` that were open, itself included.
    pub(super) fn add(&mut self, now: Instant, end: End, open: usize) {
        self.settle(now);
        let recent = self.recent.get_or_insert(Recent {
            since: now,
            open,
            count: 0,
            goaways: 0,
            ends: Vec::new(),
        });
        recent.count += 1;
        recent.goaways += usize::from(end.is_goaway);
        if recent.ends.len() < KEPT {
            recent.ends.push(end);
        }
    }

    /// When [`settle`](Self::settle) will have something to do.
    pub(super) fn due(&self) -> Option<Instant> {
        let recent = self.recent.as_ref().map(|recent| recent.since + TOGETHER);
        recent.into_iter().chain(self.holds_until).min()
    }

    /// Learns from ends that have turned out not to belong together, and forgets old ones.
    pub(super) fn settle(&mut self, now: Instant) {
        if self.due().is_none_or(|due| due > now) {
            return;
        }
        if let Some(recent) = self.recent.take_if(|recent| recent.since + TOGETHER <= now) {
            self.learn(&recent);
        }
        self.in_use.forget(now);
        self.idle.forget(now);
        let oldest = [
            self.in_use.0.front().map(|(at, _)| *at),
            self.idle.0.front().map(|(at, _)| *at),
        ];
        self.holds_until = oldest.into_iter().flatten().min().map(|at| at + MEMORY);
        self.habit = self.learned();
    }

    fn learn(&mut self, recent: &Recent) {
        let in_use = recent.ends.iter().filter(|end| !end.was_idle());
        // Connections that were opened together and are as old as each other are one observation.
        let ages = || in_use.clone().map(|end| milliseconds(end.age));
        let (youngest, oldest) = (ages().min(), ages().max());
        let is_one = recent.goaways < 2
            && youngest
                .zip(oldest)
                .is_some_and(|(youngest, oldest)| oldest - youngest <= oldest / 20);
        let is_deployment = recent.is_deployment();
        if is_one && is_deployment {
            let requests = in_use.map(|end| end.requests).min();
            let sample = youngest.zip(requests);
            sample
                .into_iter()
                .for_each(|sample| self.in_use.push(recent.since, sample));
        } else if !is_deployment {
            for end in &recent.ends {
                if end.was_idle() {
                    self.idle.push(recent.since, milliseconds(end.idle));
                } else {
                    let sample = (milliseconds(end.age), end.requests);
                    self.in_use.push(recent.since, sample);
                }
            }
        }
    }

    fn learned(&self) -> Habit {
        let idle = self.idle.sorted(|idle| *idle).map(|idle| low(&idle));
        let mut habit = Habit {
            idle: idle
                .map(Duration::from_millis)
                .filter(|idle| *idle >= SHORTEST_LIFE),
            ..Habit::default()
        };
        let ages = self.in_use.sorted(|(age, _)| *age);
        let requests = self.in_use.sorted(|(_, requests)| *requests);
        let (Some(ages), Some(requests)) = (ages, requests) else {
            return habit;
        };
        let age = Duration::from_millis(low(&ages));
        if age < SHORTEST_LIFE {
            return habit;
        }
        // Where traffic is steady both are much the same: it is the one that varies less.
        match (spread(&ages), spread(&requests)) {
            (Some(by_age), Some(by_requests)) if by_requests < by_age => {
                habit.requests = Some(low(&requests));
            }
            (Some(_), _) => habit.age = Some(age),
            (None, Some(_)) => habit.requests = Some(low(&requests)),
            (None, None) => {}
        }
        habit
    }
}

impl Recent {
    /// Several connections were ended at once, most of those that were open: perhaps by a
    /// deployment, which is no habit.
    fn is_deployment(&self) -> bool {
        self.count > 1 && (self.goaways > 1 || self.count * 2 > self.open)
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
