use std::time::Duration;

use futures_util::task::noop_waker_ref;

use super::*;

fn given(body: &'static [u8], stream: u32) -> Arc<Upload> {
    let upload = Upload::whole(Bytes::from_static(body));
    upload.set_stream(stream);
    upload.read(&Bytes::from_static(body)).unwrap();
    Arc::new(upload)
}

#[test]
fn a_request_is_in_the_list_until_all_of_it_is_written_or_it_is_given_up() {
    let uploads = Uploads::default();
    let [first, second] = [1, 3].map(|stream| given(b"hello", stream));
    let (written, given_up) = (uploads.add(first), uploads.add(second));
    uploads.finish(1);
    drop(written);
    assert!(!uploads.is_empty());
    uploads.wrote(3, 2);
    assert!(!uploads.is_empty());
    drop(given_up);
    assert!(uploads.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_body_waits_since_its_last_part_was_written() {
    const LATER: Duration = Duration::from_secs(1);
    let (uploads, upload) = (Uploads::default(), given(b"hello", 1));
    let _unfinished = uploads.add(upload.clone());
    uploads.stamp(|_| true);
    let begun = Instant::now();
    assert_eq!(upload.blocked_since(), Some(begun));
    tokio::time::advance(LATER).await;
    uploads.wrote(1, 3);
    uploads.stamp_moved();
    tokio::time::advance(LATER).await;
    assert_eq!(upload.blocked_since(), Some(begun + LATER));
    uploads.wrote(1, 2);
    assert_eq!(upload.blocked_since(), None, "hyper has no more of it");
}

#[test]
fn a_tick_is_seen_once_by_each_request_that_is_in_the_list() {
    let (uploads, upload) = (Uploads::default(), given(b"hello", 1));
    let _unfinished = uploads.add(upload.clone());
    let mut cx = Context::from_waker(noop_waker_ref());
    assert_eq!(upload.poll_tick(&mut cx), Poll::Pending);
    uploads.tick();
    assert_eq!(upload.poll_tick(&mut cx), Poll::Ready(()));
    assert_eq!(upload.poll_tick(&mut cx), Poll::Pending);
    uploads.finish(1);
    uploads.tick();
    assert_eq!(upload.poll_tick(&mut cx), Poll::Pending);
}
