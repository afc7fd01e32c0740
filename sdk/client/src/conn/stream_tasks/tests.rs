use std::future::poll_fn;
use std::sync::atomic::AtomicUsize;

use futures_util::FutureExt;

use super::*;

/// Counts how often the task is woken.
#[derive(Default)]
struct Task(AtomicUsize);

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Task {
    fn step(self: &Arc<Self>, tasks: &mut StreamTasks) {
        let waker = self.clone().into();
        let mut cx = Context::from_waker(&waker);
        tasks.begin(&mut cx);
        tasks.poll();
        tasks.wait(&mut cx);
    }

    fn woken(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// A future that ends when it is told to, and counts how often it is polled.
#[derive(Default)]
struct Told {
    polls: AtomicUsize,
    is_over: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Told {
    fn future(self: &Arc<Self>) -> BoxFuture<'static, ()> {
        let told = self.clone();
        poll_fn(move |cx| {
            told.polls.fetch_add(1, Ordering::SeqCst);
            *lock(&told.waker) = Some(cx.waker().clone());
            match told.is_over.load(Ordering::SeqCst) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .boxed()
    }

    fn wake(&self) {
        lock(&self.waker).as_ref().unwrap().wake_by_ref();
    }

    fn polls(&self) -> usize {
        self.polls.load(Ordering::SeqCst)
    }
}

#[test]
fn each_is_polled_when_it_is_woken_and_no_other() {
    let (mut tasks, task) = (StreamTasks::default(), Arc::<Task>::default());
    let [a, b] = [Arc::<Told>::default(), Arc::default()];
    tasks.add(a.future());
    tasks.add(b.future());
    task.step(&mut tasks);
    assert_eq!((a.polls(), b.polls()), (1, 1));
    a.wake();
    a.wake();
    assert_eq!(task.woken(), 1);
    task.step(&mut tasks);
    assert_eq!((a.polls(), b.polls()), (2, 1));
    b.is_over.store(true, Ordering::SeqCst);
    b.wake();
    task.step(&mut tasks);
    assert!(!tasks.is_empty());
    a.is_over.store(true, Ordering::SeqCst);
    a.wake();
    task.step(&mut tasks);
    assert!(tasks.is_empty());
}

#[test]
fn a_place_is_used_again_and_an_old_waker_of_it_does_no_harm() {
    let (mut tasks, task) = (StreamTasks::default(), Arc::<Task>::default());
    let first = Arc::<Told>::default();
    first.is_over.store(true, Ordering::SeqCst);
    tasks.add(first.future());
    task.step(&mut tasks);
    let second = Arc::<Told>::default();
    tasks.add(second.future());
    assert_eq!(tasks.places.len(), 1);
    task.step(&mut tasks);
    first.wake();
    task.step(&mut tasks);
    assert_eq!((first.polls(), second.polls()), (1, 2));
}

#[test]
fn what_wakes_itself_while_it_is_polled_is_polled_again() {
    let (mut tasks, task) = (StreamTasks::default(), Arc::<Task>::default());
    let mut left = 3;
    let future = poll_fn(move |cx| {
        cx.waker().wake_by_ref();
        left -= 1;
        match left {
            0 => Poll::Ready(()),
            _ => Poll::Pending,
        }
    });
    tasks.add(future.boxed());
    for woken in 1..=2 {
        task.step(&mut tasks);
        assert_eq!(task.woken(), woken);
    }
    task.step(&mut tasks);
    assert!(tasks.is_empty());
}

#[test]
fn one_that_panics_is_dropped_and_the_others_go_on() {
    let (mut tasks, task) = (StreamTasks::default(), Arc::<Task>::default());
    let other = Arc::<Told>::default();
    tasks.add(async { panic!("the test makes this future panic") }.boxed());
    tasks.add(other.future());
    task.step(&mut tasks);
    assert_eq!(other.polls(), 1);
    assert_eq!(tasks.free.len(), 1);
}

#[test]
fn no_wake_up_from_another_thread_is_lost() {
    const TIMES: usize = 20_000;
    let (mut tasks, task) = (StreamTasks::default(), Arc::<Task>::default());
    let told = Arc::<Told>::default();
    tasks.add(told.future());
    task.step(&mut tasks);
    std::thread::scope(|scope| {
        let waking = scope.spawn(|| {
            for _ in 0..TIMES {
                told.wake();
            }
            told.is_over.store(true, Ordering::SeqCst);
            told.wake();
        });
        // The runtime: a step for each time that the task was woken.
        let mut seen = 0;
        while !waking.is_finished() || seen < task.woken() {
            if seen < task.woken() {
                seen = task.woken();
                task.step(&mut tasks);
            }
        }
    });
    assert!(tasks.is_empty(), "the last one was seen");
}
