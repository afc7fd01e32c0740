//! A client's connections: the [`machine`] decides, this driver does.
//!
//! A [`Checkout`] owns a connection's sender together with the connection's facts and proofs, so
//! that the header which is written and the connection it is written to cannot disagree (CL-2).

mod checkout;
mod decided;
mod destinations;
mod machine;
mod opening;
mod reaper;
mod seeking;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bowline_proof::AccessToken;
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::bind::TokensInUse;
use crate::config::Limits;
use crate::conn::dial::Connector;
use crate::conn::facts::ConnectionId;
use crate::conn::identities::{Identities, IdentityConfig};
use crate::conn::live::{Connection, Sender};
use crate::error::{Error, ErrorKind, Step};
use crate::observe::ahead::{Ahead, Learned};
use crate::origin::Origin;

pub(crate) use checkout::{Checkout, KeepAlive, Persistence, WriteError};
use decided::Deferred;
use destinations::Destinations;
pub(crate) use machine::Resend;
use machine::{Action, Ending, KeyId, Machine, Use, WaiterId};
use seeking::Seeker;
pub(crate) use seeking::Seeking;

/// The connections of a client.
pub(crate) struct Pool {
    connector: Arc<Connector>,
    identities: Arc<Identities>,
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
    live: Connections,
    waiters: HashMap<WaiterId, Waiter>,
    /// In order of arrival.
    seekers: Vec<Seeker>,
    last_waiter: u64,
    /// Of the connections that were opened ahead, `used` lacks those that are open.
    ahead: Ahead,
    /// The tokens in use on a connection that has just ended.
    leaving: TokensInUse,
    /// When the reaper will come next; `None` before there is anything to reap.
    reaps_at: Option<Instant>,
}

type Connections = HashMap<ConnectionId, Live, lru::DefaultHasher>;

/// The sending half of what a waiting request gets.
type Waiter = oneshot::Sender<Result<Checkout, Error>>;

/// A connection in the pool.
struct Live {
    connection: Arc<Connection>,
    /// `None` while an h1 connection is checked out.
    sender: Option<Sender>,
    /// It was opened ahead.
    is_ahead: bool,
}

impl Pool {
    pub(crate) fn new(
        connector: Connector,
        identities: Arc<Identities>,
        limits: Limits,
    ) -> Arc<Self> {
        let limits = machine::Limits {
            per_key: limits.per_origin.max(1),
            in_all: limits.in_all.max(1),
            idle: limits.idle,
            age: limits.age,
            ahead: limits.ahead,
            #[cfg(test)]
            broken: None,
        };
        Arc::new(Self {
            connector: Arc::new(connector),
            identities,
            reaper_wakeup: Arc::default(),
            idle: limits.idle,
            state: Mutex::new(State {
                machine: Machine::new(limits),
                actions: Vec::new(),
                destinations: Destinations::new(),
                live: HashMap::default(),
                waiters: HashMap::new(),
                seekers: Vec::new(),
                last_waiter: 0,
                ahead: Ahead::default(),
                leaving: TokensInUse::default(),
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
        resend: Resend,
    ) -> Result<Checkout, Error> {
        let mut waiting = match self.want(origin, identity, token, resend) {
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
        resend: Resend,
    ) -> Result<Checkout, Waiting> {
        // Read before the lock is taken, which each request takes: the machine does not mind that an
        // event comes some microseconds after the time that it is said to have come at.
        let now = Instant::now();
        let mut state = self.lock();
        state.last_waiter += 1;
        let waiter = WaiterId(state.last_waiter);
        loop {
            // Looked up each time: while the lock was free, the key may have been forgotten.
            let key = state.key(origin, identity);
            let (pick, deferred) = state.pick(self, now, key, waiter, token, resend);
            drop(state);
            deferred.run();
            match pick {
                Pick::Ready(checkout) => return Ok(checkout),
                Pick::Dead(checkout) => {
                    let connection = checkout.connection();
                    let ending = opening::ending_before_its_report(connection);
                    let tokens = self.tokens_left(key, connection, ending);
                    self.forget(key, connection.facts.id(), ending, tokens);
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

    /// What was opened ahead, and what was learned, for the operator.
    pub(crate) fn ahead(&self) -> (Ahead, Vec<Learned>) {
        let state = self.lock();
        let learned = state.machine.learned().filter_map(|(key, habit, ends)| {
            Some(Learned {
                origin: state.destinations.get(key)?.origin.clone(),
                age: habit.age,
                requests: habit.requests,
                idle: habit.idle,
                ends,
            })
        });
        let learned = learned.filter(|learned| learned.ends > 0);
        let mut ahead = state.ahead;
        let open = state.live.values().filter(|live| live.is_ahead);
        ahead.used += open.filter(|live| !live.connection.is_new()).count() as u64;
        (ahead, learned.collect())
    }

    /// Runs an event through the machine and does what it says.
    fn step(self: &Arc<Self>, key: KeyId, event: machine::Event, error: Option<&Error>) {
        let mut state = self.lock();
        state.handle(key, event);
        self.wake_reaper_in_time(&mut state);
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

    /// Sees to it that the reaper comes when the machine has something to do.
    fn wake_reaper_in_time(self: &Arc<Self>, state: &mut State) {
        if let Some(due) = state.machine.deadline() {
            self.wake_reaper(state, due);
        }
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

    /// A connection takes no more requests.
    fn forget(self: &Arc<Self>, key: KeyId, id: ConnectionId, ending: Ending, tokens: TokensInUse) {
        let mut state = self.lock();
        // Under one lock: the machine must not assign a connection that is gone.
        let live = state.remove(id);
        state.leaving = tokens;
        state.handle(key, machine::Event::Closed(id, ending));
        self.wake_reaper_in_time(&mut state);
        self.apply(state, None);
        drop(live);
    }

    /// The peer has said how many more requests it takes on an h1 connection.
    fn left(self: &Arc<Self>, key: KeyId, connection: &Connection, requests: u64) {
        let event = machine::Event::Left(connection.facts.id(), requests);
        self.step(key, event, None);
    }

    /// An h1 connection will be released at once.
    fn returning(self: &Arc<Self>, key: KeyId, connection: &Connection) {
        let event = machine::Event::Returning(connection.facts.id());
        self.step(key, event, None);
    }

    /// A connection has one request less, now. An h1 connection comes with its sender.
    fn release(
        self: &Arc<Self>,
        now: Instant,
        key: KeyId,
        connection: &Connection,
        sender: Option<Sender>,
        made: Use,
    ) {
        let mut state = self.lock();
        if let Some(sender) = sender {
            connection.expect_end(None);
            match state.live.get_mut(&connection.facts.id()) {
                Some(live) => live.sender = Some(sender),
                None => return,
            }
        }
        let event = machine::Event::Released(connection.facts.id(), made);
        state.handle_at(now, key, event);
        state.offer(now, key, connection.facts.id());
        // The machine has noted how long the connection may be idle, and may look again sooner at the
        // requests that still wait.
        self.wake_reaper_in_time(&mut state);
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
    fn handle(&mut self, key: KeyId, event: machine::Event) {
        self.handle_at(Instant::now(), key, event);
    }

    fn handle_at(&mut self, now: Instant, key: KeyId, event: machine::Event) {
        let actions = &mut self.actions;
        self.machine.handle(now, key, event, |_| false, actions);
    }

    /// Asks the machine for a connection, and takes or queues accordingly.
    fn pick(
        &mut self,
        pool: &Arc<Pool>,
        now: Instant,
        key: KeyId,
        waiter: WaiterId,
        token: Option<&AccessToken>,
        resend: Resend,
    ) -> (Pick, Deferred) {
        let live = &self.live;
        let holds = |id| token.is_some_and(|token| holds(live, id, token));
        let wanted = machine::Event::Wanted(waiter, resend);
        let actions = &mut self.actions;
        self.machine.handle(now, key, wanted, holds, actions);
        let (checkout, deferred) = self.perform(pool, None, Some(waiter));
        let pick = match checkout {
            // Its end has not been reported yet: noticed before use.
            Some(checkout) if checkout.is_closed() => Pick::Dead(checkout),
            Some(checkout) => Pick::Ready(checkout),
            None => {
                let (sender, receiver) = oneshot::channel();
                self.waiters.insert(waiter, sender);
                pool.wake_reaper_in_time(self);
                Pick::Queued(receiver)
            }
        };
        (pick, deferred)
    }

    /// The key of an origin and an identity.
    fn key(&mut self, origin: &Origin, identity: &Arc<IdentityConfig>) -> KeyId {
        let machine = &self.machine;
        self.destinations
            .key(origin, identity, |key| machine.uses(key))
    }

    fn remove(&mut self, id: ConnectionId) -> Option<Live> {
        let live = self.live.remove(&id);
        if let Some(live) = live.as_ref().filter(|live| live.is_ahead) {
            match live.connection.is_new() {
                true => self.ahead.never_used += 1,
                false => self.ahead.used += 1,
            }
        }
        live
    }
}

/// Whether a request with this token would be written there without a new signature.
fn holds(live: &Connections, id: ConnectionId, token: &AccessToken) -> bool {
    let live = live.get(&id);
    live.is_some_and(|live| live.connection.bound.holds(token))
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
