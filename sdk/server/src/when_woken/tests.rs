use std::cell::Cell;
use std::future::poll_fn;

use futures_util::FutureExt;
use futures_util::task::noop_waker;
use tokio::sync::oneshot;

use super::*;

#[test]
fn it_is_polled_first_and_when_it_was_woken() {
    let polls = Cell::new(0);
    let (wake, mut woken) = oneshot::channel::<()>();
    let future = poll_fn(|cx| {
        polls.set(polls.get() + 1);
        woken.poll_unpin(cx)
    });
    let mut future = WhenWoken::new(future);
    let waker = noop_waker();
    let mut cx = Context::from_waker(&waker);
    for _ in 0..3 {
        assert!(future.poll_unpin(&mut cx).is_pending());
        assert_eq!(polls.get(), 1);
    }
    wake.send(()).unwrap();
    assert_eq!(future.poll_unpin(&mut cx), Poll::Ready(Ok(())));
    assert!(future.poll_unpin(&mut cx).is_pending());
    assert_eq!(polls.get(), 2);
}
