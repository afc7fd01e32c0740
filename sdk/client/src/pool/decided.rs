//! Doing what the machine has decided.

use std::sync::Arc;

use super::checkout::Checkout;
use super::machine::{self, Action, KeyId, WaiterId};
use super::opening::Predecessor;
use super::{Live, Pool, State, Waiter};
use crate::conn::facts::ConnectionId;
use crate::conn::live::Sender;
use crate::error::{Error, ErrorKind};
use crate::observe::CloseReason;

/// What is left to do when the lock is free: sending a result wakes tasks and may drop connections,
/// whose `Drop` takes the lock again.
#[derive(Default)]
pub(super) struct Deferred {
    results: Vec<(Waiter, Result<Checkout, Error>)>,
    closed: Vec<(Live, CloseReason)>,
}

impl Deferred {
    pub(super) fn run(self) {
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

impl State {
    /// Does what the machine decided; the connection assigned to `own` is returned.
    pub(super) fn perform(
        &mut self,
        pool: &Arc<Pool>,
        error: Option<&Error>,
        own: Option<WaiterId>,
    ) -> (Option<Checkout>, Deferred) {
        let mut checkout = None;
        let mut deferred = Deferred::default();
        while !self.actions.is_empty() {
            let mut actions = std::mem::take(&mut self.actions);
            let mut expiring = Vec::new();
            for action in actions.drain(..) {
                match action {
                    Action::Open(key) => pool.spawn_opening(self, key, None),
                    Action::OpenAhead(key, id, lead) => {
                        let old = Predecessor {
                            id,
                            connection: self.live.get(&id).map(|live| live.connection.clone()),
                            tokens: std::mem::take(&mut self.leaving),
                            lead,
                        };
                        pool.spawn_opening(self, key, Some(old));
                    }
                    Action::StopAhead(key) => {
                        self.ahead.stopped += 1;
                        let origin = self.destinations.get(key).map(|d| d.origin.to_string());
                        tracing::warn!(
                            origin,
                            "connections end so often that none is opened ahead for a minute"
                        );
                    }
                    Action::Distrust(_) => self.ahead.distrusted += 1,
                    Action::Expires(key, id) => expiring.push((key, id)),
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
                        let live = self.remove(id);
                        deferred.closed.extend(live.map(|live| (live, reason)));
                    }
                }
            }
            // With its room, for what follows and for the next event.
            self.actions = actions;
            for (key, id) in expiring {
                self.expect_elsewhere(pool, key, id);
            }
        }
        (checkout, deferred)
    }

    /// The certificate of a connection is about to expire: where another identity is held, requests
    /// will come with that one.
    fn expect_elsewhere(&mut self, pool: &Pool, key: KeyId, id: ConnectionId) {
        let Some(destination) = self.destinations.get(key).cloned() else {
            return;
        };
        let Some(identity) = pool.identities.successor(&destination.identity) else {
            return;
        };
        let key = self.key(&destination.origin, &identity);
        self.handle(key, machine::Event::Expected(id));
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
