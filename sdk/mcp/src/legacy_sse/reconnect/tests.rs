use super::*;

fn pauses(reconnects: &mut Reconnects, retry: Option<u64>) -> Vec<u128> {
    let retry = retry.map(Duration::from_millis);
    std::iter::from_fn(|| reconnects.next_pause(retry))
        .map(|pause| pause.as_millis())
        .collect()
}

#[test]
fn pauses_double_up_to_a_minute_and_end() {
    assert_eq!(
        pauses(&mut Reconnects::new(8), None),
        [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]
    );
    assert_eq!(pauses(&mut Reconnects::new(3), Some(250)), [250, 500, 1000]);
    assert_eq!(
        pauses(&mut Reconnects::new(2), Some(u64::MAX)),
        [60_000, 60_000]
    );
    assert_eq!(pauses(&mut Reconnects::new(100), Some(0)), [0; 100]);
    assert!(pauses(&mut Reconnects::new(0), None).is_empty());
}

#[test]
fn only_an_answered_request_or_a_stream_that_lasted_resets_the_count() {
    let mut reconnects = Reconnects::new(2);
    pauses(&mut reconnects, None);
    reconnects.stream_ended(STEADY - Duration::from_millis(1));
    assert!(pauses(&mut reconnects, None).is_empty());
    reconnects.stream_ended(STEADY);
    assert_eq!(pauses(&mut reconnects, None).len(), 2);
    reconnects.reset();
    assert_eq!(pauses(&mut reconnects, None).len(), 2);
}
