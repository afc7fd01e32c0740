//! A client's connections: the [`machine`] decides, this driver does.
//!
//! A [`Checkout`] owns a connection's sender together with the connection's facts and proofs, so
//! that the header which is written and the connection it is written to cannot disagree (CL-2).

mod checkout;
mod destinations;
mod machine;
mod reaper;

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bowline_proof::AccessToken;
use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::config::Limits;
use crate::conn::dial::{Connector, Destination, Opened};
use crate::conn::facts::ConnectionId;
use crate::conn::identities::IdentityConfig;
use crate::conn::live::{Connection, Sender};
use crate::error::{Error, ErrorKind, Step};
use crate::observe::{CloseReason, Event};
use crate::origin::Origin;

pub(crate) use checkout::{Checkout, Persistence, WriteError};
use destinations::Destinations;
use machine::{Action, KeyId, Machine, NewConnection, WaiterId};

/// The connections of a client.
pub(crate) struct Pool {
    connector: Arc<Connector>,
    /// Wakes the reaper before its time, to look at the clock again.
    reaper_wakeup: Arc<Notify>,
    idle: Duration,
    state: Mutex<State>,
}

struct State {
    machine: Machine,
    /// Reused between events, so that a warm request allocates nothing here.
    actions: Vec<Action>,
    destinations: Destinations,
    live: HashMap<ConnectionId, Live>,
    waiters: HashMap<WaiterId, Waiter>,
    last_waiter: u64,
    /// When the reaper will come next; `None` before there is anything to reap.
    reaps_at: Option<Instant>,
}

/// The sending half of what a waiting request gets.
type Waiter = oneshot::Sender<Result<Checkout, Error>>;

/// A connection in the pool.
struct Live {
    connection: Arc<Connection>,
    /// `None` while an h1 connection is checked out.
    sender: Option<Sender>,
}

/// What is left to do when the lock is free: sending a result wakes tasks and may drop connections,
/// whose `Drop` takes the lock again.
#[derive(Default)]
struct Deferred {
    results: Vec<(Waiter, Result<Checkout, Error>)>,
    closed: Vec<(Live, CloseReason)>,
}

impl Pool {
    pub(crate) fn new(connector: Connector, limits: Limits) -> Arc<Self> {
        let limits = machine::Limits {
            per_key: limits.per_origin.max(1),
            in_all: limits.in_all.max(1),
            idle: limits.idle,
            age: limits.age,
        };
        Arc::new(Self {
            connector: Arc::new(connector),
            reaper_wakeup: Arc::default(),
            idle: limits.idle,
            state: Mutex::new(State {
                machine: Machine::new(limits),
                actions: Vec::new(),
                destinations: Destinations::new(),
                live: HashMap::new(),
                waiters: HashMap::new(),
                last_waiter: 0,
                reaps_at: None,
            }),
        })
    }

    pub(crate) fn connector(&self) -> &Connector {
        &self.connector
    }

    /// A connection for a request with this token: an open one, or a new one.
    ///
    /// # Errors
    /// What the opening failed with, or [`Step::Pool`]'s time-out.
    pub(crate) async fn pick(
        self: &Arc<Self>,
        origin: &Origin,
        identity: &Arc<IdentityConfig>,
        token: Option<&AccessToken>,
    ) -> Result<Checkout, Error> {
        let mut waiting = match self.want(origin, identity, token) {
            Ok(checkout) => return Ok(checkout),
            Err(waiting) => waiting,
        };
        let limit = self.connector.timeouts.pool;
        match tokio::time::timeout(limit, &mut waiting.receiver).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Error::new(
                ErrorKind::ConnectionLost,
                "the client was shut down",
            )),
            Err(_) if self.lock().machine.has_streamless(waiting.key) => {
                Err(Error::no_streams(limit))
            }
            Err(_) => Err(Error::timeout(Step::Pool, limit)),
        }
    }

    /// A connection that is free now, or a place in the queue. All locking for a pick is here.
    fn want(
        self: &Arc<Self>,
        origin: &Origin,
        identity: &Arc<IdentityConfig>,
        token: Option<&AccessToken>,
    ) -> Result<Checkout, Waiting> {
        let mut state = self.lock();
        state.last_waiter += 1;
        let waiter = WaiterId(state.last_waiter);
        loop {
            // Looked up each time: while the lock was free, the key may have been forgotten.
            let key = state.key(origin, identity);
            let (pick, deferred) = state.pick(self, key, waiter, token);
            drop(state);
            deferred.run();
            match pick {
                Pick::Ready(checkout) => return Ok(checkout),
                Pick::Dead(checkout) => {
                    self.forget(key, checkout.facts().id());
                    checkout.release();
                    state = self.lock();
                }
                Pick::Queued(receiver) => {
                    return Err(Waiting {
                        pool: self.clone(),
                        key,
                        waiter,
                        receiver,
                    });
                }
            }
        }
    }

    /// Runs an event through the machine and does what it says.
    fn step(self: &Arc<Self>, key: KeyId, event: machine::Event, error: Option<&Error>) {
        let mut state = self.lock();
        state.handle(key, event);
        self.apply(state, error);
    }

    /// Closes connections that were idle, or open, for too long; returns when to look again.
    fn reap(self: &Arc<Self>) -> Option<Instant> {
        let mut state = self.lock();
        let State {
            machine, actions, ..
        } = &mut *state;
        let now = Instant::now();
        machine.tick(now, actions);
        // A connection in use is idle for too long no earlier than this. To be woken by each that
        // returns would be one more task to run for each request.
        let in_use_deadline = machine.has_connections().then(|| now + self.idle);
        let next = machine.deadline().into_iter().chain(in_use_deadline).min();
        state.reaps_at = next;
        self.apply(state, None);
        next
    }

    /// Does what the machine decided, and then what must wait until the lock is free.
    fn apply(self: &Arc<Self>, mut state: MutexGuard<'_, State>, error: Option<&Error>) {
        let (_, deferred) = state.perform(self, error, None);
        drop(state);
        deferred.run();
    }

    /// Sees to it that the reaper comes at `when`.
    fn wake_reaper(self: &Arc<Self>, state: &mut State, when: Instant) {
        match state.reaps_at {
            Some(at) if at <= when => {}
            Some(_) => {
                state.reaps_at = Some(when);
                self.reaper_wakeup.notify_one();
            }
            None => {
                // Outside a runtime nothing uses the pool either; the next connection calls again.
                let Ok(runtime) = Handle::try_current() else {
                    return;
                };
                state.reaps_at = Some(when);
                runtime.spawn(reaper::run(
                    Arc::downgrade(self),
                    self.reaper_wakeup.clone(),
                ));
            }
        }
    }

    fn spawn_opening(self: &Arc<Self>, state: &State, key: KeyId) {
        let Some(destination) = state.destinations.get(key).cloned() else {
            return;
        };
        let pool = Arc::downgrade(self);
        let connector = self.connector.clone();
        tokio::spawn(async move {
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
            match opened {
                Ok(opened) => pool.opened(key, &destination, opened),
                Err(error) => pool.step(key, machine::Event::OpenFailed, Some(&error)),
            }
        });
    }

    fn opened(self: &Arc<Self>, key: KeyId, destination: &Destination, opened: Opened) {
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
        self.lock().live.insert(
            facts.id(),
            Live {
                connection: connection.clone(),
                sender: Some(sender),
            },
        );
        // Before the driver runs, which reports changes of what is said here.
        let until = destination.identity.not_after().and_then(instant);
        let new = NewConnection {
            id: facts.id(),
            http: facts.http(),
            streams,
            until,
        };
        self.step(key, machine::Event::Opened(new), None);
        let pool = Arc::downgrade(self);
        tokio::spawn(async move {
            let changed = || {
                if let Some(pool) = pool.upgrade() {
                    let streams =
                        machine::Event::Streams(connection.facts.id(), connection.streams());
                    pool.step(key, streams, None);
                }
            };
            let seen = connection.until_end(end, changed).await;
            connection.close_driver();
            let pool = pool.upgrade();
            if pool.is_none() {
                connection.expect_end(Some(CloseReason::Evicted));
            }
            // Before another one takes its place: that one's proof is needed because of this end,
            // and is counted so.
            connection.ended(seen);
            if let Some(pool) = pool {
                pool.forget(key, connection.facts.id());
            }
        });
        let mut state = self.lock();
        if let Some(due) = state.machine.deadline() {
            self.wake_reaper(&mut state, due);
        }
    }

    /// A connection takes no more requests.
    fn forget(self: &Arc<Self>, key: KeyId, id: ConnectionId) {
        let mut state = self.lock();
        // Under one lock: the machine must not assign a connection that is gone.
        let live = state.live.remove(&id);
        state.handle(key, machine::Event::Closed(id));
        self.apply(state, None);
        drop(live);
    }

    /// An h1 connection will be released at once.
    fn returning(self: &Arc<Self>, key: KeyId, connection: &Connection) {
        let event = machine::Event::Returning(connection.facts.id());
        self.step(key, event, None);
    }

    /// A connection has one request less. An h1 connection comes with its sender, and with how long
    /// the peer keeps it once it is idle.
    fn release(
        self: &Arc<Self>,
        key: KeyId,
        connection: &Connection,
        sender: Option<Sender>,
        keep_alive: Option<Duration>,
    ) {
        let mut state = self.lock();
        if let Some(sender) = sender {
            connection.expect_end(None);
            match state.live.get_mut(&connection.facts.id()) {
                Some(live) => live.sender = Some(sender),
                None => return,
            }
        }
        let event = machine::Event::Released(connection.facts.id(), keep_alive);
        let now = state.handle(key, event);
        let idle = keep_alive.map_or(self.idle, |keep_alive| keep_alive.min(self.idle));
        self.wake_reaper(&mut state, now + idle);
        self.apply(state, None);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere must not take every later request with it: the state is valid after
        // each step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.reaper_wakeup.notify_one();
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        for live in state.live.values() {
            live.connection.tell_to_close();
        }
    }
}

impl State {
    /// Runs an event of this key through the machine, now. What it decides is left in `actions`.
    fn handle(&mut self, key: KeyId, event: machine::Event) -> Instant {
        let now = Instant::now();
        let actions = &mut self.actions;
        self.machine.handle(now, key, event, |_| false, actions);
        now
    }

    /// Asks the machine for a connection, and takes or queues accordingly.
    fn pick(
        &mut self,
        pool: &Arc<Pool>,
        key: KeyId,
        waiter: WaiterId,
        token: Option<&AccessToken>,
    ) -> (Pick, Deferred) {
        let live = &self.live;
        let holds = |id| {
            let connection = token.and_then(|token| Some((token, live.get(&id)?)));
            connection.is_some_and(|(token, live)| live.connection.bound.holds(token))
        };
        let wanted = machine::Event::Wanted(waiter);
        let actions = &mut self.actions;
        self.machine
            .handle(Instant::now(), key, wanted, holds, actions);
        let (checkout, deferred) = self.perform(pool, None, Some(waiter));
        let pick = match checkout {
            // Its end has not been reported yet: noticed before use.
            Some(checkout) if checkout.is_closed() => Pick::Dead(checkout),
            Some(checkout) => Pick::Ready(checkout),
            None => {
                let (sender, receiver) = oneshot::channel();
                self.waiters.insert(waiter, sender);
                Pick::Queued(receiver)
            }
        };
        (pick, deferred)
    }

    /// Does what the machine decided; the connection assigned to `own` is returned.
    fn perform(
        &mut self,
        pool: &Arc<Pool>,
        error: Option<&Error>,
        own: Option<WaiterId>,
    ) -> (Option<Checkout>, Deferred) {
        let mut checkout = None;
        let mut deferred = Deferred::default();
        let mut actions = std::mem::take(&mut self.actions);
        for action in actions.drain(..) {
            match action {
                Action::Open(key) => pool.spawn_opening(self, key),
                Action::Assign(key, id, waiter) if Some(waiter) == own => {
                    checkout = self.check_out(key, id, pool)
                }
                Action::Assign(key, id, waiter) => {
                    if let (Some(waiter), Some(checkout)) =
                        (self.waiters.remove(&waiter), self.check_out(key, id, pool))
                    {
                        deferred.results.push((waiter, Ok(checkout)));
                    }
                }
                Action::Fail(_, waiter) => {
                    let error = error.cloned().unwrap_or_else(|| {
                        Error::new(
                            ErrorKind::ConnectionLost,
                            "the connection was lost while it was opened",
                        )
                    });
                    if let Some(waiter) = self.waiters.remove(&waiter) {
                        deferred.results.push((waiter, Err(error)));
                    }
                }
                Action::Close(_, id, reason) => {
                    deferred
                        .closed
                        .extend(self.live.remove(&id).map(|live| (live, reason)));
                }
            }
        }
        self.actions = actions;
        (checkout, deferred)
    }

    /// The key of an origin and an identity.
    fn key(&mut self, origin: &Origin, identity: &Arc<IdentityConfig>) -> KeyId {
        let machine = &self.machine;
        self.destinations
            .key(origin, identity, |key| machine.uses(key))
    }

    fn check_out(&mut self, key: KeyId, id: ConnectionId, pool: &Arc<Pool>) -> Option<Checkout> {
        let live = self.live.get_mut(&id)?;
        let sender = match &live.sender {
            Some(Sender::H2(sender)) => Sender::H2(sender.clone()),
            Some(Sender::H1(_)) => live.sender.take()?,
            None => return None,
        };
        let connection = live.connection.clone();
        Some(Checkout::new(sender, connection, pool.clone(), key))
    }
}

impl Deferred {
    fn run(self) {
        for (live, reason) in self.closed {
            live.connection.expect_end(Some(reason));
            live.connection.tell_to_close();
        }
        for (waiter, result) in self.results {
            // The request vanished meanwhile: dropping the checkout returns the connection.
            drop(waiter.send(result));
        }
    }
}

/// A wall-clock time on the runtime's clock; `None` if it is too far away to matter.
fn instant(when: SystemTime) -> Option<Instant> {
    let left = when.duration_since(SystemTime::now()).unwrap_or_default();
    Instant::now().checked_add(left)
}

/// What a request that wants a connection gets.
enum Pick {
    Ready(Checkout),
    /// A connection that has ended, and must be forgotten before the next pick.
    Dead(Checkout),
    /// Nothing yet.
    Queued(oneshot::Receiver<Result<Checkout, Error>>),
}

/// A request's place in the queue: it leaves the queue when it is dropped.
struct Waiting {
    pool: Arc<Pool>,
    key: KeyId,
    waiter: WaiterId,
    receiver: oneshot::Receiver<Result<Checkout, Error>>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut state = self.pool.lock();
        if state.waiters.remove(&self.waiter).is_none() {
            return;
        }
        // Under one lock: the machine must not assign a connection to a request that is gone.
        state.handle(self.key, machine::Event::WaiterGone(self.waiter));
        self.pool.apply(state, None);
    }
}
