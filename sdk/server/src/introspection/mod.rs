//! Access tokens, opaque or not, of which the authorization server is asked (RS-2, RFC 7662).

mod cache;
mod endpoint;
mod response;

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use bowline_proof::AccessToken;
use rustls_pki_types::UnixTime;
use tokio::sync::Semaphore;

use self::cache::{CachedVerdict, VerdictCache};
pub use self::endpoint::IntrospectionEndpoint;
use self::response::Verdict;
use crate::{Clock, ExpectedClaims, TokenError, TokenValidator, ValidToken};

/// Validates access tokens by asking the authorization server about them: `active`; `exp`, `nbf`
/// and `aud` where they are in the answer; `iss` where it is configured. What the token is bound to
/// is read from the answer's `cnf` (RFC 8705 section 3.2, TK-1).
///
/// VerdictCache are remembered by the token's hash, within a bound, so that most requests ask nobody: a
/// good one for a minute and never past `exp`, a bad one for 5 s, and that there was none for 1 s.
/// So a token that is revoked may pass for as long as good answers are remembered. However many
/// requests come with one token, it is asked about once at a time; of all tokens together no more
/// than 64 at a time.
///
/// An answer that cannot be had, or is none, makes a token neither valid nor invalid
/// ([`TokenErrorKind::Unavailable`](crate::TokenErrorKind::Unavailable)); the log says why.
#[derive(Clone)]
pub struct IntrospectionValidator(Arc<Inner>);

struct Inner {
    endpoint: IntrospectionEndpoint,
    expected: ExpectedClaims,
    times: CacheTimes,
    timeout: Duration,
    slots: Semaphore,
    cache: VerdictCache,
    clock: Clock,
}

/// How long answers are remembered.
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
        // moka takes a thousand years at most.
        valid
            .max(invalid)
            .max(unavailable)
            .max(MAX_PAUSE)
            .min(A_YEAR)
    }
}

const A_YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A longer wait that the endpoint asks for (`Retry-After`) is cut to this.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// A shorter one is made this: an endpoint that is not able to answer is not asked for each
/// request, whatever it says.
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
            remembered_tokens: NonZeroUsize::new(4096).expect("4096 is not 0"),
            clock: Clock::default(),
        }
    }
}

impl TokenValidator for IntrospectionValidator {
    async fn validate(&self, token: &AccessToken) -> Result<ValidToken, TokenError> {
        let now = self.0.clock.now();
        let known = self
            .0
            .cache
            .get_or_ask(token.hash(), now, self.0.ask(token))
            .await;
        match known.verdict {
            Verdict::Valid(token) => Ok(token),
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
    /// Asks the authorization server. Waiting for a free slot counts towards the time limit.
    async fn ask(&self, token: &AccessToken) -> CachedVerdict {
        let exchange = async {
            // The semaphore is never closed.
            let _slot = self.slots.acquire().await;
            self.endpoint.ask(token, self.timeout).await
        };
        let outcome = tokio::time::timeout(self.timeout, exchange).await;
        let now = self.clock.now();
        let after = |time: Duration| {
            UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()).saturating_add(time))
        };
        let (mut pause, mut cause) = (None, None);
        let verdict = match outcome {
            Ok(Ok(response)) => {
                pause = response.retry_after();
                response::verdict(&response, &self.expected, now)
            }
            Ok(Err(error)) => {
                cause = Some(error);
                Verdict::Unavailable("the introspection endpoint cannot be reached")
            }
            Err(_) => Verdict::Unavailable("the introspection endpoint did not answer in time"),
        };
        let until = match &verdict {
            Verdict::Valid(token) => response::expiry(token.claims())
                .into_iter()
                .fold(after(self.times.valid), UnixTime::min),
            Verdict::Invalid(_) => after(self.times.invalid),
            Verdict::Unavailable(why) => {
                let cause = cause
                    .as_ref()
                    .map(|error| error as &(dyn std::error::Error + 'static));
                tracing::warn!(endpoint = %self.endpoint, why, cause, "introspection gave no answer");
                after(pause.map_or(self.times.unavailable, |pause| {
                    pause.clamp(MIN_PAUSE, MAX_PAUSE)
                }))
            }
        };
        CachedVerdict { verdict, until }
    }
}

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
    remembered_tokens: NonZeroUsize,
    clock: Clock,
}

impl IntrospectionValidatorBuilder {
    /// Whether a token passes if the answer has no `aud`. Default: no. Only where the authorization
    /// server itself calls a token inactive to a resource server that it was not issued for: the
    /// receiver of a token could otherwise use it at another (T5). An `aud` that is there must name
    /// this server all the same.
    pub fn accept_missing_audience(mut self, accepted: bool) -> Self {
        self.expected.audience_required = !accepted;
        self
    }

    /// How long a good answer is remembered at most, in whole seconds: how long a revoked token may
    /// still pass. Default: a minute; zero asks for every request.
    pub fn remember_valid(mut self, time: Duration) -> Self {
        self.times.valid = time;
        self
    }

    /// How long a bad answer is remembered, in whole seconds. Default: 5 s. A token that nobody
    /// knows costs one question in this time.
    pub fn remember_invalid(mut self, time: Duration) -> Self {
        self.times.invalid = time;
        self
    }

    /// How long after a failure nobody asks about the same token again, in whole seconds, unless
    /// the endpoint says (`Retry-After`, a second at least and a minute at most). Default: 1 s.
    pub fn pause_after_failure(mut self, time: Duration) -> Self {
        self.times.unavailable = time;
        self
    }

    /// How long one question may take, waiting for its turn included. Default: 5 s.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }

    /// How many questions there may be at a time. Default: 64. Others wait.
    pub fn concurrency(mut self, questions: NonZeroUsize) -> Self {
        self.concurrency = questions;
        self
    }

    /// About how many tokens answers are remembered. Default: 4,096. Tokens that are used often
    /// stay in preference to those that came once, so that made-up tokens do not push good ones
    /// out.
    pub fn remembered_tokens(mut self, tokens: NonZeroUsize) -> Self {
        self.remembered_tokens = tokens;
        self
    }

    /// The clock for `exp`, `nbf` and the age of answers. Default: the system's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Finishes the validator. Nobody is asked yet.
    #[must_use]
    pub fn build(self) -> IntrospectionValidator {
        IntrospectionValidator(Arc::new(Inner {
            endpoint: self.endpoint,
            expected: self.expected,
            times: self.times,
            timeout: self.timeout,
            slots: Semaphore::new(self.concurrency.get().min(Semaphore::MAX_PERMITS)),
            cache: VerdictCache::new(self.remembered_tokens, self.times.longest()),
            clock: self.clock,
        }))
    }
}
