//! Wakes when a connection has been idle, or has lived, for too long.

use std::sync::{Arc, Weak};

use tokio::sync::Notify;
use tokio::time::sleep_until;

use super::Pool;

/// Runs as long as the pool does.
pub(super) async fn run(pool: Weak<Pool>, wakeup: Arc<Notify>) {
    loop {
        let Some(next) = pool.upgrade().map(|pool| pool.reap()) else {
            return;
        };
        match next {
            Some(next) => {
                tokio::select! {
                    () = sleep_until(next) => {}
                    () = wakeup.notified() => {}
                }
            }
            // Nothing is open. `reaps_at` is `None`, so the next connection starts another reaper.
            None => return,
        }
    }
}
