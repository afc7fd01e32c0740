//! The machine alone, and in a small simulation that carries out its actions: every order of
//! events up to a bound.
#![allow(
    clippy::print_stdout,
    reason = "the exploration prints how far it came"
)]

use std::collections::{BTreeMap, BTreeSet, HashSet};

use proptest::prelude::*;

use super::*;

const KEYS: [KeyId; 2] = [KeyId(1), KeyId(2)];
const IDLE: Duration = Duration::from_secs(90);

fn limits(per_key: usize, in_all: usize) -> Limits {
    Limits {
        per_key,
        in_all,
        idle: IDLE,
        age: None,
        ahead: false,
        broken: None,
    }
}

/// A machine with a clock, for tests of one sequence of events.
struct Fixture {
    machine: Machine,
    now: Instant,
    holds: Vec<ConnectionId>,
}

impl Fixture {
    fn new(limits: Limits) -> Self {
        Self {
            machine: Machine::new(limits),
            now: Instant::now(),
            holds: Vec::new(),
        }
    }

    fn key(&mut self, key: KeyId, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        let holds = self.holds.clone();
        self.machine
            .handle(self.now, key, event, |c| holds.contains(&c), &mut actions);
        actions
    }

    fn run(&mut self, event: Event) -> Vec<Action> {
        self.key(KEYS[0], event)
    }

    fn after(&mut self, time: Duration) -> Vec<Action> {
        self.now += time;
        let mut actions = Vec::new();
        self.machine.tick(self.now, &mut actions);
        actions
    }
}

fn c(n: u64) -> ConnectionId {
    ConnectionId::numbered(n)
}

fn w(n: u64) -> WaiterId {
    WaiterId(n)
}

fn h1(n: u64) -> Event {
    Event::Opened(NewConnection {
        id: c(n),
        http: HttpVersion::H1,
        streams: 1,
        until: None,
        took: Duration::ZERO,
        jitter: 0,
    })
}

fn h2(n: u64, streams: usize) -> Event {
    Event::Opened(NewConnection {
        id: c(n),
        http: HttpVersion::H2,
        streams,
        until: None,
        took: Duration::ZERO,
        jitter: 0,
    })
}

/// HTTP/1.1 with `Keep-Alive: timeout`.
fn kept_for(time: Duration) -> Use {
    Use::Alone {
        took: Duration::ZERO,
        keep_alive: Some(time),
    }
}

fn open() -> Action {
    Action::Open(KEYS[0])
}

fn assign(connection: u64, waiter: u64) -> Action {
    Action::Assign(KEYS[0], c(connection), w(waiter))
}

fn close(connection: u64, reason: CloseReason) -> Action {
    Action::Close(KEYS[0], c(connection), reason)
}

#[test]
fn many_waiters_share_one_h2_opening() {
    let mut fixture = Fixture::new(limits(8, 8));
    assert_eq!(fixture.run(Event::Wanted(w(1), Resend::Allowed)), [open()]);
    for n in 2..=1000 {
        assert_eq!(fixture.run(Event::Wanted(w(n), Resend::Allowed)), []);
    }
    let assigned = fixture.run(h2(1, 2000));
    assert_eq!(
        assigned,
        (1..=1000).map(|n| assign(1, n)).collect::<Vec<_>>()
    );
    assert_eq!(
        fixture.run(Event::Wanted(w(1001), Resend::Allowed)),
        [assign(1, 1001)]
    );
}

#[test]
fn a_second_h2_connection_is_opened_at_the_stream_limit_and_not_before() {
    let mut fixture = Fixture::new(limits(8, 8));
    for n in 1..=3 {
        fixture.run(Event::Wanted(w(n), Resend::Allowed));
    }
    assert_eq!(fixture.run(h2(1, 2)), [assign(1, 1), assign(1, 2), open()]);
    assert_eq!(
        fixture.run(Event::Released(c(1), Use::Stream)),
        [assign(1, 3)],
        "a stream that ended serves first"
    );
    assert_eq!(fixture.run(h2(2, 2)), []);
    assert_eq!(
        fixture.run(Event::Wanted(w(4), Resend::Allowed)),
        [assign(2, 4)]
    );
    assert_eq!(fixture.run(Event::Streams(c(1), 3)), []);
    assert_eq!(
        fixture.run(Event::Wanted(w(5), Resend::Allowed)),
        [assign(2, 5)],
        "the last used first"
    );
    assert_eq!(
        fixture.run(Event::Wanted(w(6), Resend::Allowed)),
        [assign(1, 6)]
    );
}

#[test]
fn connections_that_allow_no_streams_are_not_opened_without_end_and_serve_when_they_do() {
    let mut fixture = Fixture::new(limits(8, 8));
    assert_eq!(fixture.run(Event::Wanted(w(1), Resend::Allowed)), [open()]);
    assert_eq!(fixture.run(h2(1, 0)), [open()], "another may allow some");
    assert_eq!(fixture.run(h2(2, 0)), []);
    assert_eq!(fixture.run(Event::Wanted(w(2), Resend::Allowed)), []);
    let served = fixture.run(Event::Streams(c(1), 1));
    assert_eq!(
        served,
        [assign(1, 1), open()],
        "one of the two has shown better"
    );
    let served = fixture.run(Event::Streams(c(2), 1));
    assert_eq!(served, [assign(2, 2)]);
}

#[test]
fn h1_idle_connections_are_taken_last_in_first_out() {
    let mut fixture = Fixture::new(limits(8, 8));
    fixture.run(Event::Wanted(w(1), Resend::Allowed));
    fixture.run(h1(1));
    assert_eq!(fixture.run(Event::Wanted(w(2), Resend::Allowed)), [open()]);
    fixture.run(h1(2));
    fixture.run(Event::Released(c(1), Use::Stream));
    fixture.run(Event::Released(c(2), Use::Stream));
    assert_eq!(
        fixture.run(Event::Wanted(w(3), Resend::Allowed)),
        [assign(2, 3)]
    );
    assert_eq!(
        fixture.run(Event::Wanted(w(4), Resend::Allowed)),
        [assign(1, 4)]
    );
}

#[test]
fn an_idle_connection_that_holds_the_tokens_proof_is_preferred() {
    let mut fixture = Fixture::new(limits(8, 8));
    for n in 1..=3 {
        fixture.run(Event::Wanted(w(n), Resend::Allowed));
    }
    fixture.run(h1(1));
    fixture.run(h1(2));
    fixture.run(h1(3));
    for n in 1..=3 {
        fixture.run(Event::Released(c(n), Use::Stream));
    }
    fixture.holds = vec![c(1)];
    assert_eq!(
        fixture.run(Event::Wanted(w(4), Resend::Allowed)),
        [assign(1, 4)]
    );
    assert_eq!(
        fixture.run(Event::Wanted(w(5), Resend::Allowed)),
        [assign(3, 5)]
    );
}

#[test]
fn a_waiter_takes_a_returned_connection_and_the_new_one_is_kept() {
    let mut fixture = Fixture::new(limits(8, 8));
    fixture.run(Event::Wanted(w(1), Resend::Allowed));
    fixture.run(h1(1));
    assert_eq!(fixture.run(Event::Wanted(w(2), Resend::Allowed)), [open()]);
    assert_eq!(
        fixture.run(Event::Released(c(1), Use::Stream)),
        [assign(1, 2)]
    );
    assert_eq!(fixture.run(h1(2)), []);
    assert_eq!(
        fixture.run(Event::Wanted(w(3), Resend::Allowed)),
        [assign(2, 3)]
    );
}

#[test]
fn a_connection_about_to_return_is_waited_for() {
    let mut fixture = Fixture::new(limits(8, 8));
    fixture.run(Event::Wanted(w(1), Resend::Allowed));
    fixture.run(h1(1));
    assert_eq!(fixture.run(Event::Returning(c(1))), []);
    assert_eq!(fixture.run(Event::Wanted(w(2), Resend::Allowed)), []);
    assert_eq!(fixture.run(Event::Wanted(w(3), Resend::Allowed)), [open()]);
    assert_eq!(
        fixture.run(Event::Released(c(1), Use::Stream)),
        [assign(1, 2)]
    );
}

#[test]
fn a_connection_that_did_not_return_after_all_is_replaced() {
    let mut fixture = Fixture::new(limits(8, 8));
    fixture.run(Event::Wanted(w(1), Resend::Allowed));
    fixture.run(h1(1));
    fixture.run(Event::Returning(c(1)));
    fixture.run(Event::Wanted(w(2), Resend::Allowed));
    assert_eq!(fixture.run(Event::Closed(c(1), Ending::Other)), [open()]);
}

#[test]
fn one_failed_opening_fails_every_request_that_waited_for_it_and_the_next_request_tries_again() {
    let mut fixture = Fixture::new(limits(8, 8));
    fixture.run(Event::Wanted(w(1), Resend::Allowed));
    fixture.run(Event::Wanted(w(2), Resend::Allowed));
    let fail = |n| Action::Fail(KEYS[0], w(n));
    assert_eq!(fixture.run(Event::OpenFailed), [fail(1), fail(2)]);
    assert_eq!(fixture.run(Event::Wanted(w(3), Resend::Allowed)), [open()]);
}

#[test]
fn a_key_stays_within_its_limit_and_serves_in_order_of_arrival() {
    let mut fixture = Fixture::new(limits(2, 8));
    fixture.run(Event::Wanted(w(1), Resend::Allowed));
    fixture.run(h1(1));
    assert_eq!(fixture.run(Event::Wanted(w(2), Resend::Allowed)), [open()]);
    assert_eq!(fixture.run(Event::Wanted(w(3), Resend::Allowed)), []);
    assert_eq!(fixture.run(Event::Wanted(w(4), Resend::Allowed)), []);
    assert_eq!(fixture.run(h1(2)), [assign(2, 2)]);
    assert_eq!(
        fixture.run(Event::Released(c(2), Use::Stream)),
        [assign(2, 3)]
    );
    assert_eq!(
        fixture.run(Event::Closed(c(1), Ending::Other)),
        [open()],
        "its place is taken by a new one"
    );
}

#[test]
fn an_idle_connection_of_another_key_makes_room() {
    let mut fixture = Fixture::new(limits(8, 1));
    fixture.run(Event::Wanted(w(1), Resend::Allowed));
    fixture.run(h1(1));
    assert_eq!(
        fixture.key(KEYS[1], Event::Wanted(w(2), Resend::Allowed)),
        [],
        "it is busy"
    );
    assert_eq!(
        fixture.run(Event::Released(c(1), Use::Stream)),
        [close(1, CloseReason::Evicted)]
    );
    assert_eq!(
        fixture.run(Event::Wanted(w(3), Resend::Allowed)),
        [],
        "there is no room yet"
    );
    assert_eq!(
        fixture.run(Event::Closed(c(1), Ending::Other)),
        [Action::Open(KEYS[1])],
        "the older request's turn"
    );
}

#[test]
fn a_connection_that_comes_free_makes_room_for_an_older_request_of_another_key() {
    let mut fixture = Fixture::new(limits(8, 1));
    fixture.run(Event::Wanted(w(1), Resend::Allowed));
    fixture.run(h1(1));
    fixture.key(KEYS[1], Event::Wanted(w(2), Resend::Allowed));
    assert_eq!(fixture.run(Event::Wanted(w(3), Resend::Allowed)), []);
    assert_eq!(
        fixture.run(Event::Released(c(1), Use::Stream)),
        [close(1, CloseReason::Evicted)]
    );
    assert_eq!(
        fixture.run(Event::Closed(c(1), Ending::Other)),
        [Action::Open(KEYS[1])]
    );
}

#[test]
fn idle_connections_are_let_go_in_time_and_sooner_if_the_peer_said_so() {
    let mut fixture = Fixture::new(limits(8, 8));
    for n in 1..=2 {
        fixture.run(Event::Wanted(w(n), Resend::Allowed));
    }
    fixture.run(h1(1));
    fixture.run(h1(2));
    fixture.run(Event::Released(c(1), Use::Stream));
    fixture.run(Event::Released(c(2), kept_for(Duration::from_secs(5))));
    assert_eq!(
        fixture.machine.deadline(),
        Some(fixture.now + Duration::from_secs(5))
    );
    assert_eq!(
        fixture.after(Duration::from_secs(5)),
        [close(2, CloseReason::Idle)]
    );
    assert_eq!(
        fixture.after(IDLE - Duration::from_secs(5)),
        [close(1, CloseReason::Idle)]
    );
    assert_eq!(fixture.machine.deadline(), None);
}

#[test]
fn an_expired_idle_connection_is_not_assigned_even_if_nobody_ticked() {
    let mut fixture = Fixture::new(limits(8, 8));
    fixture.run(Event::Wanted(w(1), Resend::Allowed));
    fixture.run(h1(1));
    fixture.run(Event::Released(c(1), Use::Stream));
    fixture.now += IDLE;
    assert_eq!(
        fixture.run(Event::Wanted(w(2), Resend::Allowed)),
        [close(1, CloseReason::Idle), open()]
    );
}

#[test]
fn a_connection_over_age_finishes_what_it_has_and_takes_no_more() {
    let mut fixture = Fixture::new(Limits {
        age: Some(Duration::from_secs(60)),
        ..limits(8, 8)
    });
    fixture.run(Event::Wanted(w(1), Resend::Allowed));
    fixture.run(h2(1, 100));
    assert_eq!(fixture.after(Duration::from_secs(60)), []);
    assert_eq!(fixture.run(Event::Wanted(w(2), Resend::Allowed)), [open()]);
    assert_eq!(fixture.run(h2(2, 100)), [assign(2, 2)]);
    assert_eq!(
        fixture.run(Event::Released(c(1), Use::Stream)),
        [close(1, CloseReason::Age)]
    );
}

/// A simulation around the machine that carries out its actions and checks the invariants.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Simulation {
    machine: Machine,
    limits: Limits,
    now: Instant,
    next: u64,
    openings: BTreeMap<KeyId, usize>,
    waiting: BTreeMap<WaiterId, KeyId>,
    live: BTreeMap<ConnectionId, Live>,
    /// Openings ahead under way, by the connection that is replaced.
    ahead: BTreeSet<(ConnectionId, KeyId)>,
    /// For how long a certificate is valid.
    certificate: Option<Duration>,
    /// How long a request takes on HTTP/1.1, and an opening.
    pace: Option<(Duration, Duration)>,
    /// Connections whose certificate was told to expire.
    expiring: BTreeSet<ConnectionId>,
    /// Every connection that a successor was opened for, and when.
    replaced: BTreeMap<ConnectionId, Instant>,
    /// How many connections were open when one was opened ahead.
    serving: BTreeMap<Instant, usize>,
    /// Connections that are made ready.
    preparing: BTreeSet<ConnectionId>,
    /// How often time has passed to the next deadline.
    ticks: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Live {
    key: KeyId,
    busy: usize,
    streams: usize,
    returning: bool,
    closing: bool,
    /// When a request last came or went.
    used: Instant,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Time passes to the machine's next deadline.
    Tick,
    OpenAhead(ConnectionId, KeyId),
    FailAhead(ConnectionId, KeyId),
    Ready(ConnectionId),
    End(ConnectionId, Ending),
    Want(KeyId),
    Vanish(WaiterId),
    Open(KeyId, HttpVersion),
    Fail(KeyId),
    Return(ConnectionId),
    Finish(ConnectionId),
    Die(ConnectionId),
    Wait,
}

impl Simulation {
    fn new(limits: Limits, now: Instant) -> Self {
        Self {
            machine: Machine::new(limits),
            limits,
            now,
            next: 0,
            openings: BTreeMap::new(),
            waiting: BTreeMap::new(),
            live: BTreeMap::new(),
            ahead: BTreeSet::new(),
            certificate: None,
            pace: None,
            expiring: BTreeSet::new(),
            replaced: BTreeMap::new(),
            serving: BTreeMap::new(),
            preparing: BTreeSet::new(),
            ticks: 0,
        }
    }

    /// Everything that can happen now.
    fn steps(&self) -> Vec<Step> {
        let mut steps = vec![Step::Wait];
        for key in KEYS {
            steps.push(Step::Want(key));
            if self.openings.get(&key).is_some_and(|n| *n > 0) {
                steps.push(Step::Open(key, HttpVersion::H1));
                steps.push(Step::Open(key, HttpVersion::H2));
                steps.push(Step::Fail(key));
            }
        }
        steps.extend(self.waiting.keys().map(|w| Step::Vanish(*w)));
        steps.extend(self.live.keys().map(|c| Step::Die(*c)));
        steps.extend(
            self.live
                .iter()
                .filter(|(_, l)| l.busy > 0)
                .map(|(c, _)| Step::Finish(*c)),
        );
        let returnable = |l: &Live| l.streams == 1 && l.busy == 1 && !l.returning;
        steps.extend(
            self.live
                .iter()
                .filter(|(_, l)| returnable(l))
                .map(|(c, _)| Step::Return(*c)),
        );
        if self.limits.ahead || self.pace.is_some() {
            steps.push(Step::Tick);
        }
        if self.limits.ahead {
            let ahead = self.ahead.iter();
            steps.extend(ahead.clone().map(|(c, key)| Step::OpenAhead(*c, *key)));
            steps.extend(ahead.map(|(c, key)| Step::FailAhead(*c, *key)));
            steps.extend(self.preparing.iter().map(|c| Step::Ready(*c)));
            let ends = [Ending::Goaway, Ending::Orderly];
            let live = self.live.keys();
            steps.extend(live.flat_map(|c| ends.map(|ending| Step::End(*c, ending))));
        }
        steps
    }

    /// A connection of which the machine is to be told.
    fn connect(&mut self, key: KeyId, http: HttpVersion) -> NewConnection {
        self.next += 1;
        let streams = if http == HttpVersion::H1 { 1 } else { 2 };
        let live = Live {
            key,
            busy: 0,
            streams,
            returning: false,
            closing: false,
            used: self.now,
        };
        self.live.insert(c(self.next), live);
        NewConnection {
            id: c(self.next),
            http,
            streams,
            until: self.certificate.map(|valid| self.now + valid),
            took: self.pace.map_or(Duration::ZERO, |(_, opening)| opening),
            jitter: 0,
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Tick => {
                self.ticks += 1;
                self.now = self.machine.deadline().unwrap_or(self.now).max(self.now);
                let mut actions = Vec::new();
                self.machine.tick(self.now, &mut actions);
                self.carry_out(actions);
            }
            Step::OpenAhead(old, key) => {
                assert!(self.ahead.remove(&(old, key)), "it opens");
                let new = self.connect(key, HttpVersion::H1);
                self.preparing.insert(new.id);
                self.feed(key, Event::OpenedAhead(new, old));
            }
            Step::FailAhead(old, key) => {
                assert!(self.ahead.remove(&(old, key)), "it opens");
                self.feed(key, Event::OpenAheadFailed(old));
            }
            Step::Ready(id) => {
                self.preparing.remove(&id);
                if let Some(live) = self.live.get(&id) {
                    self.feed(live.key, Event::Ready(id, Some(Duration::ZERO)));
                }
            }
            Step::End(connection, ending) => {
                let live = self.live.remove(&connection).expect("it lives");
                self.feed(live.key, Event::Closed(connection, ending));
            }
            Step::Want(key) => {
                self.next += 1;
                self.waiting.insert(w(self.next), key);
                self.feed(key, Event::Wanted(w(self.next), Resend::Allowed));
            }
            Step::Vanish(waiter) => {
                let key = self.waiting.remove(&waiter).expect("it waits");
                self.feed(key, Event::WaiterGone(waiter));
            }
            Step::Open(key, http) => {
                *self.openings.get_mut(&key).expect("it opens") -= 1;
                let new = self.connect(key, http);
                self.feed(key, Event::Opened(new));
            }
            Step::Fail(key) => {
                *self.openings.get_mut(&key).expect("it opens") -= 1;
                self.feed(key, Event::OpenFailed);
            }
            Step::Return(connection) => {
                let live = self.live.get_mut(&connection).expect("it lives");
                live.returning = true;
                let key = live.key;
                self.feed(key, Event::Returning(connection));
            }
            Step::Finish(connection) => {
                let live = self.live.get_mut(&connection).expect("it lives");
                live.busy -= 1;
                live.returning = false;
                live.used = self.now;
                let key = live.key;
                let made = match self.pace {
                    Some((took, _)) => Use::Alone {
                        took,
                        keep_alive: None,
                    },
                    None => Use::Stream,
                };
                self.feed(key, Event::Released(connection, made));
            }
            Step::Die(connection) => {
                let live = self.live.remove(&connection).expect("it lives");
                self.feed(live.key, Event::Closed(connection, Ending::Other));
            }
            Step::Wait => {
                self.now += IDLE;
                let mut actions = Vec::new();
                self.machine.tick(self.now, &mut actions);
                self.carry_out(actions);
            }
        }
        self.check();
    }

    fn feed(&mut self, key: KeyId, event: Event) {
        let mut actions = Vec::new();
        self.machine
            .handle(self.now, key, event, |_| false, &mut actions);
        self.carry_out(actions);
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Open(key) => *self.openings.entry(key).or_default() += 1,
                Action::Fail(key, waiter) => {
                    assert_eq!(
                        self.waiting.remove(&waiter),
                        Some(key),
                        "failed twice, or never waited"
                    );
                }
                Action::OpenAhead(key, old, lead) => self.opens_ahead(key, old, lead),
                Action::StopAhead(_) | Action::Distrust(_) => {}
                Action::Expires(key, old) => {
                    assert!(self.expiring.insert(old), "told twice of {old}");
                    assert!(self.is_in_use(old, Duration::ZERO), "{old} is idle");
                    let other = KEYS[usize::from(key == KEYS[0])];
                    self.feed(other, Event::Expected(old));
                }
                Action::Close(key, connection, _) => {
                    let live = self
                        .live
                        .get_mut(&connection)
                        .expect("closed a dead connection");
                    assert_eq!(
                        (live.key, live.busy, live.closing),
                        (key, 0, false),
                        "closed a busy connection"
                    );
                    live.closing = true;
                }
                Action::Assign(key, connection, waiter) => {
                    assert_eq!(
                        self.waiting.remove(&waiter),
                        Some(key),
                        "assigned to a request that does not wait"
                    );
                    let live = self
                        .live
                        .get_mut(&connection)
                        .expect("assigned a dead connection");
                    assert_eq!((live.key, live.closing), (key, false));
                    live.busy += 1;
                    live.used = self.now;
                    assert!(live.busy <= live.streams, "more requests than it takes");
                }
            }
        }
    }

    fn is_in_use(&self, id: ConnectionId, lead: Duration) -> bool {
        let live = &self.live[&id];
        live.busy > 0 || live.used + lead + Duration::from_secs(1) > self.now
    }

    fn opens_ahead(&mut self, key: KeyId, old: ConnectionId, lead: Duration) {
        assert!(self.ahead.insert((old, key)), "another one of {old}");
        if self.live.get(&old).is_some_and(|live| live.key != key) {
            assert!(self.expiring.contains(&old), "no other certificate");
            let serves = self.live.values().any(|live| live.key == key);
            assert!(!serves, "the other certificate has a connection");
            return;
        }
        let before = self.replaced.insert(old, self.now);
        assert_eq!(before, None, "a second successor of {old}");
        // It may have ended with GOAWAY just now.
        if self.live.contains_key(&old) {
            let is_in_use = self.is_in_use(old, lead);
            assert!(is_in_use, "opened ahead for {old}, which is idle");
        }
        let waits = self.waiting.values().any(|waiting| *waiting == key);
        assert!(!waits, "opened ahead while a request waits");
        // One key only: the others have no part in it.
        let serving = self.live.len().max(1);
        let most = self.serving.entry(self.now).or_default();
        *most = serving.max(*most);
        let since = self.now.checked_sub(Duration::from_secs(60));
        let is_lately = |at: &Instant| since.is_none_or(|since| *at > since);
        let lately = self.replaced.values().filter(|at| is_lately(at));
        let serving = self.serving.iter().filter(|(at, _)| is_lately(at));
        let most = serving.map(|(_, open)| *open).max().unwrap_or_default();
        assert!(lately.count() <= 10 * most, "too many are opened ahead");
    }

    fn check(&self) {
        self.machine.check_indexes(self.now);
        let all = self.openings.values().sum::<usize>() + self.ahead.len() + self.live.len();
        assert!(all <= self.limits.in_all, "too many connections in all");
        for key in KEYS {
            let ahead = self.ahead.iter().filter(|(_, ahead)| *ahead == key).count();
            let opening = self.openings.get(&key).copied().unwrap_or_default() + ahead;
            let members: Vec<_> = self.live.values().filter(|l| l.key == key).collect();
            assert!(
                opening + members.len() <= self.limits.per_key,
                "too many connections in a key"
            );
            if !self.waiting.values().any(|l| *l == key) {
                continue;
            }
            let something_ends = members.iter().any(|l| l.busy > 0 || l.closing);
            let room_is_coming = self.live.values().any(|l| l.busy > 0 || l.closing)
                || self.openings.values().any(|n| *n > 0)
                || !self.ahead.is_empty();
            let is_full = all >= self.limits.in_all;
            assert!(
                opening > 0 || something_ends || (is_full && room_is_coming),
                "a request waits and nothing is coming"
            );
            // What is waited for is looked at again, unless no more may be opened anyway.
            let is_slow = opening == 0 && !is_full && members.len() < self.limits.per_key;
            if let Some((_, another)) = self.pace
                && is_slow
                && !members.iter().any(|l| l.returning)
            {
                let again = self.machine.deadline();
                let soon = self.now + another + Duration::from_nanos(1);
                assert!(again.is_some_and(|at| at <= soon), "it waits: {again:?}");
            }
        }
    }
}

impl Machine {
    /// The ordered indexes and the counts agree with what they are made from.
    fn check_indexes(&self, now: Instant) {
        let members = || self.keys.values().flat_map(|entry| &entry.members);
        let opening: usize = self.keys.values().map(|entry| entry.openings.len()).sum();
        assert_eq!(self.total, members().count() + opening);
        assert_eq!(self.closing, members().filter(|m| m.closing).count());
        let blocked: BTreeSet<_> = self
            .keys
            .iter()
            .filter_map(|(id, entry)| Some((entry.wants_opening(now, &self.limits)?, *id)))
            .collect();
        assert_eq!(self.blocked, blocked);
        for (id, entry) in &self.keys {
            let is_early = |noted: Option<Instant>, when: Option<Instant>| {
                when.is_none_or(|when| noted.is_some_and(|noted| noted <= when))
            };
            assert!(
                is_early(entry.due, entry.deadline(now)),
                "{id:?}: {entry:?}"
            );
            let idle = entry.members.iter().filter(|m| m.is_idle());
            let first = idle.map(|m| m.idle_until).min();
            assert!(is_early(entry.idle, first), "{id:?}: {entry:?}");
        }
    }
}

/// Takes every order of steps from here on, except those that are beyond a bound; returns the number of
/// states that were reached.
fn explore(start: Simulation, is_beyond: impl Fn(&Simulation, Step) -> bool) -> usize {
    let mut visited = HashSet::new();
    let mut frontier = vec![start];
    while let Some(simulation) = frontier.pop() {
        for step in simulation.steps() {
            if is_beyond(&simulation, step) {
                continue;
            }
            let mut next = simulation.clone();
            next.step(step);
            if visited.insert(next.clone()) {
                frontier.push(next);
            }
        }
    }
    visited.len()
}

/// Every order of events in which at most a few requests come and time passes once.
#[test]
fn no_order_of_events_breaks_a_limit_or_forgets_a_request() {
    let start = Instant::now();
    let mut seen = 0;
    for limits in [limits(1, 1), limits(2, 2), limits(1, 2), limits(2, 1)] {
        seen += explore(Simulation::new(limits, start), |simulation, step| {
            let wants = matches!(step, Step::Want(_)) && simulation.next >= 4;
            let waits = matches!(step, Step::Wait) && simulation.now > start;
            wants || waits || simulation.next >= 6
        });
    }
    println!("{seen} states");
    assert!(seen > 10_000, "only {seen} states were reached");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn long_random_event_sequences_keep_the_rules_too(
        per_key in 1usize..5,
        in_all in 1usize..8,
        picks in prop::collection::vec(any::<prop::sample::Index>(), 0..300),
    ) {
        let mut simulation = Simulation::new(limits(per_key, in_all), Instant::now());
        for pick in picks {
            let steps = simulation.steps();
            let step = steps[pick.index(steps.len())];
            simulation.step(step);
        }
        // And in the end every request is served or failed.
        for _ in 0..10_000 {
            if simulation.waiting.is_empty() {
                break;
            }
            let steps = simulation.steps();
            let fair = steps.iter().find(|s| matches!(s, Step::Open(_, HttpVersion::H1)))
                .or_else(|| steps.iter().find(|s| matches!(s, Step::Finish(_))))
                .copied();
            let closing = simulation.live.iter().find(|(_, l)| l.closing).map(|(c, _)| Step::Die(*c));
            match closing.or(fair) {
                Some(step) => simulation.step(step),
                None => break,
            }
        }
        let left: BTreeSet<_> = simulation.waiting.keys().collect();
        prop_assert!(left.is_empty(), "{left:?} wait for ever");
    }
}

mod ahead;
mod h1;
