use super::*;

fn pauses(random: f64) -> [u128; 9] {
    std::array::from_fn(|n| {
        RetryPolicy::default()
            .pause(n as u32, None, random)
            .as_millis()
    })
}

#[test]
fn the_first_attempt_has_no_pause_and_pauses_double_up_to_the_maximum() {
    assert_eq!(
        pauses(1.0),
        [0, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]
    );
    assert_eq!(
        pauses(0.0),
        [0, 250, 500, 1000, 2000, 4000, 8000, 15_000, 15_000]
    );
    let endless = RetryPolicy {
        first_pause: Duration::MAX,
        max_pause: Duration::MAX,
        ..RetryPolicy::default()
    };
    assert!(endless.pause(u32::MAX, None, 0.5) > MAX_RETRY_AFTER);
}

#[test]
fn retry_after_applies_from_the_first_attempt_and_for_an_hour_at_most() {
    let pause = |seconds| RetryPolicy::default().pause(0, Some(Duration::from_secs(seconds)), 1.0);
    assert_eq!(pause(7), Duration::from_secs(7));
    assert_eq!(pause(1_000_000), Duration::from_secs(3600));
    let shorter = RetryPolicy::default().pause(3, Some(Duration::from_secs(1)), 1.0);
    assert_eq!(shorter, Duration::from_secs(2));
}
