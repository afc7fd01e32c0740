//! Blocking work that may hang, on tokio's blocking threads: never so much of it that it takes them all.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// Counts the jobs that have not ended, even those that nobody waits for any more. Clones count together.
#[derive(Clone, Debug)]
pub(crate) struct Workers(Arc<Semaphore>);

impl Workers {
    /// For so many jobs at a time.
    pub(crate) fn new(most: usize) -> Self {
        Self(Arc::new(Semaphore::new(most)))
    }

    /// Runs a job; `None` if as many are stuck, or if it panicked.
    pub(crate) async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let slot = self.0.clone().try_acquire_owned().ok()?;
        let working = tokio::task::spawn_blocking(move || {
            let _slot = slot;
            job()
        });
        working.await.ok()
    }
}
