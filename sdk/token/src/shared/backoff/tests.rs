use super::*;

fn delays(jitter: Jitter) -> [u128; 9] {
    let backoff = Backoff {
        first: Duration::from_millis(500),
        max: Duration::from_secs(30),
    };
    std::array::from_fn(|failures| backoff.delay(failures as u32, jitter).as_millis())
}

#[test]
fn delays_double_up_to_the_maximum_and_there_is_none_without_a_failure() {
    let full = [0, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000];
    assert_eq!(delays(Jitter::None), full);
    assert_eq!(delays(Jitter::Half(1.0)), full);
}

#[test]
fn jitter_leaves_out_half_of_a_delay_at_most() {
    let half = [0, 250, 500, 1000, 2000, 4000, 8000, 15_000, 15_000];
    assert_eq!(delays(Jitter::Half(0.0)), half);
    assert_eq!(delays(Jitter::Half(-7.0)), half);
    assert_eq!(delays(Jitter::Half(7.0)), delays(Jitter::None));
}

#[test]
fn no_number_of_failures_and_no_length_overflows() {
    let endless = Backoff {
        first: Duration::MAX,
        max: Duration::MAX,
    };
    assert_eq!(endless.delay(u32::MAX, Jitter::None), Duration::MAX);
    assert!(endless.delay(u32::MAX, Jitter::Half(0.5)) > Duration::from_secs(3600));
    let none = Backoff {
        first: Duration::ZERO,
        max: Duration::from_secs(60),
    };
    assert_eq!(none.delay(100, Jitter::None), Duration::ZERO);
    let long = Backoff {
        first: Duration::from_millis(u64::MAX),
        max: Duration::from_secs(60),
    };
    assert_eq!(long.delay(2, Jitter::None), Duration::from_secs(60));
}
