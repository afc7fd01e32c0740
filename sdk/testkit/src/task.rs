//! A task that ends with its owner, and counters that can be waited for.

use std::fmt::Debug;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Aborts the task when it is dropped.
#[derive(Debug)]
pub struct OwnedTask(JoinHandle<()>);

impl OwnedTask {
    pub(crate) fn spawn(future: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(future))
    }
}

impl Drop for OwnedTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Waits until `reached` holds for the watched value.
///
/// # Panics
/// After 30 s, so that a test that waits in vain fails with a message instead of hanging.
pub(crate) async fn until<T: Debug>(
    watched: &watch::Sender<T>,
    what: &str,
    reached: impl FnMut(&T) -> bool,
) {
    let mut receiver = watched.subscribe();
    let waiting = receiver.wait_for(reached);
    // The sender is borrowed, so the channel cannot close meanwhile.
    if tokio::time::timeout(Duration::from_secs(30), waiting)
        .await
        .is_err()
    {
        panic!("waited 30 s for {what}; so far {:?}", watched.borrow());
    }
}
