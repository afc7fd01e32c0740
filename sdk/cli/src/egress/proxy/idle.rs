//! For how long an agent's connection has had no request. hyper has no such limit for HTTP/2, and none
//! before the first bytes.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, sleep_until};

/// The requests of one connection.
pub(super) struct Activity(Mutex<Requests>);

#[derive(Clone, Copy)]
struct Requests {
    open: usize,
    /// When the last one ended, or the connection began.
    idle_since: Instant,
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Requests {
            open: 0,
            idle_since: Instant::now(),
        })))
    }

    /// A request has begun.
    pub(super) fn begin(self: &Arc<Self>) -> Open {
        self.requests().open += 1;
        Open(self.clone())
    }

    /// Completes when there has been no request for `limit`, of which nothing before `from` counts.
    /// No request wakes it: it looks when the limit can have passed at the earliest.
    pub(super) async fn idle(&self, from: Instant, limit: Duration) {
        loop {
            let now = Instant::now();
            let requests = *self.requests();
            let over = requests.idle_since.max(from) + limit;
            match requests.open {
                0 if over <= now => return,
                0 => sleep_until(over).await,
                _ => sleep_until(now + limit).await,
            }
        }
    }

    /// Poisoning is ignored: the counts are valid after each change.
    fn requests(&self) -> MutexGuard<'_, Requests> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that has not ended: from its head to the end of its answer's body.
pub(super) struct Open(Arc<Activity>);

impl Open {
    /// The body of the answer, with whose end the request has ended.
    pub(super) fn until_end_of<B>(self, inner: B) -> Answered<B> {
        Answered { inner, _open: self }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut requests = self.0.requests();
        requests.open -= 1;
        requests.idle_since = Instant::now();
    }
}

/// See [`Open::until_end_of`].
pub(super) struct Answered<B> {
    inner: B,
    _open: Open,
}

impl<B: Body + Unpin> Body for Answered<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
