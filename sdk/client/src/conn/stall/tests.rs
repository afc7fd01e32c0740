use std::future::poll_fn;
use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::conn::uploads::Upload;

const HEAD: Duration = Duration::from_secs(40);
const BODY: Duration = Duration::from_secs(80);

#[tokio::test(start_paused = true)]
async fn a_timer_is_set_while_a_request_is_not_all_written_and_goes_when_all_are() {
    let limits = SendLimits::new(HEAD, BODY);
    assert_eq!(limits.tick, HEAD / 4);
    let (wire, mut timer) = (WireState::default(), StallTimer::default());
    let mut step = async || {
        poll_fn(|cx| {
            timer.poll_h2(&wire, limits, cx);
            Poll::Ready(())
        })
        .await;
        timer.0.is_some()
    };
    assert!(!step().await, "there is no request");
    let upload = Arc::new(Upload::whole(Bytes::from_static(b"hello")));
    let unfinished = wire.uploads.add(upload.clone());
    assert!(step().await);
    let ticked = async || poll_fn(|cx| Poll::Ready(upload.poll_tick(cx).is_ready())).await;
    assert!(!ticked().await);
    tokio::time::sleep(limits.tick).await;
    assert!(step().await, "and again after it");
    assert!(ticked().await);
    drop(unfinished);
    assert!(step().await, "no request costs it");
    tokio::time::sleep(limits.tick).await;
    assert!(!step().await);
}
