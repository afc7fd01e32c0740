use std::pin::pin;

use tokio::time::timeout;

use super::*;

const FIRST: Duration = Duration::from_secs(3);
const LATER: Duration = Duration::from_secs(10);

#[tokio::test(start_paused = true)]
async fn a_connection_without_a_request_is_idle_after_the_first_limit() {
    let begun = Instant::now();
    assert!(Activity::new().idle(FIRST, LATER).await);
    assert_eq!(begun.elapsed(), FIRST);
}

#[tokio::test(start_paused = true)]
async fn an_open_request_is_not_idle_however_long_it_takes() {
    let activity = Activity::new();
    activity.update(true, 1);
    let mut idle = pin!(activity.idle(FIRST, LATER));
    assert!(timeout(LATER * 1000, idle.as_mut()).await.is_err());
    assert_eq!(activity.idle_since(), None);
    let ended = Instant::now();
    activity.update(true, 0);
    assert_eq!(activity.idle_since(), Some(ended));
    assert!(!idle.await);
    assert_eq!(ended.elapsed(), LATER);
}

#[tokio::test(start_paused = true)]
async fn a_new_request_starts_the_wait_anew_and_a_repeated_update_does_not() {
    let activity = Activity::new();
    activity.update(true, 1);
    activity.update(true, 0);
    let begun = Instant::now();
    let mut idle = pin!(activity.idle(FIRST, LATER));
    assert!(timeout(LATER / 2, idle.as_mut()).await.is_err());
    activity.update(true, 1);
    activity.update(true, 0);
    assert!(timeout(LATER / 2, idle.as_mut()).await.is_err());
    activity.update(true, 0);
    idle.await;
    assert_eq!(begun.elapsed(), LATER / 2 + LATER);
}

#[tokio::test(start_paused = true)]
async fn a_frame_is_ready_from_when_it_is_given_until_another_one_is_asked_for() {
    let begun = Instant::now();
    let frames = Frames::new();
    tokio::time::advance(LATER).await;
    assert_eq!(
        frames.ready_since(1, begun),
        Some(begun),
        "no service tells"
    );
    frames.body_begins();
    assert_eq!(frames.ready_since(1, begun), None);
    let given = Instant::now();
    frames.frame_ready();
    tokio::time::advance(LATER).await;
    assert_eq!(frames.ready_since(1, begun), Some(given));
    frames.frame_taken();
    assert_eq!(frames.ready_since(1, begun), None);
    // The last frame is on its way.
    let ended = Instant::now();
    frames.body_ends();
    assert_eq!(frames.ready_since(1, begun), Some(ended));
    assert_eq!(frames.ready_since(0, begun), None);
    // Or a request has just come.
    tokio::time::advance(LATER).await;
    let now = Instant::now();
    assert_eq!(frames.ready_since(1, now), Some(now));
}
