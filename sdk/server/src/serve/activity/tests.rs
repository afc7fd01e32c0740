use std::pin::pin;

use http_body_util::Full;
use tokio::time::Instant;

use super::*;

const FIRST: Duration = Duration::from_secs(3);
const LATER: Duration = Duration::from_secs(10);

#[tokio::test(start_paused = true)]
async fn a_connection_without_a_request_is_idle_after_the_first_limit() {
    let begun = Instant::now();
    Activity::new().idle(FIRST, LATER).await;
    assert_eq!(begun.elapsed(), FIRST);
}

#[tokio::test(start_paused = true)]
async fn a_request_counts_until_its_response_body_is_dropped() {
    let activity = Activity::new();
    let body = activity.begin().track(Full::new(bytes::Bytes::new()));
    let mut idle = pin!(activity.idle(FIRST, LATER));
    assert!(
        tokio::time::timeout(LATER * 10, idle.as_mut())
            .await
            .is_err()
    );
    let ended = Instant::now();
    drop(body);
    idle.await;
    assert_eq!(ended.elapsed(), LATER);
}

#[tokio::test(start_paused = true)]
async fn a_new_request_starts_the_wait_anew() {
    let activity = Activity::new();
    drop(activity.begin());
    let begun = Instant::now();
    let mut idle = pin!(activity.idle(FIRST, LATER));
    assert!(
        tokio::time::timeout(LATER / 2, idle.as_mut())
            .await
            .is_err()
    );
    drop(activity.begin());
    idle.await;
    assert_eq!(begun.elapsed(), LATER / 2 + LATER);
}
