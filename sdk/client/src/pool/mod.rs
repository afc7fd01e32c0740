//! A client's connections: the [`machine`] decides, this driver does.
//!
//! A [`Checkout`] owns a connection's sender together with the connection's facts and proofs, so
//! that the header which is written and the connection it is written to cannot disagree (CL-2).

mod checkout;
mod machine;
mod reaper;

use std::collections::{BTreeMap, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bowline_proof::{AccessToken, Thumbprint};
use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::config::Limits;
use crate::conn::dial::{Connector, Opened, Target};
use crate::conn::facts::{ConnectionId, HttpVersion};
use crate::conn::identities::Held;
use crate::conn::live::{Connection, Sender};
use crate::conn::tls::{self, LastAsked};
use crate::error::{Error, ErrorKind, Step};
use crate::observe::{CloseReason, Event};
use crate::origin::Origin;

pub(crate) use checkout::{Checkout, Persistence, WriteError};
use machine::{Action, LaneId, Machine, Newcomer, WaiterId};

/// The connections of a client.
pub(crate) struct Pool {
    connector: Arc<Connector>,
    /// Rung when the reaper has to look at the clock again.
    bell: Arc<Notify>,
    idle: Duration,
    state: Mutex<State>,
}

/// What makes connections interchangeable.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    origin: Origin,
    identity: Option<Thumbprint>,
}

/// A target, and its number in the machine.
#[derive(Clone)]
struct Lane {
    id: LaneId,
    target: Arc<Target>,
}

struct State {
    machine: Machine,
    /// Reused between events, so that a warm request allocates nothing here.
    actions: Vec<Action>,
    targets: HashMap<Key, Lane>,
    /// The one that was asked for last: most clients have one.
    last_target: Option<Lane>,
    lanes: HashMap<LaneId, Arc<Target>>,
    live: BTreeMap<ConnectionId, Live>,
    waiters: HashMap<WaiterId, Hand>,
    last_waiter: u64,
    last_lane: u64,
    /// When the reaper will come next; `None` before there is anything to reap.
    reaps_at: Option<Instant>,
}

/// Where a waiting request takes what it gets.
type Hand = oneshot::Sender<Result<Checkout, Error>>;

/// A connection in the pool.
struct Live {
    connection: Arc<Connection>,
    /// `None` while an h1 connection is checked out.
    sender: Option<Sender>,
    /// How many requests the machine believes that it takes at a time.
    streams: usize,
}

/// What is left to do when the lock is free: handing over wakes tasks and may drop connections,
/// whose `Drop` takes the lock again.
#[derive(Default)]
struct Afterwards {
    handed: Vec<(Hand, Result<Checkout, Error>)>,
    closed: Vec<(Live, CloseReason)>,
}

/// Beyond this many, targets without a connection are forgotten, with their session tickets.
const MAX_TARGETS: usize = 1024;

impl Pool {
    pub(crate) fn new(connector: Connector, limits: Limits) -> Arc<Self> {
        let limits = machine::Limits {
            per_lane: limits.per_origin.max(1),
            in_all: limits.in_all.max(1),
            idle: limits.idle,
            age: limits.age,
        };
        Arc::new(Self {
            connector: Arc::new(connector),
            bell: Arc::default(),
            idle: limits.idle,
            state: Mutex::new(State {
                machine: Machine::new(limits),
                actions: Vec::new(),
                targets: HashMap::new(),
                last_target: None,
                lanes: HashMap::new(),
                live: BTreeMap::new(),
                waiters: HashMap::new(),
                last_waiter: 0,
                last_lane: 0,
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
        held: &Arc<Held>,
        token: Option<&AccessToken>,
    ) -> Result<Checkout, Error> {
        let mut waiting = match self.want(origin, held, token) {
            Want::Now(checkout) => return Ok(checkout),
            Want::Later(waiting) => waiting,
        };
        let limit = self.connector.timeouts.pool;
        match tokio::time::timeout(limit, &mut waiting.handed).await {
            Ok(Ok(handed)) => handed,
            Ok(Err(_)) => Err(Error::new(
                ErrorKind::ConnectionLost,
                "the client was shut down",
            )),
            Err(_) => Err(Error::timeout(Step::Pool, limit)),
        }
    }

    fn want(
        self: &Arc<Self>,
        origin: &Origin,
        held: &Arc<Held>,
        token: Option<&AccessToken>,
    ) -> Want {
        let mut state = self.lock();
        let lane = state.lane(origin, held);
        state.last_waiter += 1;
        let waiter = WaiterId(state.last_waiter);
        loop {
            let State {
                machine,
                actions,
                live,
                ..
            } = &mut *state;
            let holds = |id| {
                let connection = token.and_then(|token| Some((token, live.get(&id)?)));
                connection.is_some_and(|(token, live)| live.connection.bound.holds(token))
            };
            machine.handle(
                Instant::now(),
                lane,
                machine::Event::Wanted(waiter),
                holds,
                actions,
            );
            let (checkout, afterwards) = self.perform(&mut state, None, Some(waiter));
            let Some(checkout) = checkout else {
                let (hand, handed) = oneshot::channel();
                state.waiters.insert(waiter, hand);
                drop(state);
                afterwards.run();
                return Want::Later(Waiting {
                    pool: self.clone(),
                    lane,
                    waiter,
                    handed,
                });
            };
            if checkout.is_closed() {
                // Dead, and its end not reported yet: noticed before use.
                let id = checkout.facts().id();
                let closed = machine::Event::Closed(id);
                let State {
                    machine, actions, ..
                } = &mut *state;
                machine.handle(Instant::now(), lane, closed, |_| false, actions);
                state.live.remove(&id);
                let (_, more) = self.perform(&mut state, None, None);
                drop(state);
                drop(checkout);
                more.run();
                afterwards.run();
                state = self.lock();
                continue;
            }
            let streams = match checkout.facts().http() {
                HttpVersion::H1 => None,
                HttpVersion::H2 => state.changed_streams(&checkout),
            };
            drop(state);
            afterwards.run();
            if let Some(streams) = streams {
                let event = machine::Event::Streams(checkout.facts().id(), streams);
                self.step(lane, event, None);
            }
            return Want::Now(checkout);
        }
    }

    /// Runs an event through the machine and does what it says.
    fn step(self: &Arc<Self>, lane: LaneId, event: machine::Event, error: Option<&Error>) {
        let mut state = self.lock();
        let State {
            machine, actions, ..
        } = &mut *state;
        machine.handle(Instant::now(), lane, event, |_| false, actions);
        self.finish(state, error);
    }

    /// Lets go of what has been idle, or has lived, for too long; tells when to come again.
    fn reap(self: &Arc<Self>) -> Option<Instant> {
        let mut state = self.lock();
        let State {
            machine, actions, ..
        } = &mut *state;
        let now = Instant::now();
        machine.tick(now, actions);
        // A connection in use is idle for too long no earlier than this. To be woken by each that
        // returns would be one more task to run for each request.
        let of_those_in_use = machine.has_connections().then(|| now + self.idle);
        let next = machine.deadline().into_iter().chain(of_those_in_use).min();
        state.reaps_at = next;
        self.finish(state, None);
        next
    }

    fn finish(self: &Arc<Self>, mut state: MutexGuard<'_, State>, error: Option<&Error>) {
        let (_, afterwards) = self.perform(&mut state, error, None);
        drop(state);
        afterwards.run();
    }

    /// Sees to it that the reaper comes at `when`.
    fn wake_reaper(self: &Arc<Self>, state: &mut State, when: Instant) {
        match state.reaps_at {
            Some(at) if at <= when => {}
            Some(_) => {
                state.reaps_at = Some(when);
                self.bell.notify_one();
            }
            None => {
                // Outside a runtime nobody uses the pool either; the next connection calls again.
                let Ok(runtime) = Handle::try_current() else {
                    return;
                };
                state.reaps_at = Some(when);
                runtime.spawn(reaper::run(Arc::downgrade(self), self.bell.clone()));
            }
        }
    }

    /// Does what the machine decided; the connection handed to `own` comes back.
    fn perform(
        self: &Arc<Self>,
        state: &mut State,
        error: Option<&Error>,
        own: Option<WaiterId>,
    ) -> (Option<Checkout>, Afterwards) {
        let mut checkout = None;
        let mut afterwards = Afterwards::default();
        let mut actions = std::mem::take(&mut state.actions);
        for action in actions.drain(..) {
            match action {
                Action::Open(lane) => self.spawn_opening(state, lane),
                Action::Hand(lane, id, waiter) if Some(waiter) == own => {
                    checkout = state.check_out(lane, id, self)
                }
                Action::Hand(lane, id, waiter) => {
                    if let (Some(hand), Some(checkout)) = (
                        state.waiters.remove(&waiter),
                        state.check_out(lane, id, self),
                    ) {
                        afterwards.handed.push((hand, Ok(checkout)));
                    }
                }
                Action::Fail(_, waiter) => {
                    let error = error.cloned().unwrap_or_else(|| {
                        Error::new(
                            ErrorKind::ConnectionLost,
                            "the connection was lost while it was opened",
                        )
                    });
                    if let Some(hand) = state.waiters.remove(&waiter) {
                        afterwards.handed.push((hand, Err(error)));
                    }
                }
                Action::Close(_, id, reason) => {
                    afterwards
                        .closed
                        .extend(state.live.remove(&id).map(|live| (live, reason)));
                }
            }
        }
        state.actions = actions;
        (checkout, afterwards)
    }

    fn spawn_opening(self: &Arc<Self>, state: &State, lane: LaneId) {
        let Some(target) = state.lanes.get(&lane).cloned() else {
            return;
        };
        let pool = Arc::downgrade(self);
        let connector = self.connector.clone();
        tokio::spawn(async move {
            // A key or a binding of the caller's that panics must not leave the lane waiting for
            // this opening for ever.
            let opened = AssertUnwindSafe(connector.open(&target))
                .catch_unwind()
                .await;
            let opened = opened.unwrap_or_else(|_| {
                let message = format!("opening a connection to {} panicked", target.origin);
                Err(Error::new(ErrorKind::TlsHandshake, message))
            });
            // Nobody is left to use it: it is dropped, and with that closed.
            let Some(pool) = pool.upgrade() else { return };
            match opened {
                Ok(opened) => pool.opened(lane, &target, opened),
                Err(error) => pool.step(lane, machine::Event::OpenFailed, Some(&error)),
            }
        });
    }

    fn opened(self: &Arc<Self>, lane: LaneId, target: &Target, opened: Opened) {
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
                streams,
            },
        );
        let pool = Arc::downgrade(self);
        tokio::spawn(async move {
            let seen = connection.until_end(end).await;
            connection.over();
            let pool = pool.upgrade();
            if pool.is_none() {
                connection.expect_end(Some(CloseReason::Evicted));
            }
            // Before another one takes its place: that one's proof is needed because of this end,
            // and is counted so.
            connection.ended(seen);
            if let Some(pool) = pool {
                pool.forget(lane, connection.facts.id());
            }
        });
        let until = target.held.not_after().and_then(instant);
        let newcomer = Newcomer {
            id: facts.id(),
            http: facts.http(),
            streams,
            until,
        };
        self.step(lane, machine::Event::Opened(newcomer), None);
        let mut state = self.lock();
        if let Some(due) = state.machine.deadline() {
            self.wake_reaper(&mut state, due);
        }
    }

    /// A connection takes no more requests.
    fn forget(self: &Arc<Self>, lane: LaneId, id: ConnectionId) {
        let mut state = self.lock();
        // Under one lock: the machine must not hand out a connection that is not there any more.
        let live = state.live.remove(&id);
        let State {
            machine, actions, ..
        } = &mut *state;
        machine.handle(
            Instant::now(),
            lane,
            machine::Event::Closed(id),
            |_| false,
            actions,
        );
        self.finish(state, None);
        drop(live);
    }

    /// An h1 connection will come back at once.
    fn returning(self: &Arc<Self>, lane: LaneId, connection: &Connection) {
        let event = machine::Event::Returning(connection.facts.id());
        self.step(lane, event, None);
    }

    /// An h1 connection comes back.
    fn put_back(
        self: &Arc<Self>,
        lane: LaneId,
        connection: &Connection,
        sender: Sender,
        keep_alive: Option<Duration>,
    ) {
        connection.expect_end(None);
        let mut state = self.lock();
        match state.live.get_mut(&connection.facts.id()) {
            Some(live) => live.sender = Some(sender),
            None => return,
        }
        self.finished(state, lane, connection, keep_alive);
    }

    /// An h2 stream has ended.
    fn stream_ended(self: &Arc<Self>, lane: LaneId, connection: &Connection) {
        self.finished(self.lock(), lane, connection, None);
    }

    /// A connection has one request less.
    fn finished(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State>,
        lane: LaneId,
        connection: &Connection,
        keep_alive: Option<Duration>,
    ) {
        let now = Instant::now();
        let event = machine::Event::Finished(connection.facts.id(), keep_alive);
        let State {
            machine, actions, ..
        } = &mut *state;
        machine.handle(now, lane, event, |_| false, actions);
        self.wake_reaper(
            &mut state,
            now + keep_alive.map_or(self.idle, |said| said.min(self.idle)),
        );
        self.finish(state, None);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere must not take every later request with it: the state is valid after
        // each step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.bell.notify_one();
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        for live in state.live.values() {
            live.connection.tell_to_close();
        }
    }
}

impl State {
    /// The lane of an origin and an identity.
    fn lane(&mut self, origin: &Origin, held: &Arc<Held>) -> LaneId {
        let identity = held.thumbprint();
        let is_it = |lane: &&Lane| {
            lane.target.origin == *origin && lane.target.held.thumbprint() == identity
        };
        if let Some(lane) = self.last_target.as_ref().filter(is_it) {
            return lane.id;
        }
        let key = Key {
            origin: origin.clone(),
            identity,
        };
        let lane = match self.targets.get(&key) {
            Some(lane) => lane.clone(),
            None => self.new_target(key, held),
        };
        let id = lane.id;
        self.last_target = Some(lane);
        id
    }

    fn new_target(&mut self, key: Key, held: &Arc<Held>) -> Lane {
        if self.targets.len() >= MAX_TARGETS {
            let machine = &self.machine;
            self.targets.retain(|_, lane| machine.uses(lane.id));
            self.lanes.retain(|lane, _| machine.uses(*lane));
        }
        self.last_lane += 1;
        let lane = Lane {
            id: LaneId(self.last_lane),
            target: Arc::new(Target {
                origin: key.origin.clone(),
                held: held.clone(),
                tls: key.origin.is_https().then(|| tls::for_origin(&held.tls)),
                asked: LastAsked::default(),
            }),
        };
        self.lanes.insert(lane.id, lane.target.clone());
        self.targets.insert(key, lane.clone());
        lane
    }

    fn check_out(&mut self, lane: LaneId, id: ConnectionId, pool: &Arc<Pool>) -> Option<Checkout> {
        let live = self.live.get_mut(&id)?;
        let sender = match &live.sender {
            Some(Sender::H2(sender)) => Sender::H2(sender.clone()),
            Some(Sender::H1(_)) => live.sender.take()?,
            None => return None,
        };
        Some(Checkout::new(
            sender,
            live.connection.clone(),
            pool.clone(),
            lane,
        ))
    }

    /// How many streams the peer allows now, if that has changed.
    fn changed_streams(&mut self, checkout: &Checkout) -> Option<usize> {
        let live = self.live.get_mut(&checkout.facts().id())?;
        let streams = live.connection.streams();
        (std::mem::replace(&mut live.streams, streams) != streams).then_some(streams)
    }
}

impl Afterwards {
    fn run(self) {
        for (live, reason) in self.closed {
            live.connection.expect_end(Some(reason));
            live.connection.tell_to_close();
        }
        for (hand, result) in self.handed {
            // The request vanished meanwhile: dropping the checkout returns the connection.
            drop(hand.send(result));
        }
    }
}

/// A wall-clock time on the runtime's clock; `None` if it is too far away to matter.
fn instant(when: SystemTime) -> Option<Instant> {
    let left = when.duration_since(SystemTime::now()).unwrap_or_default();
    Instant::now().checked_add(left)
}

enum Want {
    Now(Checkout),
    Later(Waiting),
}

/// A request's place in the queue: it leaves the queue when it is dropped.
struct Waiting {
    pool: Arc<Pool>,
    lane: LaneId,
    waiter: WaiterId,
    handed: oneshot::Receiver<Result<Checkout, Error>>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut state = self.pool.lock();
        if state.waiters.remove(&self.waiter).is_none() {
            return;
        }
        // Under one lock: the machine must not hand a connection to somebody who is not there to
        // take it.
        let State {
            machine, actions, ..
        } = &mut *state;
        let vanished = machine::Event::Vanished(self.waiter);
        machine.handle(Instant::now(), self.lane, vanished, |_| false, actions);
        self.pool.finish(state, None);
    }
}
