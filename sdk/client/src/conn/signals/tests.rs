use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::Wake;

use super::*;

/// A task that counts how often it is woken.
#[derive(Default)]
struct Task(AtomicUsize);

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn poll(signals: &Signals, listener: &mut Listener, task: &Arc<Task>) -> Poll<u8> {
    signals.poll(listener, &mut Context::from_waker(&task.clone().into()))
}

#[test]
fn what_was_raised_before_anyone_asked_is_taken_once() {
    let (signals, mut listener, task) = (Signals::default(), Listener::default(), Arc::default());
    signals.raise(CLOSE);
    signals.raise(STREAMS_CHANGED);
    let taken = poll(&signals, &mut listener, &task);
    assert_eq!(taken, Poll::Ready(CLOSE | STREAMS_CHANGED));
    assert_eq!(poll(&signals, &mut listener, &task), Poll::Pending);
}

#[test]
fn each_raising_wakes_however_often_the_task_was_woken_before() {
    let (signals, mut listener) = (Signals::default(), Listener::default());
    let task = Arc::<Task>::default();
    for times in 1..=3 {
        assert_eq!(poll(&signals, &mut listener, &task), Poll::Pending);
        signals.raise(CLOSE);
        assert_eq!(task.0.load(Ordering::Relaxed), times);
        assert_eq!(poll(&signals, &mut listener, &task), Poll::Ready(CLOSE));
    }
}

#[test]
fn a_task_that_takes_over_is_the_one_that_is_woken() {
    let (signals, mut listener) = (Signals::default(), Listener::default());
    let [first, second] = [Arc::<Task>::default(), Arc::default()];
    assert_eq!(poll(&signals, &mut listener, &first), Poll::Pending);
    assert_eq!(poll(&signals, &mut listener, &second), Poll::Pending);
    signals.raise(CLOSE);
    let woken = [&first, &second].map(|task| task.0.load(Ordering::Relaxed));
    assert_eq!(woken, [0, 1]);
}
