//! Rounds: each contender has one turn per round; the first of a round is the last of the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, FutureExt};

use super::callers::Caller;

/// A client that is compared, with a caller for each of its tasks.
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    tasks: Vec<Box<dyn Task>>,
}

/// A caller of any type. The loop inside is monomorphic, so dynamic dispatch adds nothing to a
/// request.
trait Task: Send {
    /// Calls until `stop` is set; returns itself and the number of calls.
    fn run(self: Box<Self>, stop: Arc<AtomicBool>) -> BoxFuture<'static, (Box<dyn Task>, u64)>;

    fn describe(&mut self) -> BoxFuture<'_, String>;
}

impl<C: Caller> Task for C {
    fn run(mut self: Box<Self>, stop: Arc<AtomicBool>) -> BoxFuture<'static, (Box<dyn Task>, u64)> {
        async move {
            let mut calls = 0;
            while !stop.load(Ordering::Relaxed) {
                self.call().await;
                calls += 1;
            }
            (self as Box<dyn Task>, calls)
        }
        .boxed()
    }

    fn describe(&mut self) -> BoxFuture<'_, String> {
        Caller::describe(self).boxed()
    }
}

impl Contender {
    pub(crate) fn new<C: Caller>(name: &'static str, callers: impl IntoIterator<Item = C>) -> Self {
        let tasks = callers
            .into_iter()
            .map(|caller| Box::new(caller) as Box<dyn Task>);
        Self {
            name,
            tasks: tasks.collect(),
        }
    }

    /// Calls with all its tasks for this time.
    async fn run(&mut self, time: Duration) -> Turn {
        let stop = Arc::new(AtomicBool::new(false));
        let (started, busy_before) = (Instant::now(), processor_time());
        let tasks: Vec<_> = self
            .tasks
            .drain(..)
            .map(|task| tokio::spawn(task.run(stop.clone())))
            .collect();
        tokio::time::sleep(time).await;
        stop.store(true, Ordering::Relaxed);
        let mut calls = 0;
        for task in tasks {
            let (task, of_this_task) = task.await.expect("a call failed");
            self.tasks.push(task);
            calls += of_this_task;
        }
        Turn {
            per_second: calls as f64 / started.elapsed().as_secs_f64(),
            processor: processor_time().saturating_sub(busy_before).as_secs_f64() * 1e6
                / calls as f64,
        }
    }

    /// Its request as the server receives it.
    pub(crate) async fn describe(&mut self) -> String {
        match self.tasks.first_mut() {
            Some(task) => task.describe().await,
            None => String::new(),
        }
    }
}

/// The result of a contender in one round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    pub(crate) per_second: f64,
    /// Microseconds of processor time per call, of both ends.
    pub(crate) processor: f64,
}

/// Processor time of all threads of this process, as the kernel's scheduler counts it.
pub(crate) fn processor_time() -> Duration {
    let threads = std::fs::read_dir("/proc/self/task").expect("Linux");
    let time = |thread: std::io::Result<std::fs::DirEntry>| {
        // A thread that has ended meanwhile is not counted.
        let text = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    };
    Duration::from_nanos(threads.filter_map(time).sum())
}

/// The length of a measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Length {
    pub(crate) rounds: usize,
    pub(crate) turn: Duration,
}

/// Runs each contender's turn in each round. A turn before the first round opens the connections
/// and is not counted.
pub(crate) async fn race(contenders: &mut [Contender], length: Length) -> Vec<Vec<Turn>> {
    for contender in contenders.iter_mut() {
        contender.run(length.turn).await;
    }
    let mut turns = vec![Vec::new(); contenders.len()];
    for round in 0..length.rounds {
        for turn in 0..contenders.len() {
            let index = (round + turn) % contenders.len();
            turns[index].push(contenders[index].run(length.turn).await);
        }
    }
    turns
}

/// Fails unless the server receives the same request from all, apart from proofs; otherwise the
/// comparison would not be fair.
pub(crate) async fn assert_alike(contenders: &mut [Contender]) {
    let mut seen = Vec::new();
    for contender in contenders.iter_mut() {
        seen.push((contender.name, contender.describe().await));
    }
    for pair in seen.windows(2) {
        assert_eq!(
            pair[0].1, pair[1].1,
            "{} and {} do not send the same request",
            pair[0].0, pair[1].0
        );
    }
}
