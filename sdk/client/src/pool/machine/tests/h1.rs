//! How many connections requests on HTTP/1.1 are worth: a request takes 2 ms here, another connection
//! 300 ms.

use super::*;

const REQUEST: Duration = Duration::from_millis(2);
const SECOND: Duration = Duration::from_secs(1);
const ANOTHER: Duration = Duration::from_millis(300);

fn opened_in(took: Duration, n: u64) -> Event {
    Event::Opened(NewConnection {
        id: c(n),
        http: HttpVersion::H1,
        streams: 1,
        until: None,
        took,
        jitter: 0,
    })
}

fn opened(n: u64) -> Event {
    opened_in(ANOTHER, n)
}

fn served(n: u64, took: Duration) -> Event {
    let keep_alive = None;
    Event::Released(c(n), Use::Alone { took, keep_alive })
}

fn wanted(n: u64) -> Event {
    Event::Wanted(w(n), Resend::Allowed)
}

impl Fixture {
    /// A machine with an idle connection, 1, that has served a request.
    fn with_pace() -> Self {
        let mut fixture = Self::new(limits(64, 64));
        assert_eq!(fixture.run(wanted(1)), [open()]);
        assert_eq!(fixture.run(opened(1)), [assign(1, 1)]);
        fixture.serve(1);
        fixture
    }

    /// The request on the connection is answered.
    fn serve(&mut self, connection: u64) -> Vec<Action> {
        self.now += REQUEST;
        self.run(served(connection, REQUEST))
    }

    /// The request on the connection is answered; `None` if that opens a connection.
    fn serve_one_more(&mut self, connection: u64) -> Option<Vec<Action>> {
        let actions = self.serve(connection);
        (!actions.contains(&open())).then_some(actions)
    }

    fn cut(&mut self, connection: u64) {
        self.run(Event::Closed(c(connection), Ending::Other));
    }
}

#[test]
fn requests_that_come_while_a_connection_opens_are_served_by_that_one() {
    let mut fixture = Fixture::with_pace();
    fixture.cut(1);
    assert_eq!(fixture.run(wanted(2)), [open()]);
    for n in 3..=60 {
        assert_eq!(fixture.after(Duration::from_millis(5)), []);
        assert_eq!(fixture.run(wanted(n)), []);
    }
    assert_eq!(fixture.run(opened(2)), [assign(2, 2)]);
    let mut openings = 0;
    for n in 3..=60 {
        let mut actions = fixture.serve(2);
        openings += actions.iter().filter(|a| **a == open()).count();
        actions.retain(|a| *a != open());
        assert_eq!(actions, [assign(2, n)]);
    }
    // By the second rule: they have waited together for longer than an opening takes.
    assert_eq!(openings, 1);
}

#[test]
fn where_openings_are_quick_or_requests_long_each_request_opens_one() {
    for (took, request) in [(REQUEST / 10, REQUEST), (ANOTHER, ANOTHER)] {
        let mut fixture = Fixture::new(limits(64, 64));
        fixture.run(wanted(1));
        fixture.run(opened_in(took, 1));
        fixture.run(served(1, request));
        fixture.cut(1);
        for n in 2..20 {
            assert_eq!(fixture.run(wanted(n)), [open()], "{request:?} {n}");
        }
    }
}

#[test]
fn one_slow_request_of_sixteen_does_not_make_each_request_open_one() {
    let mut fixture = Fixture::with_pace();
    for n in 2..=15 {
        fixture.run(wanted(n));
        fixture.serve(1);
    }
    fixture.run(wanted(16));
    fixture.run(served(1, ANOTHER));
    fixture.cut(1);
    // 20 ms on average: one serves fifteen while another one is opened.
    let mut openings = 0;
    for n in 17..47 {
        openings += fixture.run(wanted(n)).len();
    }
    assert_eq!(openings, 3);
}

#[test]
fn a_request_that_lasts_longer_than_expected_is_not_waited_for() {
    let mut fixture = Fixture::with_pace();
    assert_eq!(fixture.run(wanted(2)), [assign(1, 2)]);
    assert_eq!(fixture.run(wanted(3)), [], "it is soon over");
    let patience = ANOTHER / 4;
    assert_eq!(fixture.machine.deadline(), Some(fixture.now + patience));
    assert_eq!(fixture.after(patience), [open()]);
    // Nor by the next one.
    assert_eq!(fixture.run(opened(2)), [assign(2, 3)]);
    assert_eq!(fixture.run(wanted(4)), [], "the new one is soon free");
    assert_eq!(fixture.serve(2), [assign(2, 4)]);
}

#[test]
fn a_queue_does_not_last() {
    let mut fixture = Fixture::with_pace();
    fixture.run(wanted(2));
    fixture.run(wanted(3));
    // One is served and one waits, all the time.
    let served = (4..1000).find(|n| {
        let opens = fixture.serve_one_more(1).is_none();
        opens || fixture.run(wanted(*n)).contains(&open())
    });
    let waited = REQUEST * u32::try_from(served.expect("another one") - 3).unwrap();
    assert!(
        waited >= ANOTHER && waited < ANOTHER + 2 * REQUEST,
        "{waited:?}"
    );
}

#[test]
fn an_opening_that_takes_twice_as_long_as_expected_is_not_waited_for() {
    let mut fixture = Fixture::with_pace();
    fixture.cut(1);
    assert_eq!(fixture.run(wanted(2)), [open()]);
    assert_eq!(fixture.run(wanted(3)), []);
    assert_eq!(fixture.after(ANOTHER * 2 - REQUEST), []);
    assert_eq!(fixture.after(REQUEST), [open()]);
    assert_eq!(fixture.after(ANOTHER * 2), [], "each request has one");
}

#[test]
fn a_failed_opening_fails_the_requests_that_it_was_for() {
    let fail = |n| Action::Fail(KEYS[0], w(n));
    let mut fixture = Fixture::with_pace();
    fixture.cut(1);
    assert_eq!(fixture.run(wanted(2)), [open()]);
    fixture.run(wanted(3));
    fixture.run(wanted(4));
    let mut half = fixture.machine.clone();
    assert_eq!(fixture.run(Event::OpenFailed), [fail(2), fail(3), fail(4)]);

    // Two are being opened for three.
    fixture.now += ANOTHER * 2;
    let mut actions = Vec::new();
    half.tick(fixture.now, &mut actions);
    assert_eq!(actions, [open()]);
    fixture.machine = half;
    assert_eq!(fixture.run(Event::OpenFailed), [fail(2), fail(3)]);
    assert_eq!(fixture.run(opened(2)), [assign(2, 4)]);
}

#[test]
fn the_time_of_a_proof_counts() {
    let mut fixture = Fixture::with_pace();
    let most = ANOTHER.as_millis() / REQUEST.as_millis();
    let most = usize::try_from(most).unwrap();
    let can_share = |fixture: &Fixture, n| fixture.machine.can_share(KEYS[0], n);
    assert!(can_share(&fixture, most));
    assert!(!can_share(&fixture, most + 1));
    fixture.run(Event::ProofsTake(ANOTHER));
    assert!(can_share(&fixture, 2 * most));
    assert!(!can_share(&fixture, 2 * most + 1));
}

#[test]
fn a_request_that_was_not_written_does_not_count() {
    let mut fixture = Fixture::with_pace();
    let before = fixture.machine.clone();
    let now = fixture.now;
    for n in 2..50 {
        fixture.now += Duration::from_secs(1);
        fixture.run(wanted(n));
        fixture.run(Event::Released(c(1), Use::None));
    }
    let member = |machine: &Machine| machine.keys[&KEYS[0]].members[0].clone();
    let (after, first) = (member(&fixture.machine), member(&before));
    assert_eq!(after.requests, first.requests);
    let idle = |member: &Member| (member.last_used, member.idle_until);
    assert_eq!(idle(&after), idle(&first), "to the peer it is idle");
    fixture.machine = before;
    fixture.now = now;
    assert!(fixture.machine.can_share(KEYS[0], 150), "2 ms still");
}

/// What is busy counts only if it is free before another one serves.
#[test]
fn long_requests_on_other_connections_are_not_waited_for() {
    let mut fixture = Fixture::with_pace();
    for _ in 0..16 {
        fixture.run(wanted(2));
        fixture.run(served(1, 2 * ANOTHER));
    }
    assert_eq!(fixture.run(wanted(2)), [assign(1, 2)]);
    assert_eq!(fixture.run(wanted(3)), [open()]);
}

/// At a limit only an event helps: to look again after a nanosecond, and again, would not.
#[test]
fn what_waits_for_room_is_not_looked_at_again_and_again() {
    let mut fixture = Fixture::with_pace();
    fixture.machine.limits.per_key = 1;
    fixture.run(wanted(2));
    fixture.run(wanted(3));
    fixture.after(2 * ANOTHER);
    let next = fixture.machine.deadline();
    assert!(next.is_none_or(|at| at > fixture.now + ANOTHER), "{next:?}");
}

/// A server that refuses one connection does not start afresh.
#[test]
fn what_is_known_of_a_server_outlasts_a_failed_opening() {
    let mut fixture = Fixture::with_pace();
    fixture.cut(1);
    assert_eq!(fixture.run(wanted(2)), [open()]);
    let failed = fixture.run(Event::OpenFailed);
    assert_eq!(failed, [Action::Fail(KEYS[0], w(2))]);
    fixture.after(IDLE - SECOND);
    assert!(fixture.machine.can_share(KEYS[0], 2));
    fixture.after(SECOND);
    assert!(!fixture.machine.can_share(KEYS[0], 2), "and not for ever");
}

/// Every order of events with a pace: no request waits without a time at which that is looked at.
#[test]
fn no_order_of_events_lets_a_request_wait_for_long() {
    let mut seen = 0;
    for limits in [limits(1, 1), limits(2, 2)] {
        let mut simulation = Simulation::new(limits, Instant::now());
        simulation.pace = Some((REQUEST, ANOTHER));
        seen += explore(simulation, |simulation, step| match step {
            Step::Want(key) => key == KEYS[1] || simulation.next >= 5,
            Step::Open(_, http) => http == HttpVersion::H2 || simulation.next >= 6,
            Step::Tick => simulation.ticks >= 2,
            Step::Wait => true,
            _ => simulation.next >= 6,
        });
    }
    println!("{seen} states with a pace");
    assert!(seen > 10_000, "only {seen} states were reached");
}
