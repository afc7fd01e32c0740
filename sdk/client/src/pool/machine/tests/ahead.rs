//! Opening ahead: when, and how often.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;
use crate::pool::machine::ahead::{Ahead, Allowed};

const AGE: Duration = Duration::from_secs(10);
const SECOND: Duration = Duration::from_secs(1);

fn ahead(per_key: usize, in_all: usize) -> Limits {
    Limits {
        ahead: true,
        ..limits(per_key, in_all)
    }
}

fn aged(per_key: usize, in_all: usize) -> Limits {
    Limits {
        age: Some(AGE),
        ..ahead(per_key, in_all)
    }
}

fn new(n: u64, took: Duration) -> NewConnection {
    NewConnection {
        id: c(n),
        http: HttpVersion::H2,
        streams: 100,
        until: None,
        took,
        jitter: 0,
    }
}

fn wanted(n: u64) -> Event {
    Event::Wanted(w(n), Resend::Allowed)
}

impl Fixture {
    /// The only connection, which took 100 ms to open, and is in use.
    fn in_use(limits: Limits) -> Self {
        let mut fixture = Fixture::new(limits);
        fixture.run(wanted(1));
        let opened = Event::Opened(new(1, SECOND / 10));
        assert_eq!(fixture.run(opened), [assign(1, 1)]);
        fixture
    }

    /// The connection is used until it is `age` old and the peer ends it, and the next one, whose
    /// number is returned, takes its place. 100 ms pass for that.
    fn end(&mut self, connection: u64, age: Duration, ending: Ending) -> u64 {
        self.after(age - SECOND / 10);
        self.run(Event::Released(c(connection), Use::Stream));
        let actions = self.run(Event::Closed(c(connection), ending));
        let next = connection + 1;
        self.after(SECOND / 10);
        if actions.is_empty() {
            self.run(wanted(1000 + next));
            self.run(Event::Opened(new(next, SECOND / 10)));
        } else {
            self.run(Event::OpenedAhead(new(next, SECOND / 10), c(connection)));
            self.run(wanted(1000 + next));
        }
        next
    }

    fn opened_ahead(actions: &[Action]) -> Vec<ConnectionId> {
        let old = |action: &Action| match action {
            Action::OpenAhead(_, old, _) => Some(*old),
            _ => None,
        };
        actions.iter().filter_map(old).collect()
    }
}

#[test]
fn before_its_age_a_connection_in_use_gets_a_successor_that_takes_over_when_it_is_ready() {
    let mut fixture = Fixture::in_use(aged(8, 8));
    // Opening took 100 ms, and so might signing: half as much again, and 10 ms.
    let lead = Duration::from_millis(310);
    assert_eq!(fixture.after(AGE - lead - SECOND / 100), []);
    let actions = fixture.after(SECOND / 100);
    assert_eq!(actions, [Action::OpenAhead(KEYS[0], c(1), lead)]);
    assert_eq!(
        fixture.run(Event::OpenedAhead(new(2, SECOND / 10), c(1))),
        []
    );
    assert_eq!(fixture.run(wanted(2)), [assign(1, 2)], "it is not ready");
    assert_eq!(fixture.run(Event::Ready(c(2), Some(SECOND / 10))), []);
    assert_eq!(fixture.run(wanted(3)), [assign(2, 3)], "it has taken over");
    fixture.run(Event::Released(c(1), Use::Stream));
    assert_eq!(
        fixture.run(Event::Released(c(1), Use::Stream)),
        [close(1, CloseReason::Age)],
        "the old one has finished its streams"
    );
}

#[test]
fn what_is_idle_gets_no_successor_until_it_is_used_again() {
    let mut fixture = Fixture::in_use(aged(8, 8));
    fixture.run(Event::Released(c(1), Use::Stream));
    assert_eq!(fixture.after(AGE - SECOND / 10), []);
    let actions = fixture.run(wanted(2));
    assert_eq!(actions[0], assign(1, 2));
    assert_eq!(Fixture::opened_ahead(&actions), [c(1)]);
}

#[test]
fn switched_off_nothing_is_opened_ahead() {
    let mut fixture = Fixture::in_use(Limits {
        ahead: false,
        ..aged(8, 8)
    });
    assert_eq!(fixture.after(AGE - SECOND / 10), []);
    assert_eq!(fixture.run(wanted(2)), [assign(1, 2)]);
    assert_eq!(fixture.run(Event::Closed(c(1), Ending::Goaway)), []);
}

#[test]
fn a_failed_opening_ahead_fails_no_request_and_is_not_tried_again() {
    let mut fixture = Fixture::in_use(aged(8, 8));
    assert_eq!(
        Fixture::opened_ahead(&fixture.after(AGE - SECOND / 10)),
        [c(1)]
    );
    assert_eq!(fixture.run(Event::OpenAheadFailed(c(1))), []);
    assert_eq!(fixture.run(wanted(2)), [assign(1, 2)]);
    assert_eq!(fixture.after(SECOND / 10), []);
    assert_eq!(fixture.run(wanted(3)), [open()], "its age is reached");
}

#[test]
fn a_request_that_waits_for_a_failed_opening_ahead_gets_an_opening_of_its_own() {
    let mut fixture = Fixture::in_use(aged(8, 8));
    fixture.after(AGE - SECOND / 10);
    fixture.run(Event::Closed(c(1), Ending::Other));
    assert_eq!(fixture.run(wanted(2)), [], "one is coming");
    assert_eq!(fixture.run(Event::OpenAheadFailed(c(1))), [open()]);
    let failed = Action::Fail(KEYS[0], w(2));
    assert_eq!(fixture.run(Event::OpenFailed), [failed]);
}

#[test]
fn a_request_that_finds_the_old_one_gone_takes_the_successor_as_it_is() {
    let mut fixture = Fixture::in_use(aged(8, 8));
    fixture.after(AGE - SECOND / 10);
    fixture.run(Event::OpenedAhead(new(2, SECOND / 10), c(1)));
    fixture.run(Event::Closed(c(1), Ending::Orderly));
    assert_eq!(fixture.run(wanted(2)), [assign(2, 2)]);
    assert_eq!(fixture.run(Event::Ready(c(2), None)), []);
    assert_eq!(fixture.run(wanted(3)), [assign(2, 3)]);
}

#[test]
fn goaway_on_a_connection_in_use_opens_at_once_and_on_an_idle_one_nothing() {
    let mut fixture = Fixture::in_use(ahead(8, 8));
    let actions = fixture.run(Event::Closed(c(1), Ending::Goaway));
    assert_eq!(Fixture::opened_ahead(&actions), [c(1)]);
    assert_eq!(fixture.run(wanted(2)), [], "it is coming");

    let mut fixture = Fixture::in_use(ahead(8, 8));
    fixture.run(Event::Released(c(1), Use::Stream));
    fixture.after(2 * SECOND);
    assert_eq!(fixture.run(Event::Closed(c(1), Ending::Goaway)), []);
}

#[test]
fn eight_ends_at_the_same_age_are_a_habit_and_it_is_forgotten_after_ten_minutes() {
    for ending in [Ending::Goaway, Ending::Orderly] {
        let mut fixture = Fixture::in_use(ahead(8, 8));
        let mut connection = 1;
        for _ in 0..7 {
            connection = fixture.end(connection, AGE, ending);
            assert_eq!(Fixture::opened_ahead(&fixture.after(SECOND)), []);
            fixture.now -= SECOND;
        }
        connection = fixture.end(connection, AGE, ending);
        fixture.after(SECOND);
        let (_, habit, ends) = fixture.machine.learned().next().unwrap();
        assert_eq!(ends, 8);
        assert!(
            habit
                .age
                .is_some_and(|age| age <= AGE && age > AGE - SECOND),
            "{habit:?}"
        );
        let actions = fixture.after(AGE - SECOND - SECOND * 4 / 10);
        assert_eq!(
            Fixture::opened_ahead(&actions),
            [c(connection)],
            "{ending:?}"
        );
        fixture.after(Duration::from_secs(600));
        assert_eq!(
            fixture.machine.learned().next().unwrap().1,
            Habit::default()
        );
    }
}

#[test]
fn an_end_that_nothing_proves_or_that_comes_early_is_no_habit() {
    for (age, ending) in [(AGE, Ending::Other), (4 * SECOND, Ending::Orderly)] {
        let mut fixture = Fixture::in_use(ahead(8, 8));
        let mut connection = 1;
        for _ in 0..20 {
            connection = fixture.end(connection, age, ending);
        }
        fixture.after(2 * SECOND);
        assert_eq!(
            fixture.machine.learned().next().unwrap().1,
            Habit::default()
        );
    }
}

#[test]
fn eight_ends_after_the_same_number_of_requests_are_a_habit() {
    let mut fixture = Fixture::in_use(ahead(8, 8));
    let (mut waiter, mut connection) = (1000, 1);
    // Ever slower: it is not the age.
    for seconds in 6..14 {
        fixture.run(Event::Released(c(connection), Use::Stream));
        for _ in 1..100 {
            waiter += 1;
            fixture.after(Duration::from_secs(3 * seconds) / 100);
            assert_eq!(fixture.run(wanted(waiter)), [assign(connection, waiter)]);
            fixture.run(Event::Released(c(connection), Use::Stream));
        }
        fixture.run(Event::Closed(c(connection), Ending::Orderly));
        waiter += 1;
        assert_eq!(fixture.run(wanted(waiter)), [open()]);
        connection += 1;
        fixture.run(Event::Opened(new(connection, SECOND / 10)));
    }
    fixture.after(SECOND);
    let habit = fixture.machine.learned().next().unwrap().1;
    assert_eq!((habit.requests, habit.age), (Some(100), None));
    let mut carried = 1;
    loop {
        fixture.after(SECOND / 10);
        fixture.run(Event::Released(c(connection), Use::Stream));
        waiter += 1;
        carried += 1;
        let actions = fixture.run(wanted(waiter));
        if Fixture::opened_ahead(&actions) == [c(connection)] {
            break;
        }
        assert!(carried < 99, "it would have ended");
    }
    // Ten a second, and a third of a second for the successor.
    assert!(carried >= 94, "{carried}");
}

#[test]
fn a_spare_connection_is_replaced_by_the_rate_at_which_requests_come_now() {
    let mut fixture = Fixture::new(ahead(8, 8));
    fixture.run(wanted(1));
    fixture.run(Event::Opened(NewConnection {
        http: HttpVersion::H1,
        streams: 1,
        ..new(1, SECOND)
    }));
    fixture.run(Event::Left(c(1), 99));
    fixture.run(Event::Released(c(1), Use::Stream));
    fixture.after(60 * SECOND);
    let mut carried = 1;
    loop {
        fixture.after(SECOND / 10);
        carried += 1;
        let actions = fixture.run(wanted(carried));
        if Fixture::opened_ahead(&actions) == [c(1)] {
            break;
        }
        assert!(carried < 100, "it would have ended");
        fixture.run(Event::Released(c(1), Use::Stream));
    }
    // Ten a second, and three seconds for the successor; by its whole life it would be four requests.
    assert!(carried <= 70, "{carried}");
}

#[test]
fn what_a_burst_left_over_gets_no_successor() {
    let mut fixture = Fixture::new(ahead(8, 8));
    // With this key the lead is longer than half of a life.
    let slow = |n| {
        Event::Opened(NewConnection {
            http: HttpVersion::H1,
            streams: 1,
            ..new(n, 2 * SECOND)
        })
    };
    let life = 8 * SECOND;
    for n in 1..=8 {
        fixture.run(wanted(n));
        fixture.run(slow(n));
        fixture.after(life);
        fixture.run(Event::Closed(c(n), Ending::Orderly));
        fixture.after(2 * SECOND);
    }
    let habit = fixture.machine.learned().next().unwrap().1;
    assert_eq!(habit.age, Some(life));
    for n in 9..=10 {
        assert_eq!(fixture.run(wanted(n)), [open()]);
    }
    fixture.run(slow(9));
    assert_eq!(
        fixture.run(Event::Released(c(9), Use::Stream)),
        [assign(9, 10)],
        "the other one comes too late"
    );
    fixture.run(slow(10));
    let actions: Vec<_> = (0..16).flat_map(|_| fixture.after(life / 16)).collect();
    assert_eq!(Fixture::opened_ahead(&actions), [c(9)]);
}

/// Their openings ahead count for a minute, so they do too.
#[test]
fn connections_that_have_ended_count_for_the_bound_of_the_minute() {
    let (mut ahead, start) = (Ahead::default(), Instant::now());
    for _ in 0..25 {
        assert_eq!(ahead.ask(start, 3), Allowed::Yes);
    }
    for _ in 25..30 {
        assert_eq!(ahead.ask(start + SECOND, 1), Allowed::Yes);
    }
    assert_eq!(ahead.ask(start + SECOND, 1), Allowed::Stops);

    let later = start + 62 * SECOND;
    for _ in 0..10 {
        assert_eq!(ahead.ask(later, 1), Allowed::Yes);
    }
    assert_eq!(ahead.ask(later, 1), Allowed::Stops, "a minute later");
}

/// The first connection that is replaced ahead is replaced in time, too.
#[test]
fn the_proofs_that_the_last_connection_had_tell_the_lead_too() {
    let mut fixture = Fixture::in_use(ahead(8, 8));
    let margin = SECOND / 100;
    let lead = |fixture: &Fixture| fixture.machine.lead(KEYS[0]);
    assert_eq!(lead(&fixture), (SECOND / 10 * 2) * 3 / 2 + margin);
    fixture.machine.proofs_would_take(KEYS[0], SECOND);
    assert_eq!(lead(&fixture), (SECOND / 10 + SECOND) * 3 / 2 + margin);
    fixture.run(Event::Ready(c(1), Some(SECOND / 5)));
    assert_eq!(lead(&fixture), (SECOND / 10 + SECOND) * 3 / 2 + margin);
    fixture.run(Event::Ready(c(1), Some(2 * SECOND)));
    assert_eq!(lead(&fixture), (SECOND / 10 + 2 * SECOND) * 3 / 2 + margin);
}

/// Where there are two the server could find the new one idle, and end it.
#[test]
fn a_successor_that_takes_over_takes_the_next_request() {
    let mut fixture = Fixture::new(Limits {
        age: Some(AGE),
        ..ahead(8, 8)
    });
    let h1 = |n| NewConnection {
        http: HttpVersion::H1,
        streams: 1,
        ..new(n, SECOND / 10)
    };
    for n in 1..=2 {
        fixture.run(wanted(n));
        fixture.run(Event::Opened(h1(n)));
    }
    // Both go on, the second a second later.
    fixture.after(AGE / 2);
    fixture.run(Event::Released(c(1), Use::Stream));
    fixture.run(Event::Closed(c(1), Ending::Other));
    fixture.run(wanted(3));
    fixture.run(Event::Opened(h1(3)));
    let actions = fixture.after(AGE / 2 - SECOND / 4);
    assert_eq!(Fixture::opened_ahead(&actions), [c(2)]);
    fixture.run(Event::OpenedAhead(h1(4), c(2)));
    fixture.run(Event::Released(c(3), Use::Stream));
    fixture.run(Event::Released(c(2), Use::Stream));
    fixture.run(Event::Ready(c(4), None));
    assert_eq!(fixture.run(wanted(4)), [assign(4, 4)]);
}

/// With one second to be idle, a connection that was idle for half of it is about to be closed.
#[test]
fn what_is_soon_closed_as_idle_gets_no_successor() {
    let opens = |idle| {
        let mut fixture = Fixture::in_use(Limits {
            idle: SECOND,
            ..aged(8, 8)
        });
        fixture.after(AGE - SECOND / 4 - idle);
        fixture.run(Event::Released(c(1), Use::Stream));
        Fixture::opened_ahead(&fixture.after(idle))
    };
    assert_eq!(opens(SECOND / 5), [c(1)]);
    assert_eq!(opens(SECOND / 2), []);
}

#[test]
fn a_deployment_is_no_habit_and_opens_nothing_ahead() {
    let mut fixture = Fixture::new(ahead(8, 8));
    let mut opened = 0;
    for round in 0..10 {
        for n in 0..4 {
            fixture.run(wanted(round * 10 + n));
        }
        let first = opened + 1;
        for n in 0..4 {
            opened += 1;
            fixture.run(Event::Opened(NewConnection {
                http: HttpVersion::H1,
                streams: 1,
                ..new(first + n, SECOND / 10)
            }));
        }
        fixture.after(AGE);
        for n in 0..4 {
            let actions = fixture.run(Event::Closed(c(first + n), Ending::Goaway));
            assert_eq!(actions, []);
        }
        fixture.after(SECOND);
    }
    assert_eq!(
        fixture.machine.learned().next().unwrap().1,
        Habit::default()
    );
}

#[test]
fn keep_alive_max_is_known_before_any_habit() {
    let mut fixture = Fixture::new(ahead(8, 8));
    fixture.run(wanted(1));
    fixture.run(h1(1));
    fixture.after(SECOND);
    assert_eq!(fixture.run(Event::Left(c(1), 100)), []);
    let actions = fixture.run(Event::Left(c(1), 1));
    assert_eq!(Fixture::opened_ahead(&actions), [c(1)]);
}

#[test]
fn ten_a_minute_are_opened_ahead_and_then_none_for_a_minute() {
    let mut fixture = Fixture::in_use(ahead(8, 8));
    let mut at = Vec::new();
    let started = fixture.now;
    for connection in 1..=1000 {
        fixture.after(SECOND / 2);
        let actions = fixture.run(Event::Left(c(connection), 1));
        let is_ahead = !Fixture::opened_ahead(&actions).is_empty();
        let stops = actions == [Action::StopAhead(KEYS[0])];
        assert!(!stops || at.len() % 10 == 0, "stopped after {}", at.len());
        if is_ahead {
            at.push(fixture.now - started);
            fixture.run(Event::OpenedAhead(
                new(connection + 1, SECOND / 10),
                c(connection),
            ));
            fixture.run(Event::Ready(c(connection + 1), None));
        }
        fixture.run(Event::Released(c(connection), Use::Stream));
        fixture.run(Event::Closed(c(connection), Ending::Orderly));
        let actions = fixture.run(wanted(1000 + connection));
        if !is_ahead {
            assert_eq!(actions, [open()]);
            fixture.run(Event::Opened(new(connection + 1, SECOND / 10)));
        }
    }
    // In 500 s: ten at once, and so again after each minute's pause.
    assert!(
        at.windows(11)
            .all(|eleven| eleven[10] - eleven[0] > 60 * SECOND),
        "{at:?}"
    );
    assert!((60..=90).contains(&at.len()), "{}", at.len());
}

#[test]
fn a_stale_idle_connection_is_not_trusted_with_what_cannot_be_sent_again() {
    let mut fixture = Fixture::in_use(ahead(8, 8));
    fixture.run(Event::Released(c(1), Use::Stream));
    let mut connection = 1;
    for _ in 0..8 {
        fixture.after(AGE);
        fixture.run(Event::Closed(c(connection), Ending::Orderly));
        fixture.run(wanted(1000 + connection));
        connection += 1;
        fixture.run(Event::Opened(new(connection, SECOND / 10)));
        fixture.run(Event::Released(c(connection), Use::Stream));
    }
    fixture.after(SECOND);
    assert_eq!(fixture.machine.learned().next().unwrap().1.idle, Some(AGE));
    let once = |n| Event::Wanted(w(n), Resend::Never);
    assert_eq!(
        fixture.run(once(1)),
        [assign(connection, 1)],
        "not idle for long"
    );
    fixture.run(Event::Released(c(connection), Use::Stream));
    fixture.after(AGE + SECOND);
    let mut repeatable = fixture.machine.clone();
    let mut actions = Vec::new();
    repeatable.handle(fixture.now, KEYS[0], wanted(2), |_| false, &mut actions);
    assert_eq!(actions, [assign(connection, 2)]);

    assert_eq!(fixture.run(once(3)), [open(), Action::Distrust(KEYS[0])]);
    let mut failing = fixture.machine.clone();
    let mut actions = Vec::new();
    failing.handle(
        fixture.now,
        KEYS[0],
        Event::OpenFailed,
        |_| false,
        &mut actions,
    );
    assert_eq!(actions, [assign(connection, 3)], "no other is to be had");

    let opened = Event::Opened(new(connection + 1, SECOND / 10));
    assert_eq!(fixture.run(opened), [assign(connection + 1, 3)]);
}

/// Every order of events with opening ahead: four requests, four connections, three deadlines.
fn explore_ahead(limits: Limits) -> usize {
    explore_from(Simulation::new(limits, Instant::now()), 4, 3)
}

/// Requests and connections are numbered together.
fn explore_from(simulation: Simulation, requests: u64, ticks: u32) -> usize {
    explore(simulation, |simulation, step| match step {
        Step::Want(key) | Step::Open(key, _) if key == KEYS[1] => true,
        Step::Want(_) => simulation.next >= requests,
        Step::Tick => simulation.ticks >= ticks,
        // The exploration without openings ahead has all of these.
        Step::Wait | Step::Vanish(_) | Step::Return(_) | Step::Die(_) => true,
        _ => simulation.next >= requests + 2,
    })
}

#[test]
fn no_order_of_events_opens_ahead_what_must_not_be_opened() {
    let seen: usize = [aged(1, 1), aged(1, 2), aged(2, 2)]
        .into_iter()
        .map(explore_ahead)
        .sum();
    println!("{seen} states with openings ahead");
    assert!(seen > 10_000, "only {seen} states were reached");
}

/// The second key is the same origin with another certificate.
#[test]
fn no_order_of_events_opens_too_much_for_a_certificate_that_is_about_to_expire() {
    let mut simulation = Simulation::new(ahead(1, 2), Instant::now());
    simulation.certificate = Some(AGE);
    let seen = explore_from(simulation, 3, 3);
    println!("{seen} states with certificates that expire");
    assert!(seen > 10_000, "only {seen} states were reached");
}

#[test]
fn before_a_certificate_in_use_expires_the_key_of_another_one_gets_a_connection() {
    let expiring = || {
        let mut fixture = Fixture::new(ahead(8, 8));
        fixture.run(wanted(1));
        fixture.run(Event::Opened(NewConnection {
            until: Some(fixture.now + AGE),
            ..new(1, SECOND / 10)
        }));
        fixture
    };
    let mut fixture = expiring();
    let lead = Duration::from_millis(310);
    assert_eq!(fixture.after(AGE - lead - SECOND / 100), []);
    let told = [Action::Expires(KEYS[0], c(1))];
    assert_eq!(fixture.after(SECOND / 100), told);
    assert_eq!(fixture.after(SECOND / 100), [], "once");
    let actions = fixture.key(KEYS[1], Event::Expected(c(1)));
    assert_eq!(Fixture::opened_ahead(&actions), [c(1)]);
    assert_eq!(fixture.key(KEYS[1], Event::Expected(c(1))), [], "it opens");
    let opened = Event::OpenedAhead(new(2, SECOND / 10), c(1));
    assert_eq!(fixture.key(KEYS[1], opened), []);
    let assigned = Action::Assign(KEYS[1], c(2), w(2));
    assert_eq!(fixture.key(KEYS[1], wanted(2)), [assigned]);
    assert_eq!(fixture.run(wanted(3)), [assign(1, 3)], "it is valid");

    let mut idle = expiring();
    idle.run(Event::Released(c(1), Use::Stream));
    assert_eq!(idle.after(AGE - SECOND / 10), []);
    let actions = idle.run(wanted(2));
    assert_eq!(actions, [assign(1, 2), told[0]], "used again");
}

#[test]
fn the_exploration_notices_a_broken_rule() {
    for rule in [Rule::OneSuccessor, Rule::InUse] {
        let broken = Limits {
            broken: Some(rule),
            ..aged(3, 3)
        };
        let explored = catch_unwind(AssertUnwindSafe(|| explore_ahead(broken)));
        assert!(
            explored.is_err(),
            "{rule:?} was broken, and nothing noticed"
        );
    }
}

/// Twelve connections in use that end one after the other within a minute, each by GOAWAY.
fn goaways(limits: Limits) {
    let mut simulation = Simulation::new(limits, Instant::now());
    for _ in 0..12 {
        simulation.step(Step::Want(KEYS[0]));
        if simulation.openings.values().sum::<usize>() > 0 {
            simulation.step(Step::Open(KEYS[0], HttpVersion::H1));
        }
        let (&connection, _) = simulation.live.last_key_value().expect("the request's");
        simulation.step(Step::Finish(connection));
        simulation.now += SECOND;
        simulation.step(Step::End(connection, Ending::Goaway));
        // A second later nothing is known of this end that could make the next one a deployment.
        simulation.now += SECOND;
        if simulation.ahead.contains(&(connection, KEYS[0])) {
            simulation.step(Step::OpenAhead(connection, KEYS[0]));
            simulation.step(Step::Ready(c(simulation.next)));
        }
    }
}

#[test]
fn a_trace_of_goaways_notices_that_the_bound_is_broken() {
    goaways(ahead(3, 3));
    let broken = Limits {
        broken: Some(Rule::Bound),
        ..ahead(3, 3)
    };
    assert!(catch_unwind(AssertUnwindSafe(|| goaways(broken))).is_err());
}

/// Random traces of one key, long enough for the bound on openings a minute.
fn trace(limits: Limits, picks: &[prop::sample::Index]) {
    let mut simulation = Simulation::new(limits, Instant::now());
    for pick in picks {
        let mut steps = simulation.steps();
        steps.retain(|step| match step {
            Step::Want(key) => *key == KEYS[0] && simulation.waiting.len() < 3,
            Step::Wait => false,
            _ => true,
        });
        let step = steps[pick.index(steps.len())];
        simulation.step(step);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn long_random_event_sequences_keep_the_rules_of_opening_ahead(
        per_key in 1usize..5,
        in_all in 1usize..6,
        age in 1u64..60,
        picks in prop::collection::vec(any::<prop::sample::Index>(), 0..400),
    ) {
        let age = Some(Duration::from_secs(age));
        trace(Limits { age, ..ahead(per_key, in_all) }, &picks);
    }
}
