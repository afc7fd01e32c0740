//! Caches tokens and replaces them in time, with one request under way per certificate however many
//! callers wait.
//!
//! [`state`] decides; it knows no I/O. This driver starts what it decides on, as a task of its own:
//! a caller that goes away takes nothing from the others. Nothing runs while nobody asks: it is the
//! callers who notice that a token is due.

mod failure;
mod state;
#[cfg(test)]
mod tests;

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bowline_client::{Identity, Thumbprint};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::shared::backoff::Backoff;
use crate::{Clock, Error, ErrorKind, Token};
use state::{CacheState, Fallback, Step};
pub(crate) use state::{CachedToken, Times};

/// Where the tokens of a [`Cache`] come from.
pub(crate) trait TokenIssuer: Send + Sync + 'static {
    /// A token for whoever holds this certificate, or for nobody in particular. It ends by itself,
    /// in bounded time.
    fn issue(
        self: Arc<Self>,
        certificate: Certificate,
        trigger: Trigger,
    ) -> BoxFuture<'static, Result<CachedToken, Error>>;
}

/// Why a token is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trigger {
    /// The one that there is will do for some time.
    Refresh,
    /// There is none that will do.
    Miss,
}

/// The certificate that a token is for.
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

/// What a source has counted so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// How often a token was asked for: of the authorization server, or by reading the file.
    pub requested: u64,
    /// How often that failed.
    pub failed: u64,
    /// How often the resource refused a token and another was asked for because of it.
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
}

enum Found {
    Token(Token),
    Flight(Flight, Fallback),
}

/// A token on its way, for any number who wait.
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
        }
    }

    pub(crate) fn issuer(&self) -> &Arc<I> {
        &self.issuer
    }

    /// A token for this holder. While there is none and one of another holder is still good, that
    /// one.
    pub(crate) async fn token(&self, certificate: Certificate) -> Result<Token, Error> {
        self.counted(self.wait(certificate, true).await)
    }

    /// A token for this very holder.
    pub(crate) async fn token_of(&self, certificate: Certificate) -> Result<Token, Error> {
        self.counted(self.wait(certificate, false).await)
    }

    pub(crate) fn refused(&self, token: &Token) {
        if self.lock().refused(self.clock.now(), token) {
            add(&self.counters.refused);
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
        let fallback = match fallback {
            Fallback::Give(token) => return Ok(token),
            Fallback::Wait(fallback) => fallback,
        };
        match flight.await {
            Ok(token) => Ok(token),
            Err(error) => match fallback {
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
                let (completed, completion) = oneshot::channel();
                let flight =
                    completion.map(|completed| completed.unwrap_or_else(|_| Err(interrupted())));
                let flight: Flight = flight.boxed().shared();
                state.started(certificate, flight.clone());
                // A runtime that is being shut down drops what is spawned, and with that locks the
                // shelf.
                drop(state);
                runtime.spawn(self.run_flight(certificate.clone(), trigger, completed));
                Ok(Found::Flight(flight, fallback))
            }
        }
    }

    /// Asks for a token: the body of a task of its own.
    fn run_flight(
        &self,
        certificate: Certificate,
        trigger: Trigger,
        waiting: oneshot::Sender<Result<Token, Error>>,
    ) -> impl Future<Output = ()> + Send + 'static {
        add(&self.counters.requested);
        let issuer = self.issuer.clone();
        let mut completion = Completion {
            state: self.state.clone(),
            clock: self.clock.clone(),
            counters: self.counters.clone(),
            certificate: certificate.clone(),
            waiting: Some(waiting),
        };
        async move {
            // A source, key or clock of the caller's that panics must not leave all others waiting
            // for ever.
            let issuing = async move { issuer.issue(certificate, trigger).await };
            let issued = AssertUnwindSafe(issuing).catch_unwind().await;
            let panicked = |_| {
                Err(Error::new(
                    ErrorKind::Unavailable,
                    "asking for a token panicked",
                ))
            };
            completion.settle(issued.unwrap_or_else(panicked));
        }
    }

    fn counted(&self, result: Result<Token, Error>) -> Result<Token, Error> {
        add(match result {
            Ok(_) => &self.counters.handed_out,
            Err(_) => &self.counters.errors,
        });
        result
    }

    fn lock(&self) -> MutexGuard<'_, CacheState<Flight>> {
        lock(&self.state)
    }
}

/// Where a flight ends: on the shelf first, then with those who wait. One that is dropped under way
/// (its runtime was shut down) ends as well.
struct Completion {
    state: Arc<Mutex<CacheState<Flight>>>,
    clock: Clock,
    counters: Arc<Counters>,
    certificate: Certificate,
    waiting: Option<oneshot::Sender<Result<Token, Error>>>,
}

impl Completion {
    fn settle(&mut self, issued: Result<CachedToken, Error>) {
        let Some(waiting) = self.waiting.take() else {
            return;
        };
        let result = match &issued {
            Ok(cached) => Ok(cached.token.clone()),
            Err(error) => Err(error.clone()),
        };
        if let Err(error) = &result {
            add(&self.counters.failed);
            tracing::warn!(%error, "no token could be had");
        }
        lock(&self.state).completed(self.clock.now(), &self.certificate, issued);
        let _ = waiting.send(result);
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        self.settle(Err(interrupted()));
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

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
