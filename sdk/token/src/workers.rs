//! Blocking work that may hang, on tokio's blocking threads: never so much of it that it takes them all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts the jobs that have not ended, even those that nobody waits for any more. Clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Workers(Arc<AtomicUsize>);

impl Workers {
    /// Runs a job; `None` if `most` are under way already, or if it panicked.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        most: usize,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let place = Place::take(&self.0, most)?;
        let working = tokio::task::spawn_blocking(move || {
            let _place = place;
            job()
        });
        working.await.ok()
    }
}

struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(taken: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        let next = |now| (now < most).then_some(now + 1);
        taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next).ok()?;
        Some(Self(taken.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[tokio::test]
    async fn jobs_that_hang_are_counted_until_they_end_and_clones_are_not() {
        let workers = Workers::default();
        let clones: Vec<_> = (0..100).map(|_| workers.clone()).collect();
        let (release, hangs) = channel::<()>();
        let (started, mut starts) = tokio::sync::mpsc::unbounded_channel();
        let hanging = workers.clone();
        let job = tokio::spawn(async move {
            let job = move || {
                started.send(()).unwrap();
                hangs.recv().is_err()
            };
            hanging.run(1, job).await
        });
        starts.recv().await.unwrap();
        // Who asked for it has gone, and it goes on.
        job.abort();
        assert!(job.await.is_err());
        assert_eq!(clones[7].run(1, || 1).await, None);
        assert_eq!(clones[7].run(2, || 2).await, Some(2));
        drop(release);
        while workers.0.load(Ordering::SeqCst) > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(workers.run(1, || 3).await, Some(3));
        assert_eq!(workers.run(1, || panic!("as the test wants")).await, None::<()>);
        assert_eq!(workers.run(1, || 4).await, Some(4));
    }
}
