//! What belongs to one connection and goes with it (CL-4), and why it went.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::HeaderValue;
use hyper::client::conn::{http1, http2};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::bind::BindConnection;
use crate::body::Outgoing;
use crate::conn::facts::{ConnectionFacts, HttpVersion};
use crate::conn::frames::Sight;
use crate::observe::{CloseReason, Event, Observers};
use crate::origin::Origin;

/// A connection's facts and proofs, shared by its checkouts.
pub(crate) struct Connection {
    pub(crate) facts: Arc<ConnectionFacts>,
    pub(crate) bound: Arc<dyn BindConnection>,
    pub(crate) requests: AtomicU64,
    /// What was seen on its stream.
    pub(crate) sight: Arc<Sight>,
    /// `Host` of its requests (h1), made once.
    pub(crate) host: Option<HeaderValue>,
    observers: Observers,
    fate: Mutex<Fate>,
    place: Mutex<Place>,
    told_to_close: Notify,
}

/// hyper's end of a connection.
pub(crate) enum Sender {
    H1(http1::SendRequest<Outgoing>),
    H2(http2::SendRequest<Outgoing>),
}

/// Where hyper's h1 sender is while its request waits for the answer. hyper's queue may swallow a
/// request that comes just as the connection ends, and gives it back only when nobody can send any
/// more. If the request held the sender itself, it would wait for ever.
#[derive(Default)]
enum Place {
    #[default]
    Empty,
    Parked(http1::SendRequest<Outgoing>),
    /// The connection is over: a sender is of no more use.
    Over,
}

/// How a connection ends. hyper may report the end before the response that announced it has been
/// looked at: then the report waits, so that it names the right reason.
#[derive(Default)]
struct Fate {
    /// Why it will have ended, if somebody knows before it does.
    expected: Option<CloseReason>,
    /// An h1 request was written whose response nobody has looked at.
    is_unanswered: bool,
    /// It has ended, for all that the connection itself could tell.
    seen: Option<CloseReason>,
    is_reported: bool,
}

/// How long closing may take.
const CLOSING_TIME: Duration = Duration::from_secs(2);

impl Connection {
    pub(crate) fn new(
        origin: &Origin,
        facts: Arc<ConnectionFacts>,
        bound: Arc<dyn BindConnection>,
        sight: Arc<Sight>,
        observers: Observers,
    ) -> Self {
        Self {
            facts,
            bound,
            requests: AtomicU64::new(0),
            sight,
            host: HeaderValue::try_from(origin.host_field()).ok(),
            observers,
            fate: Mutex::default(),
            place: Mutex::default(),
            told_to_close: Notify::new(),
        }
    }

    /// Requests that it takes at a time.
    pub(crate) fn streams(&self) -> usize {
        match self.facts.http() {
            HttpVersion::H1 => 1,
            HttpVersion::H2 => self.sight.streams(),
        }
    }

    /// Drives the connection to its end. Once it was told to close it gets a little time to do so
    /// properly: a peer that does not read must not hold its place in the pool.
    pub(crate) async fn until_end(&self, mut end: BoxFuture<'static, CloseReason>) -> CloseReason {
        tokio::select! {
            seen = &mut end => seen,
            () = self.told_to_close.notified() => timeout(CLOSING_TIME, end).await.unwrap_or(CloseReason::Evicted),
        }
    }

    /// Nobody will use it any more.
    pub(crate) fn tell_to_close(&self) {
        self.told_to_close.notify_one();
    }

    /// Keeps the sender until it is fetched, or the connection is over.
    pub(crate) fn park(&self, sender: http1::SendRequest<Outgoing>) {
        let mut place = self.place();
        if !matches!(*place, Place::Over) {
            *place = Place::Parked(sender);
        }
    }

    pub(crate) fn fetch(&self) -> Option<http1::SendRequest<Outgoing>> {
        let mut place = self.place();
        match std::mem::take(&mut *place) {
            Place::Parked(sender) => Some(sender),
            Place::Empty => None,
            Place::Over => {
                *place = Place::Over;
                None
            }
        }
    }

    /// hyper has let go of the connection: nobody need wait for the peer's SETTINGS, or hold a
    /// sender, any more.
    pub(crate) fn over(&self) {
        self.sight.settle();
        // Dropped when the lock is free: it wakes whoever waits for its request.
        let parked = std::mem::replace(&mut *self.place(), Place::Over);
        drop(parked);
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes why this connection is about to end; `None` takes it back.
    pub(crate) fn expect_end(&self, reason: Option<CloseReason>) {
        self.fate().expected = reason;
    }

    /// An h1 request is written.
    pub(crate) fn unanswered(&self) {
        self.fate().is_unanswered = true;
    }

    /// Its response has been looked at, or nobody will.
    pub(crate) fn answered(&self) {
        self.fate().is_unanswered = false;
        self.report();
    }

    /// The connection takes no more requests.
    pub(crate) fn ended(&self, seen: CloseReason) {
        self.fate().seen.get_or_insert(seen);
        self.report();
    }

    /// Tells once that the connection is over: its proofs are gone (CL-4).
    fn report(&self) {
        let mut fate = self.fate();
        let Some(seen) = fate.seen else { return };
        if fate.is_unanswered || std::mem::replace(&mut fate.is_reported, true) {
            return;
        }
        let reason = fate.expected.unwrap_or(seen);
        drop(fate);
        self.bound.closed(reason);
        self.observers.emit(&Event::ConnectionClosed {
            facts: &self.facts,
            reason,
            requests: self.requests.load(Ordering::Relaxed),
        });
    }

    fn fate(&self) -> MutexGuard<'_, Fate> {
        self.fate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
