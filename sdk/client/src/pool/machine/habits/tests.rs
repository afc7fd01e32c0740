use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn end(age: u64, requests: u64) -> End {
    End {
        age: Duration::from_secs(age),
        requests,
        idle: Duration::ZERO,
        is_goaway: false,
    }
}

/// The habit after these ends, each on its own.
fn learned(ends: impl IntoIterator<Item = End>) -> Habit {
    let (mut habits, mut now) = (Habits::default(), Instant::now());
    for end in ends {
        now += 2 * SECOND;
        habits.add(now, end, 1);
    }
    habits.settle(now + 2 * SECOND);
    habits.habit()
}

#[test]
fn a_low_quantile_of_the_last_sixteen_is_learned() {
    let ages = (0..40).map(|n| end(100 + n, 7 * n * n));
    assert_eq!(
        learned(ages).age,
        Some(125 * SECOND),
        "the second lowest of 124..=139"
    );
    let ages = (0..8).map(|n| end(100 + n, 7 * n * n));
    assert_eq!(learned(ages).age, Some(100 * SECOND), "the lowest of eight");
    let ages = (0..7).map(|n| end(100 + n, 7 * n * n));
    assert_eq!(learned(ages), Habit::default(), "too few");
}

#[test]
fn of_age_and_requests_it_is_what_varies_less_and_neither_if_both_vary_much() {
    let steady = learned((0..8).map(|n| end(10 + n, 1000)));
    assert_eq!((steady.requests, steady.age), (Some(1000), None));
    let aged = learned((0..8).map(|n| end(10, 1000 + n)));
    assert_eq!((aged.requests, aged.age), (None, Some(10 * SECOND)));
    let neither = learned((0..8).map(|n| end(10 + 100 * n, 10 + 100 * n)));
    assert_eq!(neither, Habit::default());
}

#[test]
fn a_life_below_five_seconds_is_not_acted_on() {
    assert_eq!(learned((0..16).map(|_| end(4, 1000))), Habit::default());
    let idle = |seconds| {
        learned((0..16).map(|_| End {
            idle: seconds * SECOND,
            ..end(100, 5)
        }))
    };
    assert_eq!(idle(4), Habit::default());
    assert_eq!(idle(5).idle, Some(5 * SECOND));
}

#[test]
fn ends_that_come_together_do_not_count_unless_most_connections_stay_or_their_age_is_one() {
    // Ends of so many connections, whose ages are so many seconds apart.
    let learned = |together: u64, apart: u64, open: usize, is_goaway: bool| {
        let (mut habits, mut now) = (Habits::default(), Instant::now());
        for _ in 0..16 {
            now += 2 * SECOND;
            for n in 0..together {
                let end = End {
                    is_goaway,
                    ..end(10 + apart * n, 1000)
                };
                habits.add(now, end, open);
            }
        }
        habits.settle(now + 2 * SECOND);
        (habits.in_use.0.len(), habits.habit().age)
    };
    let tenth = Some(10 * SECOND);
    assert_eq!(learned(1, 0, 1, true), (16, tenth));
    assert_eq!(learned(2, 3, 2, false), (0, None), "a deployment");
    assert_eq!(learned(40, 3, 64, false), (0, None));
    assert_eq!(
        learned(2, 0, 2, false),
        (16, tenth),
        "one observation each time"
    );
    assert_eq!(learned(2, 0, 64, false).1, tenth, "most stay");
    assert_eq!(learned(2, 0, 64, true), (0, None), "GOAWAY on two at once");
    assert_eq!(learned(2, 0, 2, true), (0, None));
}

#[test]
fn what_is_kept_is_bounded() {
    let (mut habits, now) = (Habits::default(), Instant::now());
    for n in 0..10_000 {
        habits.add(now + n * SECOND / 10_000, end(10, 10), 10_000);
    }
    assert!(
        habits
            .recent
            .as_ref()
            .is_some_and(|recent| recent.ends.len() <= KEPT)
    );
    let ends = learned((0..10_000).map(|_| end(10, 10)));
    assert_eq!(ends.age, Some(10 * SECOND));
}
