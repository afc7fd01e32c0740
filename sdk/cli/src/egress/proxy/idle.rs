//! For how long an agent's connection has had no request. hyper has no such limit for HTTP/2, and none
//! before the first bytes.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body::{Body, Frame, SizeHint};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// The requests of one connection.
pub(super) struct Activity(watch::Sender<Requests>);

#[derive(Clone, Copy)]
struct Requests {
    open: usize,
    /// When the last one ended, or the connection began.
    idle_since: Instant,
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(watch::Sender::new(Requests {
            open: 0,
            idle_since: Instant::now(),
        })))
    }

    /// A request has begun.
    pub(super) fn begin(self: &Arc<Self>) -> Open {
        self.0.send_modify(|requests| requests.open += 1);
        Open(self.clone())
    }

    /// Completes when there has been no request for `limit`, of which nothing before `from` counts.
    pub(super) async fn idle(&self, from: Instant, limit: Duration) {
        let mut changes = self.0.subscribe();
        loop {
            let now = *changes.borrow_and_update();
            let changed = changes.changed();
            if now.open > 0 {
                // `self` holds the sender, so this cannot fail.
                let _ = changed.await;
            } else if timeout_at(now.idle_since.max(from) + limit, changed)
                .await
                .is_err()
            {
                return;
            }
        }
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
        self.0.0.send_modify(|requests| {
            requests.open -= 1;
            requests.idle_since = Instant::now();
        });
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
