//! Blocking work that may hang, on tokio's blocking threads: never so much of it that it takes them
//! all.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio::sync::Semaphore;

/// Counts the jobs that have not ended, even those that nobody waits for any more. Clones count
/// together.
#[derive(Clone, Debug)]
pub(crate) struct BlockingPool(Arc<Semaphore>);

impl BlockingPool {
    /// For so many jobs at a time.
    pub(crate) fn new(most: usize) -> Self {
        Self(Arc::new(Semaphore::new(most)))
    }

    /// Whether as many as may run have not ended.
    pub(crate) fn is_full(&self) -> bool {
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
