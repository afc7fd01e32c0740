//! How many made-up tokens one requester may have introspected.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use governor::clock::Clock;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

use crate::Requester;

/// A bucket for each requester, which only *inactive* answers are charged to: a
/// requester that presents tokens which the authorization server knows is never limited, however
/// many and however new.
///
/// The answer is known after the question, so a requester can overdraw by as many questions as
/// were under way. What is overdrawn is a debt, which the bucket pays before anything else is
/// asked.
pub(super) struct InactiveQuota {
    buckets: RateLimiter<Requester, HashMapStateStore<Requester>, TokioClock>,
    debts: Mutex<Debts>,
}

#[derive(Default)]
struct Debts {
    owed: HashMap<Requester, u32>,
    charges: u32,
}

const PER_SECOND: NonZeroU32 = NonZeroU32::new(20).unwrap();

/// How many in a row: this many from the bucket, and one as a debt.
const BURST: NonZeroU32 = NonZeroU32::new(50 - 1).unwrap();

/// After this many charges the buckets that have filled up again are dropped.
const CHARGES_PER_CLEANUP: u32 = 1024;

impl InactiveQuota {
    pub(super) fn new() -> Self {
        let quota = Quota::per_second(PER_SECOND).allow_burst(BURST);
        Self {
            buckets: RateLimiter::new(quota, HashMapStateStore::default(), TokioClock),
            debts: Mutex::default(),
        }
    }

    /// Whether a question may be asked for this requester now.
    ///
    /// # Errors
    /// After how long to try again.
    pub(super) fn admit(&self, requester: &Requester) -> Result<(), Duration> {
        let mut debts = self.debts();
        let Some(owed) = debts.owed.get_mut(requester) else {
            return Ok(());
        };
        while *owed > 0 {
            if let Err(not_until) = self.buckets.check_key(requester) {
                return Err(not_until.wait_time_from(TokioClock.now()));
            }
            *owed -= 1;
        }
        debts.owed.remove(requester);
        Ok(())
    }

    /// The authorization server has said *inactive*.
    pub(super) fn charge(&self, requester: &Requester) {
        let mut debts = self.debts();
        if self.buckets.check_key(requester).is_err() {
            *debts.owed.entry(requester.clone()).or_default() += 1;
        }
        debts.charges += 1;
        if debts.charges >= CHARGES_PER_CLEANUP {
            debts.charges = 0;
            self.buckets.retain_recent();
            debts.forget_what_is_paid(&self.buckets);
        }
    }

    fn debts(&self) -> MutexGuard<'_, Debts> {
        self.debts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Debts {
    /// So that requesters who never return leave nothing behind.
    fn forget_what_is_paid(
        &mut self,
        buckets: &RateLimiter<Requester, HashMapStateStore<Requester>, TokioClock>,
    ) {
        self.owed.retain(|requester, owed| {
            while *owed > 0 && buckets.check_key(requester).is_ok() {
                *owed -= 1;
            }
            *owed > 0
        });
    }
}

/// tokio's clock, which a test can pause.
#[derive(Clone, Copy)]
struct TokioClock;

impl Clock for TokioClock {
    type Instant = Instant;

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

#[cfg(test)]
mod tests;
