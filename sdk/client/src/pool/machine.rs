//! What one origin's pool decides: events in, actions out, no I/O and no clock.
//!
//! - h2: one connection however many requests wait for it.
//! - h1: an idle connection is taken last in, first out; a waiting request takes whichever comes first, a returned
//!   connection or a new one, and the loser is kept idle.
//! - Until ALPN has spoken, h2 is assumed: one connection is opened and its answer decides whether more are needed.

use std::collections::VecDeque;

use crate::connection::{ConnectionId, HttpVersion};

/// A request that waits for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct WaiterId(pub(crate) u64);

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A request wants a connection.
    Wanted(WaiterId),
    /// A waiting request is gone.
    Vanished(WaiterId),
    /// An opening succeeded.
    Opened(ConnectionId, HttpVersion),
    /// An opening failed.
    OpenFailed,
    /// An h1 connection has carried its response to the end and can take another request.
    Returned(ConnectionId),
    /// A connection takes no more requests.
    Closed(ConnectionId),
}

/// What is to be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Open one more connection.
    Open,
    /// Give the connection to the waiting request: alone if it is h1, as one of many if it is h2.
    Hand(ConnectionId, WaiterId),
    /// Tell the waiting request that no connection could be opened.
    Fail(WaiterId),
    /// Let the connection go: another one is in use.
    Close(ConnectionId),
}

/// The state of one origin's pool.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    /// Idle h1 connections, the last returned last.
    idle: Vec<ConnectionId>,
    /// The h2 connection that takes requests.
    shared: Option<ConnectionId>,
    /// Requests without a connection, the oldest first.
    waiting: VecDeque<WaiterId>,
    /// Openings under way.
    opening: usize,
    /// What ALPN chose last.
    speaks: Option<HttpVersion>,
}

impl Machine {
    /// Takes an event and writes the actions that follow from it, in order.
    pub(crate) fn handle(&mut self, event: Event, actions: &mut Vec<Action>) {
        match event {
            Event::Wanted(waiter) => match self.free() {
                Some(connection) => actions.push(Action::Hand(connection, waiter)),
                None => {
                    self.waiting.push_back(waiter);
                    self.open_what_is_missing(actions);
                }
            },
            Event::Vanished(waiter) => self.waiting.retain(|w| *w != waiter),
            Event::Opened(connection, http) => {
                self.opening -= 1;
                self.speaks = Some(http);
                match http {
                    HttpVersion::H2 => self.share(connection, actions),
                    HttpVersion::H1 => self.offer(connection, actions),
                }
                self.open_what_is_missing(actions);
            }
            Event::OpenFailed => {
                self.opening -= 1;
                self.fail_who_waits_in_vain(actions);
            }
            Event::Returned(connection) => self.offer(connection, actions),
            Event::Closed(connection) => {
                self.idle.retain(|c| *c != connection);
                if self.shared == Some(connection) {
                    self.shared = None;
                }
            }
        }
    }

    /// Whether nothing is open, opening or wanted.
    pub(crate) fn is_unused(&self) -> bool {
        self.idle.is_empty() && self.shared.is_none() && self.waiting.is_empty() && self.opening == 0
    }

    fn free(&mut self) -> Option<ConnectionId> {
        self.shared.or_else(|| self.idle.pop())
    }

    fn offer(&mut self, connection: ConnectionId, actions: &mut Vec<Action>) {
        match self.waiting.pop_front() {
            Some(waiter) => actions.push(Action::Hand(connection, waiter)),
            None => self.idle.push(connection),
        }
    }

    fn share(&mut self, connection: ConnectionId, actions: &mut Vec<Action>) {
        // A server that spoke h1 before may have several openings answered with h2: the first is enough.
        if self.shared.is_some() {
            actions.push(Action::Close(connection));
            return;
        }
        self.shared = Some(connection);
        actions.extend(self.waiting.drain(..).map(|waiter| Action::Hand(connection, waiter)));
    }

    fn open_what_is_missing(&mut self, actions: &mut Vec<Action>) {
        while self.opening < self.openings_needed() {
            self.opening += 1;
            actions.push(Action::Open);
        }
    }

    fn openings_needed(&self) -> usize {
        match self.speaks {
            Some(HttpVersion::H1) => self.waiting.len(),
            Some(HttpVersion::H2) | None => self.waiting.len().min(1),
        }
    }

    /// After a failure each opening still under way serves the oldest waiting requests; the failure goes to those
    /// that no opening is left for.
    fn fail_who_waits_in_vain(&mut self, actions: &mut Vec<Action>) {
        while self.opening < self.openings_needed()
            && let Some(waiter) = self.waiting.pop_front()
        {
            actions.push(Action::Fail(waiter));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    fn run(machine: &mut Machine, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        machine.handle(event, &mut actions);
        actions
    }

    fn c(n: u64) -> ConnectionId {
        ConnectionId::numbered(n)
    }

    #[test]
    fn many_waiters_share_one_h2_opening() {
        let mut machine = Machine::default();
        assert_eq!(run(&mut machine, Event::Wanted(WaiterId(1))), [Action::Open]);
        for w in 2..=1000 {
            assert_eq!(run(&mut machine, Event::Wanted(WaiterId(w))), []);
        }
        let handed = run(&mut machine, Event::Opened(c(1), HttpVersion::H2));
        assert_eq!(handed.len(), 1000);
        assert!(handed.iter().all(|a| matches!(a, Action::Hand(id, _) if *id == c(1))));
        assert_eq!(
            run(&mut machine, Event::Wanted(WaiterId(1001))),
            [Action::Hand(c(1), WaiterId(1001))]
        );
    }

    #[test]
    fn h1_idle_connections_are_taken_last_in_first_out() {
        let mut machine = Machine::default();
        run(&mut machine, Event::Wanted(WaiterId(1)));
        run(&mut machine, Event::Opened(c(1), HttpVersion::H1));
        assert_eq!(run(&mut machine, Event::Wanted(WaiterId(2))), [Action::Open]);
        run(&mut machine, Event::Opened(c(2), HttpVersion::H1));
        run(&mut machine, Event::Returned(c(1)));
        run(&mut machine, Event::Returned(c(2)));
        assert_eq!(
            run(&mut machine, Event::Wanted(WaiterId(3))),
            [Action::Hand(c(2), WaiterId(3))]
        );
        assert_eq!(
            run(&mut machine, Event::Wanted(WaiterId(4))),
            [Action::Hand(c(1), WaiterId(4))]
        );
    }

    #[test]
    fn an_h1_answer_opens_for_everybody_who_still_waits() {
        let mut machine = Machine::default();
        for w in 1..=3 {
            run(&mut machine, Event::Wanted(WaiterId(w)));
        }
        assert_eq!(
            run(&mut machine, Event::Opened(c(1), HttpVersion::H1)),
            [Action::Hand(c(1), WaiterId(1)), Action::Open, Action::Open]
        );
    }

    #[test]
    fn a_waiter_takes_a_returned_connection_and_the_new_one_is_kept() {
        let mut machine = Machine::default();
        run(&mut machine, Event::Wanted(WaiterId(1)));
        run(&mut machine, Event::Opened(c(1), HttpVersion::H1));
        assert_eq!(run(&mut machine, Event::Wanted(WaiterId(2))), [Action::Open]);
        assert_eq!(
            run(&mut machine, Event::Returned(c(1))),
            [Action::Hand(c(1), WaiterId(2))]
        );
        assert_eq!(run(&mut machine, Event::Opened(c(2), HttpVersion::H1)), []);
        assert_eq!(
            run(&mut machine, Event::Wanted(WaiterId(3))),
            [Action::Hand(c(2), WaiterId(3))]
        );
    }

    #[test]
    fn one_failed_h2_opening_fails_everybody_and_the_next_request_tries_again() {
        let mut machine = Machine::default();
        run(&mut machine, Event::Wanted(WaiterId(1)));
        run(&mut machine, Event::Wanted(WaiterId(2)));
        assert_eq!(
            run(&mut machine, Event::OpenFailed),
            [Action::Fail(WaiterId(1)), Action::Fail(WaiterId(2))]
        );
        assert_eq!(run(&mut machine, Event::Wanted(WaiterId(3))), [Action::Open]);
    }

    /// A world around the machine that does what it is told and remembers what must hold.
    #[derive(Default)]
    struct World {
        machine: Machine,
        next: u64,
        openings: usize,
        waiting: BTreeSet<WaiterId>,
        live: BTreeMap<ConnectionId, HttpVersion>,
        busy: BTreeSet<ConnectionId>,
    }

    impl World {
        fn feed(&mut self, event: Event) {
            for action in run(&mut self.machine, event) {
                match action {
                    Action::Open => self.openings += 1,
                    Action::Fail(waiter) => assert!(self.waiting.remove(&waiter), "failed twice, or never waited"),
                    Action::Close(connection) => {
                        assert_eq!(self.live.remove(&connection), Some(HttpVersion::H2));
                    }
                    Action::Hand(connection, waiter) => {
                        assert!(self.waiting.remove(&waiter), "handed to nobody");
                        if *self.live.get(&connection).expect("handed a dead connection") == HttpVersion::H1 {
                            assert!(self.busy.insert(connection), "an h1 connection was handed out twice");
                        }
                    }
                }
            }
            assert!(
                self.waiting.is_empty() || self.openings > 0,
                "somebody waits and nothing is coming"
            );
        }

        fn step(&mut self, (kind, pick): (u8, usize)) {
            let nth = |set: Vec<ConnectionId>| set.get(pick % set.len().max(1)).copied();
            match kind {
                0 | 1 => {
                    self.next += 1;
                    self.waiting.insert(WaiterId(self.next));
                    self.feed(Event::Wanted(WaiterId(self.next)));
                }
                2 => {
                    let waiters: Vec<_> = self.waiting.iter().copied().collect();
                    if let Some(waiter) = waiters.get(pick % waiters.len().max(1)) {
                        self.waiting.remove(waiter);
                        self.feed(Event::Vanished(*waiter));
                    }
                }
                3 | 4 if self.openings > 0 => {
                    self.openings -= 1;
                    self.next += 1;
                    let http = if kind == 3 { HttpVersion::H1 } else { HttpVersion::H2 };
                    self.live.insert(c(self.next), http);
                    self.feed(Event::Opened(c(self.next), http));
                }
                5 if self.openings > 0 => {
                    self.openings -= 1;
                    self.feed(Event::OpenFailed);
                }
                6 => {
                    if let Some(connection) = nth(self.busy.iter().copied().collect()) {
                        self.busy.remove(&connection);
                        self.feed(Event::Returned(connection));
                    }
                }
                7 => {
                    if let Some(connection) = nth(self.live.keys().copied().collect()) {
                        self.live.remove(&connection);
                        self.busy.remove(&connection);
                        self.feed(Event::Closed(connection));
                    }
                }
                _ => {}
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn nobody_is_forgotten_and_no_h1_connection_serves_two(steps in prop::collection::vec((0u8..8, 0usize..64), 0..200)) {
            let mut world = World::default();
            for step in steps {
                world.step(step);
            }
        }
    }
}
