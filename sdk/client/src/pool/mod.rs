//! One origin's connections: the [`machine`] decides, this driver does.
//!
//! A [`Checkout`] owns a connection's sender together with the connection's facts and proofs, so that the header
//! which is written and the connection it is written to cannot disagree (CL-2).
//!
//! Not here yet: limits, idle time-outs, a second h2 connection, proxies.

mod checkout;
mod live;
mod machine;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::ClientConfig;
use tokio::sync::oneshot;

use crate::connect::{Connector, Opened};
use crate::connection::ConnectionId;
use crate::error::{Error, Kind, Step};
use crate::observe::{CloseReason, Event};
use crate::origin::Origin;
use crate::tls::{self, LastAsked};

pub(crate) use checkout::{Checkout, Sender, WriteError};
pub(crate) use live::Connection;
use machine::{Action, Machine, WaiterId};

/// The connections to one origin.
pub(crate) struct Pool {
    target: Arc<Target>,
    connector: Arc<Connector>,
    state: Mutex<State>,
}

/// What an opening needs to know of the origin.
pub(crate) struct Target {
    pub(crate) origin: Origin,
    /// `None` for plaintext.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    pub(crate) asked: LastAsked,
}

#[derive(Default)]
struct State {
    machine: Machine,
    /// Reused between events, so that a warm request allocates nothing here.
    actions: Vec<Action>,
    live: HashMap<ConnectionId, Live>,
    waiters: HashMap<WaiterId, oneshot::Sender<Result<Checkout, Error>>>,
    last_waiter: u64,
}

/// A connection in the pool.
struct Live {
    connection: Arc<Connection>,
    /// `None` while an h1 connection is checked out.
    sender: Option<Sender>,
}

impl Pool {
    pub(crate) fn new(origin: Origin, connector: Arc<Connector>) -> Arc<Self> {
        let tls = origin.is_https().then(|| tls::for_origin(&connector.tls));
        Arc::new(Self {
            target: Arc::new(Target {
                origin,
                tls,
                asked: LastAsked::default(),
            }),
            connector,
            state: Mutex::default(),
        })
    }

    /// A connection: an open one, or a new one.
    ///
    /// # Errors
    /// What the opening failed with, or [`Step::Pool`]'s time-out.
    pub(crate) async fn pick(self: &Arc<Self>, limit: Duration) -> Result<Checkout, Error> {
        let mut waiting = match self.want() {
            Want::Now(checkout) => return Ok(checkout),
            Want::Later(waiting) => waiting,
        };
        match tokio::time::timeout(limit, &mut waiting.handed).await {
            Ok(Ok(handed)) => handed,
            Ok(Err(_)) => Err(Error::new(Kind::ConnectionLost, "the client was shut down")),
            Err(_) => Err(Error::timeout(Step::Pool, limit)),
        }
    }

    /// Whether nothing would be lost with it.
    pub(crate) fn is_unused(&self) -> bool {
        let state = self.lock();
        state.machine.is_unused() && state.live.is_empty()
    }

    fn want(self: &Arc<Self>) -> Want {
        let mut state = self.lock();
        state.last_waiter += 1;
        let waiter = WaiterId(state.last_waiter);
        loop {
            let State { machine, actions, .. } = &mut *state;
            machine.handle(machine::Event::Wanted(waiter), actions);
            match state.actions.pop() {
                Some(Action::Hand(id, _)) => match state.check_out(id, self) {
                    Some(checkout) if !checkout.is_closed() => return Want::Now(checkout),
                    // Dead, and its end not reported yet: noticed before use.
                    dead => {
                        let State { machine, actions, .. } = &mut *state;
                        machine.handle(machine::Event::Closed(id), actions);
                        state.live.remove(&id);
                        // Its own `Drop` takes this lock.
                        drop(state);
                        drop(dead);
                        state = self.lock();
                    }
                },
                Some(Action::Open) => {
                    self.spawn_opening();
                    break;
                }
                _ => break,
            }
        }
        let (hand, handed) = oneshot::channel();
        state.waiters.insert(waiter, hand);
        drop(state);
        Want::Later(Waiting {
            pool: self.clone(),
            waiter,
            handed,
        })
    }

    /// Runs an event through the machine and does what it says.
    fn step(self: &Arc<Self>, event: machine::Event, error: Option<&Error>) {
        // Handing over wakes tasks and may drop connections, whose `Drop` takes this lock again: after it is free.
        let mut handed = Vec::new();
        let mut closed = Vec::new();
        let mut state = self.lock();
        let State { machine, actions, .. } = &mut *state;
        machine.handle(event, actions);
        let mut actions = std::mem::take(actions);
        for action in actions.drain(..) {
            match action {
                Action::Open => self.spawn_opening(),
                Action::Hand(id, waiter) => {
                    if let (Some(hand), Some(checkout)) = (state.waiters.remove(&waiter), state.check_out(id, self)) {
                        handed.push((hand, Ok(checkout)));
                    }
                }
                Action::Fail(waiter) => {
                    let error = error.cloned().unwrap_or_else(|| {
                        Error::new(Kind::ConnectionLost, "the connection was lost while it was opened")
                    });
                    if let Some(hand) = state.waiters.remove(&waiter) {
                        handed.push((hand, Err(error)));
                    }
                }
                Action::Close(id) => closed.extend(state.live.remove(&id)),
            }
        }
        state.actions = actions;
        drop(state);
        for live in closed {
            live.connection.expect_end(Some(CloseReason::Evicted));
        }
        for (hand, result) in handed {
            // The request vanished meanwhile: dropping the checkout returns the connection.
            drop(hand.send(result));
        }
    }

    fn spawn_opening(self: &Arc<Self>) {
        let pool = Arc::downgrade(self);
        let connector = self.connector.clone();
        let target = self.target.clone();
        tokio::spawn(async move {
            let opened = connector.open(&target).await;
            // Nobody is left to use it: it is dropped, and with that closed.
            let Some(pool) = pool.upgrade() else { return };
            match opened {
                Ok(opened) => pool.opened(opened),
                Err(error) => pool.step(machine::Event::OpenFailed, Some(&error)),
            }
        });
    }

    fn opened(self: &Arc<Self>, opened: Opened) {
        let Opened {
            connection,
            sender,
            end,
            handshake,
        } = opened;
        let facts = &connection.facts;
        self.connector
            .observers
            .emit(&Event::ConnectionOpened { facts, handshake });
        let event = machine::Event::Opened(facts.id(), facts.http());
        self.lock().live.insert(
            facts.id(),
            Live {
                connection: connection.clone(),
                sender: Some(sender),
            },
        );
        let pool = Arc::downgrade(self);
        tokio::spawn(async move {
            let seen = end.await;
            match pool.upgrade() {
                Some(pool) => pool.forget(connection.facts.id()),
                None => connection.expect_end(Some(CloseReason::Evicted)),
            }
            connection.ended(seen);
        });
        self.step(event, None);
    }

    /// A connection takes no more requests.
    fn forget(self: &Arc<Self>, id: ConnectionId) {
        let live = self.lock().live.remove(&id);
        drop(live);
        self.step(machine::Event::Closed(id), None);
    }

    /// An h1 connection comes back.
    fn put_back(self: &Arc<Self>, connection: &Connection, sender: Sender) {
        let id = connection.facts.id();
        connection.expect_end(None);
        {
            let mut state = self.lock();
            let Some(live) = state.live.get_mut(&id) else { return };
            live.sender = Some(sender);
        }
        self.step(machine::Event::Returned(id), None);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere must not take every later request with it: the state is valid after each step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn check_out(&mut self, id: ConnectionId, pool: &Arc<Pool>) -> Option<Checkout> {
        let live = self.live.get_mut(&id)?;
        let sender = match &live.sender {
            Some(Sender::H2(sender)) => Sender::H2(sender.clone()),
            Some(Sender::H1(_)) => live.sender.take()?,
            None => return None,
        };
        Some(Checkout::new(sender, live.connection.clone(), pool.clone()))
    }
}

enum Want {
    Now(Checkout),
    Later(Waiting),
}

/// A request's place in the queue: it leaves the queue when it is dropped.
struct Waiting {
    pool: Arc<Pool>,
    waiter: WaiterId,
    handed: oneshot::Receiver<Result<Checkout, Error>>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let still_waits = self.pool.lock().waiters.remove(&self.waiter).is_some();
        if still_waits {
            self.pool.step(machine::Event::Vanished(self.waiter), None);
        }
    }
}
