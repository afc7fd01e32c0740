//! Whose turn it is to use a key: signatures that a request waits for come first.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard, Notify};

use crate::last::Last;

/// How many proofs count for how long one takes.
const MEASURED: usize = 8;

/// Who signs with one key. Requests sign at once; what is made ahead waits until no request signs,
/// and is made one by one. A request that comes while one is made waits for the key at most that
/// long, where the key does one thing at a time.
#[derive(Debug, Default)]
pub(crate) struct SigningQueue {
    requests: AtomicUsize,
    no_request: Notify,
    ahead: Mutex<()>,
    /// How long the last proofs took.
    took: std::sync::Mutex<Last<MEASURED>>,
}

/// A signature that a request waits for.
pub(crate) struct RequestSigns(Arc<SigningQueue>);

impl SigningQueue {
    /// A proof was signed in this time.
    pub(crate) fn took(&self, time: Duration) {
        let mut took = self.took.lock().unwrap_or_else(PoisonError::into_inner);
        took.add(time);
    }

    /// How long a proof takes; nothing before the first. The shortest of the last few: where the key
    /// does one thing at a time, some of them have waited for it.
    pub(crate) fn takes(&self) -> Duration {
        let took = self.took.lock().unwrap_or_else(PoisonError::into_inner);
        took.shortest().unwrap_or_default()
    }

    /// A request needs a signature, until the result is dropped.
    pub(crate) fn request(self: &Arc<Self>) -> RequestSigns {
        self.requests.fetch_add(1, Ordering::AcqRel);
        RequestSigns(self.clone())
    }

    /// Waits until no request signs. Until the result is dropped, nothing else is made ahead.
    pub(crate) async fn ahead(&self) -> MutexGuard<'_, ()> {
        let turn = self.ahead.lock().await;
        loop {
            let mut changed = std::pin::pin!(self.no_request.notified());
            changed.as_mut().enable();
            if self.requests.load(Ordering::Acquire) == 0 {
                return turn;
            }
            changed.await;
        }
    }
}

impl Drop for RequestSigns {
    fn drop(&mut self) {
        if self.0.requests.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.no_request.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn what_is_made_ahead_waits_for_every_request_and_is_made_one_by_one() {
        let queue = Arc::new(SigningQueue::default());
        let (first, second) = (queue.request(), queue.request());
        let mut ahead = std::pin::pin!(queue.ahead());
        assert!(ahead.as_mut().now_or_never().is_none());
        drop(first);
        assert!(ahead.as_mut().now_or_never().is_none(), "one still signs");
        drop(second);
        let turn = ahead.await;
        assert!(queue.ahead().now_or_never().is_none());
        drop(turn);
        assert!(queue.ahead().now_or_never().is_some());
    }
}
