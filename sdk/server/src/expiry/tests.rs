use tokio::time::Instant;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_certificate_is_past_in_the_first_second_after_its_not_after_even_if_the_clock_jumps() {
    let begun = Instant::now();
    let clock = move || {
        let elapsed = begun.elapsed().as_secs();
        // After an hour the clock is set forward by a year.
        let ahead = if elapsed >= 3600 { 365 * 86_400 } else { 0 };
        UnixTime::since_unix_epoch(Duration::from_secs(1_000 + elapsed + ahead))
    };
    wait_past(
        UnixTime::since_unix_epoch(Duration::from_secs(1_090)),
        clock,
    )
    .await;
    assert_eq!(begun.elapsed(), Duration::from_secs(91));
    wait_past(
        UnixTime::since_unix_epoch(Duration::from_secs(1_000_000)),
        clock,
    )
    .await;
    assert_eq!(
        begun.elapsed().as_secs() / 60,
        60,
        "noticed within a minute of the jump"
    );
}
