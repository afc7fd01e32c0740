//! Verdicts by token hash, and the questions under way: one at a time per token.
//!
//! ```text
//! caller ─┐
//! caller ─┼─▶ the token's question, in a task of its own: slot ▶ ask ▶ file the verdict ▶ tell all
//! caller ─┘
//! ```
//!
//! A request that is reset takes its caller along, never the question: once it is put to the
//! authorization server, its slot stays taken until there is an answer, which is filed whether or
//! not a request still waits. A question that still waits for a slot ends when no request does.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bowline_proof::{AccessToken, TokenHash};
use moka::sync::Cache;
use rustls_pki_types::UnixTime;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::response::Verdict;
use super::{CachedVerdict, Inner};
use crate::Requester;

/// A `moka` cache, because it prefers entries that are used often, so a flood of made-up tokens
/// does not evict valid ones, as it would in an LRU cache.
pub(super) struct Questions {
    filed: Cache<TokenHash, CachedVerdict>,
    under_way: Mutex<HashMap<TokenHash, Arc<Answer>>>,
}

/// `None` until there is an outcome.
pub(super) type Answer = watch::Sender<Option<Outcome>>;

/// How a question ended.
#[derive(Clone)]
pub(super) enum Outcome {
    Verdict(CachedVerdict),
    /// It was not asked, because its requester has used up the quota. After how long to try again.
    QuotaExceeded(Requester, Duration),
}

impl Questions {
    /// For about `capacity` tokens. `longest` only frees memory; [`CachedVerdict::until`] decides,
    /// by the validator's clock.
    pub(super) fn new(capacity: NonZeroUsize, longest: Duration) -> Self {
        let filed = Cache::builder().max_capacity(capacity.get() as u64);
        Self {
            filed: filed.time_to_live(longest).build(),
            under_way: Mutex::default(),
        }
    }

    /// Whether the verdict about a token is known.
    pub(super) fn is_filed(&self, token: &TokenHash, now: UnixTime) -> bool {
        self.filed(token, now).is_some()
    }

    fn filed(&self, token: &TokenHash, now: UnixTime) -> Option<CachedVerdict> {
        let filed = self.filed.get(token);
        filed.filter(|known| now.as_secs() < known.until.as_secs())
    }

    pub(super) fn under_way(&self) -> MutexGuard<'_, HashMap<TokenHash, Arc<Answer>>> {
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// The verdict about a token: as it is filed, from the question that is under way, or from a
    /// new one.
    ///
    /// # Errors
    /// The requester has used up the quota.
    pub(super) async fn verdict(
        self: &Arc<Self>,
        token: &AccessToken,
        requester: Option<&Requester>,
    ) -> Result<CachedVerdict, Duration> {
        loop {
            let mut answer = match self.find_or_ask(token, requester)? {
                Found::Filed(verdict) => return Ok(verdict),
                Found::UnderWay(answer) => answer,
            };
            let outcome = match answer.wait_for(Option::is_some).await {
                Ok(outcome) => outcome.clone(),
                // The task panicked, or the runtime is shutting down.
                Err(_) => None,
            };
            match outcome {
                Some(Outcome::Verdict(verdict)) => return Ok(verdict),
                Some(Outcome::QuotaExceeded(whose, wait)) if Some(&whose) == requester => {
                    return Err(wait);
                }
                // Another requester had asked about the same token, and has used up its quota.
                Some(Outcome::QuotaExceeded(..)) => {}
                None => return Ok(self.unanswered()),
            }
        }
    }

    fn find_or_ask(
        self: &Arc<Self>,
        token: &AccessToken,
        requester: Option<&Requester>,
    ) -> Result<Found, Duration> {
        let now = self.clock.now();
        // Most requests end here, without the lock.
        if let Some(verdict) = self.questions.filed(token.hash(), now) {
            return Ok(Found::Filed(verdict));
        }
        let mut under_way = self.questions.under_way();
        if let Some(answer) = under_way.get(token.hash()) {
            return Ok(Found::UnderWay(answer.subscribe()));
        }
        // Again: a question files its verdict before it leaves the table.
        if let Some(verdict) = self.questions.filed(token.hash(), now) {
            return Ok(Found::Filed(verdict));
        }
        if let Some(requester) = requester {
            self.quota.admit(requester)?;
        }
        let (answer, subscribed) = watch::channel(None);
        let answer = Arc::new(answer);
        under_way.insert(*token.hash(), answer.clone());
        let question = Question {
            inner: self.clone(),
            token: token.clone(),
            requester: requester.cloned(),
            answer,
        };
        tokio::spawn(question.run());
        Ok(Found::UnderWay(subscribed))
    }
}

enum Found {
    Filed(CachedVerdict),
    UnderWay(watch::Receiver<Option<Outcome>>),
}

/// In the table of questions for as long as it lives.
struct Question {
    inner: Arc<Inner>,
    token: AccessToken,
    requester: Option<Requester>,
    answer: Arc<Answer>,
}

impl Question {
    async fn run(self) {
        let deadline = Instant::now() + self.inner.timeout;
        let slot = tokio::select! {
            slot = timeout_at(deadline, self.inner.slots.acquire(self.requester.clone())) => slot,
            () = self.nobody_waits() => return,
        };
        let verdict = match slot {
            Ok(slot) => {
                // Again: what was under way meanwhile may have used it up.
                if let Some(requester) = &self.requester
                    && let Err(wait) = self.inner.quota.admit(requester)
                {
                    self.tell(Outcome::QuotaExceeded(requester.clone(), wait));
                    return;
                }
                let verdict = self.inner.ask(&self.token, deadline).await;
                drop(slot);
                verdict
            }
            Err(_) => self.inner.unanswered(),
        };
        if let (Verdict::Inactive, Some(requester)) = (&verdict.verdict, &self.requester) {
            self.inner.quota.charge(requester);
        }
        let filed = &self.inner.questions.filed;
        filed.insert(*self.token.hash(), verdict.clone());
        self.tell(Outcome::Verdict(verdict));
    }

    /// Completes, with the question out of the table, when its last caller has gone.
    async fn nobody_waits(&self) {
        loop {
            self.answer.closed().await;
            let mut under_way = self.inner.questions.under_way();
            // Callers subscribe under the lock.
            if self.answer.receiver_count() == 0 {
                under_way.remove(self.token.hash());
                return;
            }
        }
    }

    fn tell(&self, outcome: Outcome) {
        self.answer.send_replace(Some(outcome));
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        let mut under_way = self.inner.questions.under_way();
        let hash = self.token.hash();
        // Another may have taken its place after the last caller had gone.
        if under_way
            .get(hash)
            .is_some_and(|answer| Arc::ptr_eq(answer, &self.answer))
        {
            under_way.remove(hash);
        }
    }
}
