//! Decides per certificate whether to return, refresh, wait for or refuse a token. No I/O; the time
//! is an argument.
//!
//! ```text
//! issued              refresh_at             stale_at     expires_at
//!   |------- fresh -------|------- fresh -------|-- stale --|
//!   returned              returned, and a       returned only if the
//!                         refresh is started    refresh fails
//! ```

#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime};

use bowline_http_client::Thumbprint;

use super::failure::Failure;
use super::{Certificate, Trigger};
use crate::shared::backoff::Backoff;
use crate::{Error, Token};

/// The tokens of a source, one for each certificate that callers have used.
pub(super) struct CacheState<F> {
    backoff: Backoff,
    entries: Vec<Entry<F>>,
    /// When a token was last replaced because the resource had refused it.
    last_refusal: Option<SystemTime>,
    /// How many [settling](CachedToken::settled_at) tokens in a row the resource has refused.
    refused_in_a_row: u32,
    /// Until then no refusal replaces a settling token.
    paused_until: Option<SystemTime>,
}

/// What is cached for one certificate.
struct Entry<F> {
    certificate: Certificate,
    cached: Option<CachedToken>,
    failure: Option<Failure>,
    flight: Option<F>,
}

/// A token, and when to replace it.
#[derive(Clone, Debug)]
pub(crate) struct CachedToken {
    pub(crate) token: Token,
    pub(crate) times: Times,
    /// Of a token whose request uses up something, a refresh token: before then it is not replaced
    /// because the resource refuses it. `None`: the request costs nothing but itself.
    pub(crate) settled_at: Option<SystemTime>,
    /// The resource refused it, and it is to be replaced.
    is_refused: bool,
    /// The resource refused it, which was counted.
    is_counted: bool,
}

/// When a token is replaced. From [`Token::expires_at`] on it is not used at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Times {
    /// From then on it is still returned, and its successor is requested. `None`: never.
    pub(crate) refresh_at: Option<SystemTime>,
    /// From then on it is returned only if its successor cannot be obtained.
    pub(crate) stale_at: Option<SystemTime>,
}

impl Times {
    /// Of a token whose expiry is not known.
    pub(crate) const NEVER: Self = Self {
        refresh_at: None,
        stale_at: None,
    };
}

/// What a caller gets, or has to start.
pub(super) enum Step<F> {
    Give(Token),
    Fail(Error),
    /// Request a token.
    Start(Trigger, Fallback),
    /// A request is under way.
    Join(F, Fallback),
}

/// What a caller gets while a request is under way.
pub(super) enum Fallback {
    Give(Token),
    /// Nothing; and if the request fails, this token, if it is still valid.
    Wait(Option<Token>),
}

/// A token that the resource refuses is replaced at once, but only one in this time: if its
/// successors are refused too, the token is not what is wrong.
const MIN_BETWEEN_REFUSALS: Duration = Duration::from_secs(60);

/// After so many refused tokens in a row a resource refuses whatever it is sent.
const MAX_REFUSED_IN_A_ROW: u32 = 3;

/// How long its refusals then replace no token.
const REFUSAL_PAUSE: Duration = Duration::from_secs(15 * 60);

/// What came of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The token is replaced.
    Replaced,
    /// It stays.
    Kept,
    /// It stays, and so do its successors for this time.
    Paused(Duration),
}

/// Beyond this many certificates, only those with a usable token or a request under way are kept.
const MAX_ENTRIES: usize = 8;

impl<F: Clone> CacheState<F> {
    pub(super) fn new(backoff: Backoff) -> Self {
        Self {
            backoff,
            entries: Vec::new(),
            last_refusal: None,
            refused_in_a_row: 0,
            paused_until: None,
        }
    }

    /// What a caller with `certificate` gets now. With `any`, a fresh token of another certificate
    /// is returned while there is none for this one.
    pub(super) fn step(
        &mut self,
        now: SystemTime,
        certificate: &Certificate,
        any: bool,
    ) -> Step<F> {
        let fresh = self.entry(certificate).valid(now);
        if let Some(cached) =
            fresh.filter(|cached| cached.is_fresh(now) && !cached.needs_refresh(now))
        {
            return Step::Give(cached.token.clone());
        }
        let other = any
            .then(|| self.other(now, certificate.thumbprint()))
            .flatten();
        let entry = self.entry(certificate);
        let own = entry.valid(now);
        let fallback = match (own, other) {
            (Some(cached), _) if cached.is_fresh(now) => Fallback::Give(cached.token.clone()),
            (_, Some(token)) => Fallback::Give(token),
            (Some(cached), None) => Fallback::Wait(Some(cached.token.clone())),
            (None, None) => Fallback::Wait(None),
        };
        if let Some(flight) = &entry.flight {
            return Step::Join(flight.clone(), fallback);
        }
        match (&entry.failure, fallback) {
            (Some(failure), Fallback::Wait(None)) if failure.is_recent(now) => {
                Step::Fail(failure.error.clone())
            }
            (Some(failure), Fallback::Give(token) | Fallback::Wait(Some(token)))
                if failure.is_recent(now) =>
            {
                Step::Give(token)
            }
            (_, fallback) => {
                let trigger = match own {
                    Some(cached) if cached.is_refused => Trigger::Refused(cached.token.clone()),
                    Some(cached) => Trigger::Refresh(cached.token.clone()),
                    None => Trigger::Miss,
                };
                Step::Start(trigger, fallback)
            }
        }
    }

    pub(super) fn started(&mut self, certificate: &Certificate, flight: F) {
        self.entry(certificate).flight = Some(flight);
    }

    /// Whether there is another token now.
    pub(super) fn completed(
        &mut self,
        now: SystemTime,
        certificate: &Certificate,
        issued: Result<CachedToken, Error>,
    ) -> bool {
        let backoff = self.backoff;
        let entry = self.entry(certificate);
        entry.flight = None;
        let mut is_new = false;
        match issued {
            Ok(cached) => {
                let former = entry.cached.as_ref();
                is_new = former.is_none_or(|former| former.token != cached.token);
                let before = entry.cached.replace(cached);
                entry.failure = None;
                // It came to its end, so the resource took it.
                if before.is_some_and(|before| !before.is_counted) {
                    self.refused_in_a_row = 0;
                }
            }
            Err(error) => {
                entry.failure = Some(Failure::after(entry.failure.take(), error, now, &backoff))
            }
        }
        // An entry without a token is kept too: it holds the pause after a failure.
        if self.entries.len() > MAX_ENTRIES {
            let thumbprint = certificate.thumbprint();
            self.entries.retain(|entry| {
                entry.certificate.thumbprint() == thumbprint
                    || entry.flight.is_some()
                    || entry.valid(now).is_some()
            });
        }
        is_new
    }

    /// Notes that the resource refused a token.
    pub(super) fn refused(&mut self, now: SystemTime, token: &Token) -> Refusal {
        let since = self.last_refusal.map(|last| now.duration_since(last));
        let mut all = self
            .entries
            .iter_mut()
            .filter_map(|entry| entry.cached.as_mut());
        let Some(cached) = all.find(|cached| cached.token == *token && !cached.is_refused) else {
            return Refusal::Kept;
        };
        if let Some(settled_at) = cached.settled_at {
            if self.paused_until.is_some_and(|until| now < until) {
                return Refusal::Kept;
            }
            if !std::mem::replace(&mut cached.is_counted, true) {
                self.refused_in_a_row += 1;
            }
            if self.refused_in_a_row >= MAX_REFUSED_IN_A_ROW {
                // This one was refused, and may be the first of the next three.
                self.refused_in_a_row = 1;
                self.paused_until = now.checked_add(REFUSAL_PAUSE);
                return Refusal::Paused(REFUSAL_PAUSE);
            }
            if now < settled_at {
                return Refusal::Kept;
            }
        }
        // A clock that was set back does not count.
        if since.is_some_and(|since| since.is_ok_and(|since| since < MIN_BETWEEN_REFUSALS)) {
            return Refusal::Kept;
        }
        cached.is_refused = true;
        self.last_refusal = Some(now);
        Refusal::Replaced
    }

    /// The freshest token of another certificate. It is sent with that certificate.
    fn other(&self, now: SystemTime, except: Option<Thumbprint>) -> Option<Token> {
        let others = self
            .entries
            .iter()
            .filter(|entry| entry.certificate.thumbprint() != except);
        let good =
            others.filter_map(|entry| entry.valid(now).filter(|cached| cached.is_fresh(now)));
        let best = good.max_by_key(|cached| {
            cached
                .times
                .stale_at
                .map_or((1, now), |stale_at| (0, stale_at))
        });
        best.map(|cached| cached.token.clone())
    }

    fn entry(&mut self, certificate: &Certificate) -> &mut Entry<F> {
        let thumbprint = certificate.thumbprint();
        let index = self
            .entries
            .iter()
            .position(|entry| entry.certificate.thumbprint() == thumbprint);
        let index = index.unwrap_or_else(|| {
            self.entries.push(Entry {
                certificate: certificate.clone(),
                cached: None,
                failure: None,
                flight: None,
            });
            self.entries.len() - 1
        });
        &mut self.entries[index]
    }
}

impl<F> Entry<F> {
    fn valid(&self, now: SystemTime) -> Option<&CachedToken> {
        let is_over = self
            .certificate
            .not_after()
            .is_some_and(|not_after| not_after <= now);
        self.cached
            .as_ref()
            .filter(|cached| !is_over && cached.is_valid(now))
    }
}

impl CachedToken {
    pub(crate) fn new(token: Token, times: Times) -> Self {
        Self {
            token,
            times,
            settled_at: None,
            is_refused: false,
            is_counted: false,
        }
    }

    fn is_valid(&self, now: SystemTime) -> bool {
        self.token.expires_at().is_none_or(|at| now < at)
    }

    fn is_fresh(&self, now: SystemTime) -> bool {
        !self.is_refused && self.times.stale_at.is_none_or(|at| now < at)
    }

    fn needs_refresh(&self, now: SystemTime) -> bool {
        self.times.refresh_at.is_some_and(|at| now >= at)
    }
}
