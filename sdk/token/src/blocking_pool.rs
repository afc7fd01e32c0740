//! Blocking work that may hang, on tokio's blocking threads, with a limit: so that a file system or
//! a key that hangs cannot exhaust them.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio::sync::Semaphore;

/// Counts the jobs that have not ended, also those whose caller has been cancelled. Clones share
/// the count.
#[derive(Clone, Debug)]
pub(crate) struct BlockingPool(Arc<Semaphore>);

impl BlockingPool {
    /// A pool of at most `max` jobs at a time.
    pub(crate) fn new(max: usize) -> Self {
        Self(Arc::new(Semaphore::new(max)))
    }

    /// Whether another job would have to wait.
    pub(crate) fn is_full(&self) -> bool {
        self.0.available_permits() == 0
    }

    /// Runs a job, as soon as fewer than the maximum are running. `None` if it panicked.
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
