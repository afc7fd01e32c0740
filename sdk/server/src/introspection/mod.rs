//! Validates access tokens, opaque or not, by token introspection (RS-2, RFC 7662).

mod endpoint;
mod questions;
mod quota;
mod response;
mod slots;

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use bowline_proof::AccessToken;
use rustls_pki_types::UnixTime;
use tokio::time::{Instant, timeout_at};

pub use self::endpoint::IntrospectionEndpoint;
use self::questions::Questions;
use self::quota::InactiveQuota;
use self::response::Verdict;
use self::slots::Slots;
use crate::{Clock, ExpectedClaims, Requester, TokenError, TokenValidator, ValidToken};

/// Validates access tokens by asking the authorization server about them: `active`; `exp`, `nbf`
/// and `aud` if the response has them; `iss` if it is configured. What the token is bound to is
/// read from the response's `cnf` (RFC 8705 section 3.2, TK-1).
///
/// Responses are cached by the token's hash, within a bound, so that most requests need no
/// introspection: that a token is valid for a minute and never past `exp`, that it is invalid for 5
/// s, and a failure for 1 s. A revoked token may therefore pass for as long as valid responses are
/// cached. There is one introspection request at a time per token, and no more than 64 at a time in
/// total, whether or not the requests that caused them are still there. While all 64 are under way,
/// the next one goes to the clients in turn.
///
/// A client whose tokens the authorization server does not know (`active` is false) is limited: 50
/// such answers at once and 20 a second, then
/// [`TokenErrorKind::Limited`](crate::TokenErrorKind::Limited) (429) without a question. Tokens
/// that are active are never charged for.
///
/// If the request fails, or the response is malformed, the token is neither valid nor invalid
/// ([`TokenErrorKind::Unavailable`](crate::TokenErrorKind::Unavailable)); the log says why.
#[derive(Clone)]
pub struct IntrospectionValidator(Arc<Inner>);

struct Inner {
    endpoint: IntrospectionEndpoint,
    expected: ExpectedClaims,
    times: CacheTimes,
    timeout: Duration,
    slots: Arc<Slots>,
    quota: InactiveQuota,
    questions: Questions,
    clock: Clock,
}

/// A verdict, and the second from which it must not be used any more.
#[derive(Clone)]
struct CachedVerdict {
    verdict: Verdict,
    until: UnixTime,
}

/// How long responses are cached.
#[derive(Clone, Copy, Debug)]
struct CacheTimes {
    valid: Duration,
    invalid: Duration,
    unavailable: Duration,
}

impl CacheTimes {
    fn longest(self) -> Duration {
        let Self {
            valid,
            invalid,
            unavailable,
        } = self;
        // moka accepts a thousand years at most.
        valid
            .max(invalid)
            .max(unavailable)
            .max(MAX_PAUSE)
            .min(A_YEAR)
    }
}

const A_YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The longest pause that the endpoint can ask for (`Retry-After`).
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// The shortest pause: a failing endpoint is not asked again for each request, even if it says so.
const MIN_PAUSE: Duration = Duration::from_secs(1);

impl IntrospectionValidator {
    /// Starts a validator that asks `endpoint` and accepts tokens with these claims.
    pub fn builder(
        mut expected: ExpectedClaims,
        endpoint: IntrospectionEndpoint,
    ) -> IntrospectionValidatorBuilder {
        expected.expiry_required = false;
        IntrospectionValidatorBuilder {
            endpoint,
            expected,
            times: CacheTimes {
                valid: Duration::from_secs(60),
                invalid: Duration::from_secs(5),
                unavailable: Duration::from_secs(1),
            },
            timeout: Duration::from_secs(5),
            concurrency: NonZeroUsize::new(64).expect("64 is not 0"),
            cached_tokens: NonZeroUsize::new(4096).expect("4096 is not 0"),
            clock: Clock::default(),
        }
    }
}

impl TokenValidator for IntrospectionValidator {
    async fn validate(&self, token: &AccessToken) -> Result<ValidToken, TokenError> {
        self.validate_as_asked_by(token, None).await
    }

    async fn validate_for(
        &self,
        token: &AccessToken,
        requester: &Requester,
    ) -> Result<ValidToken, TokenError> {
        self.validate_as_asked_by(token, Some(requester)).await
    }

    fn asks(&self, token: &AccessToken) -> bool {
        !self.0.questions.is_filed(token.hash(), self.0.clock.now())
    }
}

impl IntrospectionValidator {
    async fn validate_as_asked_by(
        &self,
        token: &AccessToken,
        requester: Option<&Requester>,
    ) -> Result<ValidToken, TokenError> {
        let known = self.0.verdict(token, requester).await.map_err(|wait| {
            TokenError::limited("too many access tokens that are not active", wait)
        })?;
        match known.verdict {
            Verdict::Valid(token) => Ok(token),
            Verdict::Inactive => Err(TokenError::invalid("the access token is not active")),
            Verdict::Invalid(detail) => Err(TokenError::invalid(detail)),
            Verdict::Unavailable(detail) => {
                let left = known
                    .until
                    .as_secs()
                    .saturating_sub(self.0.clock.now().as_secs());
                Err(TokenError::unavailable(detail, Duration::from_secs(left)))
            }
        }
    }
}

impl Inner {
    /// Asks the authorization server.
    async fn ask(&self, token: &AccessToken, deadline: Instant) -> CachedVerdict {
        let exchange = self.endpoint.ask(token, self.timeout);
        let outcome = timeout_at(deadline, exchange).await;
        let now = self.clock.now();
        let after = |time: Duration| {
            UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()).saturating_add(time))
        };
        let (mut pause, mut cause) = (None, None);
        let verdict = match outcome {
            Ok(Ok(response)) => {
                pause = response.retry_after();
                response::verdict(&response, token, &self.expected, now)
            }
            Ok(Err(error)) => {
                cause = Some(error);
                Verdict::Unavailable("the introspection endpoint cannot be reached")
            }
            Err(_) => Verdict::Unavailable(NO_ANSWER),
        };
        let until = match &verdict {
            Verdict::Valid(token) => response::expiry(token.claims())
                .into_iter()
                .fold(after(self.times.valid), UnixTime::min),
            Verdict::Inactive | Verdict::Invalid(_) => after(self.times.invalid),
            Verdict::Unavailable(why) => {
                let cause = cause
                    .as_ref()
                    .map(|error| error as &(dyn std::error::Error + 'static));
                tracing::warn!(endpoint = %self.endpoint, why, cause, "introspection failed");
                after(pause.map_or(self.times.unavailable, |pause| {
                    pause.clamp(MIN_PAUSE, MAX_PAUSE)
                }))
            }
        };
        CachedVerdict { verdict, until }
    }

    /// For a question that was not put in time.
    fn unanswered(&self) -> CachedVerdict {
        tracing::warn!(endpoint = %self.endpoint, why = NO_ANSWER, "introspection failed");
        let pause = self.times.unavailable.max(MIN_PAUSE);
        let until = Duration::from_secs(self.clock.now().as_secs()).saturating_add(pause);
        CachedVerdict {
            verdict: Verdict::Unavailable(NO_ANSWER),
            until: UnixTime::since_unix_epoch(until),
        }
    }
}

const NO_ANSWER: &str = "the introspection endpoint did not answer in time";

impl fmt::Debug for IntrospectionValidator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntrospectionValidator")
            .field("endpoint", &self.0.endpoint)
            .field("expected", &self.0.expected)
            .finish_non_exhaustive()
    }
}

/// See [`IntrospectionValidator::builder`].
#[derive(Debug)]
#[must_use = "a builder does nothing until `build`"]
pub struct IntrospectionValidatorBuilder {
    endpoint: IntrospectionEndpoint,
    expected: ExpectedClaims,
    times: CacheTimes,
    timeout: Duration,
    concurrency: NonZeroUsize,
    cached_tokens: NonZeroUsize,
    clock: Clock,
}

impl IntrospectionValidatorBuilder {
    /// Whether a token passes if the response has no `aud`. Default: no. Use it only if the
    /// authorization server itself reports a token as inactive to resource servers that it was not
    /// issued for: otherwise one resource server could use a token that it received at another
    /// (T5). An `aud` that is present must still name this server.
    pub fn accept_missing_audience(mut self, accepted: bool) -> Self {
        self.expected.audience_required = !accepted;
        self
    }

    /// How long a valid response is cached at most, in whole seconds: how long a revoked token may
    /// still pass. Default: a minute; zero introspects for every request.
    pub fn cache_valid(mut self, time: Duration) -> Self {
        self.times.valid = time;
        self
    }

    /// How long an invalid response is cached, in whole seconds. Default: 5 s. An unknown token
    /// causes one introspection request in this time.
    pub fn cache_invalid(mut self, time: Duration) -> Self {
        self.times.invalid = time;
        self
    }

    /// How long after a failure the same token is not introspected again, in whole seconds, unless
    /// the endpoint says how long (`Retry-After`, a second at least and a minute at most). Default:
    /// 1 s.
    pub fn pause_after_failure(mut self, time: Duration) -> Self {
        self.times.unavailable = time;
        self
    }

    /// How long one introspection may take, including the wait for a free slot. Default: 5 s.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }

    /// How many introspection requests may run at a time. Default: 64. Others wait.
    pub fn concurrency(mut self, questions: NonZeroUsize) -> Self {
        self.concurrency = questions;
        self
    }

    /// For about how many tokens responses are cached. Default: 4,096. Tokens that are used often
    /// are kept in preference to those used once, so that made-up tokens do not evict valid ones.
    pub fn cached_tokens(mut self, tokens: NonZeroUsize) -> Self {
        self.cached_tokens = tokens;
        self
    }

    /// The clock for `exp`, `nbf` and the age of cached responses. Default: the system's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Finishes the validator. Nothing is requested yet.
    #[must_use]
    pub fn build(self) -> IntrospectionValidator {
        IntrospectionValidator(Arc::new(Inner {
            endpoint: self.endpoint,
            expected: self.expected,
            times: self.times,
            timeout: self.timeout,
            slots: Slots::new(self.concurrency.get()),
            quota: InactiveQuota::new(),
            questions: Questions::new(self.cached_tokens, self.times.longest()),
            clock: self.clock,
        }))
    }
}

#[cfg(test)]
mod tests;
