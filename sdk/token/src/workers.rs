//! Blocking work that may hang, on tokio's blocking threads: never so much of it that it takes them all.

use std::sync::Arc;

/// Counts the jobs that have not ended, even those that nobody waits for any more.
#[derive(Clone, Debug, Default)]
pub(crate) struct Workers(Arc<()>);

impl Workers {
    /// Runs a job; `None` if as many are stuck, or if it panicked.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        most: usize,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let mark = self.0.clone();
        if Arc::strong_count(&self.0) > most + 1 {
            return None;
        }
        let working = tokio::task::spawn_blocking(move || {
            let _mark = mark;
            job()
        });
        working.await.ok()
    }
}
