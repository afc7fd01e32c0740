//! Opening a connection: for a request that waits, or ahead, for one that is about to end.

use std::hash::{BuildHasher, RandomState};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use tokio::time::{Instant, timeout};

use super::machine::{self, Ending, KeyId, NewConnection};
use super::{Live, Pool, State};
use crate::bind::TokensInUse;
use crate::conn::dial::{Destination, Opened};
use crate::conn::facts::{ConnectionFacts, ConnectionId, Presented, TlsFacts};
use crate::conn::live::{Connection, Sender};
use crate::error::{Error, ErrorKind};
use crate::observe::{CloseReason, Event};

/// A token that was used within this time before a connection's end, and a lead, was in use.
const LATELY: Duration = Duration::from_secs(1);

/// The connection that another one is opened to take over from.
pub(super) struct Predecessor {
    pub(super) id: ConnectionId,
    /// `None` if it has ended.
    pub(super) connection: Option<Arc<Connection>>,
    /// Its tokens in use, if it has ended.
    pub(super) tokens: TokensInUse,
    /// Those are in use that were used within this time.
    pub(super) lead: Duration,
}

impl Predecessor {
    /// The latest that is known: requests came while the successor was opened.
    fn tokens_in_use(self) -> TokensInUse {
        match self.connection {
            Some(connection) => connection.bound.in_use(self.lead),
            None => self.tokens,
        }
    }
}

/// How long a proof takes with the key of this connection's certificate; zero if that is not known.
pub(super) fn signing_takes(facts: &ConnectionFacts) -> Duration {
    match facts.tls().map(TlsFacts::presented) {
        Some(Presented::Certificate(identity)) => identity.signings().takes(),
        _ => Duration::ZERO,
    }
}

impl Pool {
    pub(super) fn spawn_opening(
        self: &Arc<Self>,
        state: &State,
        key: KeyId,
        old: Option<Predecessor>,
    ) {
        let Some(destination) = state.destinations.get(key).cloned() else {
            return;
        };
        let pool = Arc::downgrade(self);
        let connector = self.connector.clone();
        tokio::spawn(async move {
            let started = Instant::now();
            // A key or a binding of the caller's that panics must not leave requests waiting for
            // this opening for ever.
            let opened = AssertUnwindSafe(connector.open(&destination))
                .catch_unwind()
                .await;
            let opened = opened.unwrap_or_else(|_| {
                let message = format!("opening a connection to {} panicked", destination.origin);
                Err(Error::new(ErrorKind::TlsHandshake, message))
            });
            // No client is left to use it: it is dropped, and with that closed.
            let Some(pool) = pool.upgrade() else { return };
            match (opened, old) {
                (Ok(opened), old) => {
                    let took = started.elapsed();
                    pool.opened(key, &destination, opened, took, old).await;
                }
                (Err(error), None) => pool.step(key, machine::Event::OpenFailed, Some(&error)),
                (Err(error), Some(old)) => {
                    tracing::debug!(%error, origin = %destination.origin, "opening ahead failed");
                    pool.lock().ahead.failed += 1;
                    pool.step(key, machine::Event::OpenAheadFailed(old.id), None);
                }
            }
        });
    }

    async fn opened(
        self: Arc<Self>,
        key: KeyId,
        destination: &Destination,
        opened: Opened,
        took: Duration,
        old: Option<Predecessor>,
    ) {
        let Opened {
            connection,
            sender,
            end,
            handshake,
        } = opened;
        let facts = connection.facts.clone();
        self.connector.observers.emit(&Event::ConnectionOpened {
            facts: &facts,
            handshake,
        });
        let streams = connection.streams();
        self.insert(connection.clone(), sender, old.is_some());
        // Before the driver runs, which reports changes of what is said here.
        let new = NewConnection {
            id: facts.id(),
            http: facts.http(),
            streams,
            until: destination.identity.not_after().and_then(instant),
            took,
            jitter: random(),
        };
        let event = match &old {
            None => machine::Event::Opened(new),
            Some(old) => machine::Event::OpenedAhead(new, old.id),
        };
        self.step(key, event, None);
        let pool = Arc::downgrade(&self);
        let driven = connection.clone();
        tokio::spawn(async move {
            let changed = || {
                if let Some(pool) = pool.upgrade() {
                    let streams = machine::Event::Streams(driven.facts.id(), driven.streams());
                    pool.step(key, streams, None);
                }
            };
            let seen = driven.until_end(end, changed).await;
            driven.close_driver();
            let pool = pool.upgrade();
            if pool.is_none() {
                driven.expect_end(Some(CloseReason::Evicted));
            }
            let ending = ending(&driven, seen);
            // Its proofs are about to be forgotten.
            let tokens = pool
                .as_ref()
                .map(|pool| {
                    pool.expect_proofs(key, &driven);
                    pool.tokens_left(key, &driven, ending)
                })
                .unwrap_or_default();
            // Before another one takes its place: that one's proof is needed because of this end,
            // and is counted so.
            driven.ended(seen);
            if let Some(pool) = pool {
                pool.forget(key, driven.facts.id(), ending, tokens);
            }
        });
        if let Some(old) = old {
            let limit = self.connector.timeouts.sign;
            let proofs = connection.bound.prove_ahead(old.tokens_in_use());
            // A client that is dropped meanwhile needs no proofs.
            let pool = Arc::downgrade(&self);
            drop(self);
            let started = Instant::now();
            let took = match proofs {
                Some(proofs) => {
                    // What is not signed by then is signed when it is needed.
                    let _ = timeout(limit, proofs).await;
                    Some(started.elapsed())
                }
                None => None,
            };
            if let Some(pool) = pool.upgrade() {
                pool.ready(key, facts.id(), took);
            }
        }
    }

    /// A successor takes over.
    fn ready(self: &Arc<Self>, key: KeyId, id: ConnectionId, took: Option<Duration>) {
        let mut state = self.lock();
        state.handle(key, machine::Event::Ready(id, took));
        state.offer(Instant::now(), key, id);
        self.wake_reaper_in_time(&mut state);
        self.apply(state, None);
    }

    /// A connection has ended: what its successor's proofs would have taken tells how long before its
    /// end the next one is to be replaced.
    fn expect_proofs(&self, key: KeyId, connection: &Connection) {
        let lead = self.lock().machine.lead(key);
        // At most eight; none if it has been idle, and that tells nothing.
        let in_use = connection.bound.in_use(LATELY + lead).tokens.len();
        let Some(in_use) = u32::try_from(in_use).ok().filter(|n| *n > 0) else {
            return;
        };
        let time = signing_takes(&connection.facts).saturating_mul(in_use);
        self.lock().machine.proofs_would_take(key, time);
    }

    /// The tokens in use on a connection whose successor may be opened at once.
    pub(super) fn tokens_left(
        &self,
        key: KeyId,
        connection: &Connection,
        ending: Ending,
    ) -> TokensInUse {
        if ending != Ending::Goaway {
            return TokensInUse::default();
        }
        let lead = self.lock().machine.lead(key);
        connection.bound.in_use(lead)
    }

    fn insert(&self, connection: Arc<Connection>, sender: Sender, is_ahead: bool) {
        let mut state = self.lock();
        state.ahead.opened += u64::from(is_ahead);
        state.live.insert(
            connection.facts.id(),
            Live {
                connection,
                sender: Some(sender),
                is_ahead,
            },
        );
    }
}

/// The same for a connection that a request has found closed before its end was reported. Anything
/// but GOAWAY the report alone can tell.
pub(super) fn ending_before_its_report(connection: &Connection) -> Ending {
    if connection.facts.tls().is_some() && connection.wire.saw_goaway() {
        Ending::Goaway
    } else {
        Ending::Other
    }
}

/// What an end tells about the peer. Only what came under TLS counts.
fn ending(connection: &Connection, seen: CloseReason) -> Ending {
    if connection.facts.tls().is_none() {
        return Ending::Other;
    }
    match connection.expected_end().unwrap_or(seen) {
        CloseReason::Goaway => Ending::Goaway,
        CloseReason::ConnectionClose => Ending::Orderly,
        // With close_notify: a FIN without it is an error of the stream.
        CloseReason::PeerClosed if connection.wire.error().is_none() => Ending::Orderly,
        _ => Ending::Other,
    }
}

/// A wall-clock time on the runtime's clock; `None` if it is too far away to matter.
fn instant(when: SystemTime) -> Option<Instant> {
    let left = when.duration_since(SystemTime::now()).unwrap_or_default();
    Instant::now().checked_add(left)
}

/// Random enough that connections which were opened together are not replaced together.
fn random() -> u16 {
    RandomState::new().hash_one(0_u8) as u16
}
