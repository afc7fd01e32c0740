//! Blocking work that may hang, on tokio's blocking threads: never so much of it that it takes them
//! all.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// Counts the jobs that have not ended, even those that nobody waits for any more. Clones count
/// together.
#[derive(Clone, Debug)]
pub(crate) struct Workers(Arc<Semaphore>);

impl Workers {
    /// For so many jobs at a time.
    pub(crate) fn new(most: usize) -> Self {
        Self(Arc::new(Semaphore::new(most)))
    }

    /// Whether as many as may run have not ended.
    pub(crate) fn are_busy(&self) -> bool {
        self.0.available_permits() == 0
    }

    /// Runs a job, when there is a place for it; `None` if it panicked.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        // The semaphore is never closed.
        let slot = self.0.clone().acquire_owned().await.ok()?;
        let working = tokio::task::spawn_blocking(move || {
            let _slot = slot;
            job()
        });
        working.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};

    use super::*;

    #[tokio::test]
    async fn more_jobs_than_may_run_wait_for_their_turn() {
        let (open, door) = mpsc::channel();
        let (workers, door) = (Workers::new(2), Arc::new(Mutex::new(door)));
        let jobs: Vec<_> = (0..5)
            .map(|n| {
                let (workers, door) = (workers.clone(), door.clone());
                let pass = move || door.lock().unwrap().recv().map(|()| n).unwrap();
                tokio::spawn(async move { workers.run(pass).await })
            })
            .collect();
        // All are asked while the door is shut.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        for _ in &jobs {
            open.send(()).unwrap();
        }
        for (n, job) in jobs.into_iter().enumerate() {
            assert_eq!(job.await.unwrap(), Some(n));
        }
    }

    #[tokio::test]
    async fn a_job_that_panics_gives_its_place_back() {
        let workers = Workers::new(1);
        assert_eq!(
            workers.run(|| panic!("as the test wants")).await,
            None::<()>
        );
        assert_eq!(workers.run(|| 1).await, Some(1));
    }
}
