//! Tokens that are kept and replaced in time: one replacement at a time however many callers wait.
//!
//! [`shelf`] decides; it knows no I/O. This driver starts what it decides on, as a task of its own:
//! a caller that goes away takes nothing from the others. Nothing runs while nobody asks: it is the
//! callers who notice that a token is due.

mod failure;
mod shelf;
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
pub(crate) use shelf::{Held, Times};
use shelf::{Meanwhile, Shelf, Step};

/// Where the tokens of a [`Cache`] come from.
pub(crate) trait Issue: Send + Sync + 'static {
    /// A token for whoever holds this certificate, or for nobody in particular. It ends by itself,
    /// in bounded time.
    fn issue(
        self: Arc<Self>,
        holder: Holder,
        occasion: Occasion,
    ) -> BoxFuture<'static, Result<Held, Error>>;
}

/// Why a token is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Occasion {
    /// The one that there is will do for some time.
    Due,
    /// There is none that will do.
    Need,
}

/// The certificate that a token is for.
#[derive(Clone, Debug)]
pub(crate) struct Holder(pub(crate) Option<Arc<Identity>>);

impl Holder {
    pub(crate) const NOBODY: Self = Self(None);

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
    shelf: Arc<Mutex<Shelf<Flight>>>,
    counters: Arc<Counters>,
}

enum Taken {
    Token(Token),
    Flight(Flight, Meanwhile),
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

impl<I: Issue> Cache<I> {
    pub(crate) fn new(issuer: Arc<I>, clock: Clock, backoff: Backoff) -> Self {
        Self {
            issuer,
            clock,
            shelf: Arc::new(Mutex::new(Shelf::new(backoff))),
            counters: Arc::default(),
        }
    }

    pub(crate) fn issuer(&self) -> &Arc<I> {
        &self.issuer
    }

    /// A token for this holder. While there is none and one of another holder is still good, that
    /// one.
    pub(crate) async fn token(&self, holder: Holder) -> Result<Token, Error> {
        self.counted(self.wait(holder, true).await)
    }

    /// A token for this very holder.
    pub(crate) async fn token_of(&self, holder: Holder) -> Result<Token, Error> {
        self.counted(self.wait(holder, false).await)
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

    async fn wait(&self, holder: Holder, any: bool) -> Result<Token, Error> {
        let (flight, meanwhile) = match self.step(&holder, any)? {
            Taken::Token(token) => return Ok(token),
            Taken::Flight(flight, meanwhile) => (flight, meanwhile),
        };
        let fallback = match meanwhile {
            Meanwhile::Give(token) => return Ok(token),
            Meanwhile::Wait(fallback) => fallback,
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

    fn step(&self, holder: &Holder, any: bool) -> Result<Taken, Error> {
        let mut shelf = self.lock();
        match shelf.step(self.clock.now(), holder, any) {
            Step::Give(token) => Ok(Taken::Token(token)),
            Step::Fail(error) => Err(error),
            Step::Join(flight, meanwhile) => Ok(Taken::Flight(flight, meanwhile)),
            Step::Start(occasion, meanwhile) => {
                let Ok(runtime) = Handle::try_current() else {
                    return Err(Error::new(
                        ErrorKind::Configuration,
                        "a token source needs a tokio runtime: poll its futures inside one",
                    ));
                };
                let (landed, landing) = oneshot::channel();
                let flight = landing.map(|landed| landed.unwrap_or_else(|_| Err(interrupted())));
                let flight: Flight = flight.boxed().shared();
                shelf.started(holder, flight.clone());
                // A runtime that is being shut down drops what is spawned, and with that locks the
                // shelf.
                drop(shelf);
                runtime.spawn(self.fly(holder.clone(), occasion, landed));
                Ok(Taken::Flight(flight, meanwhile))
            }
        }
    }

    /// Asks for a token: the body of a task of its own.
    fn fly(
        &self,
        holder: Holder,
        occasion: Occasion,
        waiting: oneshot::Sender<Result<Token, Error>>,
    ) -> impl Future<Output = ()> + Send + 'static {
        add(&self.counters.requested);
        let issuer = self.issuer.clone();
        let mut landing = Landing {
            shelf: self.shelf.clone(),
            clock: self.clock.clone(),
            counters: self.counters.clone(),
            holder: holder.clone(),
            waiting: Some(waiting),
        };
        async move {
            // A source, key or clock of the caller's that panics must not leave all others waiting
            // for ever.
            let issuing = async move { issuer.issue(holder, occasion).await };
            let issued = AssertUnwindSafe(issuing).catch_unwind().await;
            let panicked = |_| {
                Err(Error::new(
                    ErrorKind::Unavailable,
                    "asking for a token panicked",
                ))
            };
            landing.settle(issued.unwrap_or_else(panicked));
        }
    }

    fn counted(&self, result: Result<Token, Error>) -> Result<Token, Error> {
        add(match result {
            Ok(_) => &self.counters.handed_out,
            Err(_) => &self.counters.errors,
        });
        result
    }

    fn lock(&self) -> MutexGuard<'_, Shelf<Flight>> {
        lock(&self.shelf)
    }
}

/// Where a flight ends: on the shelf first, then with those who wait. One that is dropped under way
/// (its runtime was shut down) ends as well.
struct Landing {
    shelf: Arc<Mutex<Shelf<Flight>>>,
    clock: Clock,
    counters: Arc<Counters>,
    holder: Holder,
    waiting: Option<oneshot::Sender<Result<Token, Error>>>,
}

impl Landing {
    fn settle(&mut self, issued: Result<Held, Error>) {
        let Some(waiting) = self.waiting.take() else {
            return;
        };
        let result = match &issued {
            Ok(held) => Ok(held.token.clone()),
            Err(error) => Err(error.clone()),
        };
        if let Err(error) = &result {
            add(&self.counters.failed);
            tracing::warn!(%error, "no token could be had");
        }
        lock(&self.shelf).landed(self.clock.now(), &self.holder, issued);
        let _ = waiting.send(result);
    }
}

impl Drop for Landing {
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

fn lock(shelf: &Mutex<Shelf<Flight>>) -> MutexGuard<'_, Shelf<Flight>> {
    shelf.lock().unwrap_or_else(PoisonError::into_inner)
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
