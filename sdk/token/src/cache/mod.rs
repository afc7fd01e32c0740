//! Caches tokens and replaces them in time, with one request under way per certificate however many
//! callers wait.
//!
//! [`state`] decides, without I/O. This driver makes the requests, each in a task of its own, so
//! that a caller that is cancelled does not cancel it for the others. Nothing runs in the
//! background while no caller asks: it is a caller's question that starts a refresh.

mod failure;
mod state;
#[cfg(test)]
mod tests;

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bowline_http_client::{Identity, Thumbprint};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::observe::Observed;
use crate::shared::backoff::Backoff;
use crate::{Clock, Error, ErrorKind, Event, Reason, Token};
use state::{CacheState, Fallback, Refusal, Step};
pub(crate) use state::{CachedToken, Times};

/// Where the tokens of a [`Cache`] come from.
pub(crate) trait TokenIssuer: Send + Sync + 'static {
    /// Requests a token for a client with this certificate, or without one. Ends by itself, in
    /// bounded time.
    fn issue(
        self: Arc<Self>,
        certificate: Certificate,
        trigger: Trigger,
    ) -> BoxFuture<'static, Result<CachedToken, Error>>;
}

/// Why a token is requested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trigger {
    /// This cached token is still usable, but should be replaced soon.
    Refresh(Token),
    /// The resource refused this one.
    Refused(Token),
    /// There is no usable token.
    Miss,
}

impl Trigger {
    fn reason(&self) -> Reason {
        match self {
            Self::Refresh(_) => Reason::Refresh,
            Self::Refused(_) => Reason::Refused,
            Self::Miss => Reason::Missing,
        }
    }

    /// The token that is to be replaced: not to be handed out as its own successor.
    #[cfg(unix)]
    pub(crate) fn replaced(&self) -> Option<&Token> {
        match self {
            Self::Refresh(token) | Self::Refused(token) => Some(token),
            Self::Miss => None,
        }
    }
}

/// The client certificate that a token is for, if any.
#[derive(Clone, Debug)]
pub(crate) struct Certificate(pub(crate) Option<Arc<Identity>>);

impl Certificate {
    pub(crate) const NONE: Self = Self(None);

    pub(crate) fn thumbprint(&self) -> Option<Thumbprint> {
        self.0.as_ref().map(|identity| identity.thumbprint())
    }

    fn not_after(&self) -> Option<SystemTime> {
        self.0.as_ref().map(|identity| identity.not_after())
    }
}

/// Counters of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// How often a token was requested from the authorization server, or the file read.
    pub requested: u64,
    /// How often such a request failed.
    pub failed: u64,
    /// How often the resource refused a token, so that another was requested.
    pub refused: u64,
    /// Tokens handed out.
    pub handed_out: u64,
    /// Errors handed out.
    pub errors: u64,
}

pub(crate) struct Cache<I> {
    issuer: Arc<I>,
    clock: Clock,
    state: Arc<Mutex<CacheState<Flight>>>,
    counters: Arc<Counters>,
    observed: Observed,
}

enum Found {
    Token(Token),
    Flight(Flight, Fallback),
}

/// A request under way, which any number of callers wait for.
type Flight = Shared<BoxFuture<'static, Result<Token, Error>>>;

#[derive(Default)]
struct Counters {
    requested: AtomicU64,
    failed: AtomicU64,
    refused: AtomicU64,
    handed_out: AtomicU64,
    errors: AtomicU64,
}

impl<I: TokenIssuer> Cache<I> {
    pub(crate) fn new(issuer: Arc<I>, clock: Clock, backoff: Backoff) -> Self {
        Self {
            issuer,
            clock,
            state: Arc::new(Mutex::new(CacheState::new(backoff))),
            counters: Arc::default(),
            observed: Observed::default(),
        }
    }

    /// Tells what happens from now on.
    pub(crate) fn observed(mut self, observed: Observed) -> Self {
        self.observed = observed;
        self
    }

    pub(crate) fn issuer(&self) -> &Arc<I> {
        &self.issuer
    }

    /// A token for this certificate; or, while there is none, a fresh one for another certificate.
    pub(crate) async fn token(&self, certificate: Certificate) -> Result<Token, Error> {
        self.counted(self.wait(certificate, true).await)
    }

    /// A token for this certificate and no other.
    pub(crate) async fn token_for(&self, certificate: Certificate) -> Result<Token, Error> {
        self.counted(self.wait(certificate, false).await)
    }

    pub(crate) fn refused(&self, token: &Token) {
        let refusal = self.lock().refused(self.clock.now(), token);
        match refusal {
            Refusal::Replaced => {
                increment(&self.counters.refused);
                self.observed.emit(&Event::Refused);
            }
            Refusal::Kept => {}
            Refusal::Paused(pause) => tracing::warn!(
                "the resource refused three tokens in a row: none is replaced on its account for \
                 {pause:?}; compare audience, scope and clocks"
            ),
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counters {
            requested,
            failed,
            refused,
            handed_out,
            errors,
        } = &*self.counters;
        Counts {
            requested: read(requested),
            failed: read(failed),
            refused: read(refused),
            handed_out: read(handed_out),
            errors: read(errors),
        }
    }

    async fn wait(&self, certificate: Certificate, any: bool) -> Result<Token, Error> {
        let (flight, fallback) = match self.step(&certificate, any)? {
            Found::Token(token) => return Ok(token),
            Found::Flight(flight, fallback) => (flight, fallback),
        };
        let stale = match fallback {
            Fallback::Give(token) => return Ok(token),
            Fallback::Wait(stale) => stale,
        };
        match flight.await {
            Ok(token) => Ok(token),
            Err(error) => match stale {
                Some(token) if token.expires_at().is_none_or(|at| self.clock.now() < at) => {
                    Ok(token)
                }
                _ => Err(error),
            },
        }
    }

    fn step(&self, certificate: &Certificate, any: bool) -> Result<Found, Error> {
        let mut state = self.lock();
        match state.step(self.clock.now(), certificate, any) {
            Step::Give(token) => Ok(Found::Token(token)),
            Step::Fail(error) => Err(error),
            Step::Join(flight, fallback) => Ok(Found::Flight(flight, fallback)),
            Step::Start(trigger, fallback) => {
                let Ok(runtime) = Handle::try_current() else {
                    return Err(Error::new(
                        ErrorKind::Configuration,
                        "a token source needs a tokio runtime: poll its futures inside one",
                    ));
                };
                let (sender, receiver) = oneshot::channel();
                let flight = receiver.map(|result| result.unwrap_or_else(|_| Err(interrupted())));
                let flight: Flight = flight.boxed().shared();
                state.started(certificate, flight.clone());
                // A runtime that is being shut down drops the new task at once, and the drop of its
                // `Completion` locks the state.
                drop(state);
                runtime.spawn(self.run_flight(certificate.clone(), trigger, sender));
                Ok(Found::Flight(flight, fallback))
            }
        }
    }

    /// Requests a token: the body of a task of its own.
    fn run_flight(
        &self,
        certificate: Certificate,
        trigger: Trigger,
        waiters: oneshot::Sender<Result<Token, Error>>,
    ) -> impl Future<Output = ()> + Send + 'static {
        increment(&self.counters.requested);
        let issuer = self.issuer.clone();
        let mut completion = Completion {
            state: self.state.clone(),
            clock: self.clock.clone(),
            counters: self.counters.clone(),
            observed: self.observed.clone(),
            reason: trigger.reason(),
            certificate: certificate.clone(),
            waiters: Some(waiters),
        };
        async move {
            // If a token source, key or clock that the user gave panics, the waiting callers must
            // hear of it.
            let issuing = async move { issuer.issue(certificate, trigger).await };
            let issued = AssertUnwindSafe(issuing).catch_unwind().await;
            let panicked = |_| {
                Err(Error::new(
                    ErrorKind::Unavailable,
                    "asking for a token panicked",
                ))
            };
            completion.finish(issued.unwrap_or_else(panicked));
        }
    }

    fn counted(&self, result: Result<Token, Error>) -> Result<Token, Error> {
        match &result {
            Ok(_) => {
                increment(&self.counters.handed_out);
                self.observed.emit(&Event::HandedOut);
            }
            Err(error) => {
                increment(&self.counters.errors);
                self.observed.emit(&Event::NotHandedOut(error));
            }
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, CacheState<Flight>> {
        lock(&self.state)
    }
}

/// Ends a request: stores the result first, then tells the waiting callers. Dropped before that
/// (its runtime was shut down), it ends the request with an error.
struct Completion {
    state: Arc<Mutex<CacheState<Flight>>>,
    clock: Clock,
    counters: Arc<Counters>,
    observed: Observed,
    reason: Reason,
    certificate: Certificate,
    waiters: Option<oneshot::Sender<Result<Token, Error>>>,
}

impl Completion {
    fn finish(&mut self, issued: Result<CachedToken, Error>) {
        let Some(waiters) = self.waiters.take() else {
            return;
        };
        let result = match &issued {
            Ok(cached) => Ok(cached.token.clone()),
            Err(error) => Err(error.clone()),
        };
        if let Err(error) = &result {
            increment(&self.counters.failed);
            tracing::warn!(%error, "no token could be obtained");
        }
        let is_new = lock(&self.state).completed(self.clock.now(), &self.certificate, issued);
        let reason = self.reason;
        self.observed.emit(&match &result {
            Ok(token) => Event::Obtained {
                reason,
                is_new,
                expires_at: token.expires_at(),
            },
            Err(error) => Event::Failed { reason, error },
        });
        let _ = waiters.send(result);
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        self.finish(Err(interrupted()));
    }
}

fn interrupted() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the runtime that asked for a token was shut down",
    )
}

fn lock(state: &Mutex<CacheState<Flight>>) -> MutexGuard<'_, CacheState<Flight>> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn increment(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
