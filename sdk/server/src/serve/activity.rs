//! Tracks whether a connection has requests in flight, and for how long it has had none.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::sync::watch;

/// Counts the requests of one connection.
pub(super) struct Activity(watch::Sender<Count>);

#[derive(Clone, Copy, Default)]
struct Count {
    started: u64,
    in_flight: u64,
}

/// A request in flight. Dropping it marks the request as finished.
pub(super) struct InFlight(Arc<Activity>);

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(watch::Sender::new(Count::default())))
    }

    pub(super) fn begin(self: &Arc<Self>) -> InFlight {
        self.0.send_modify(|count| {
            count.started += 1;
            count.in_flight += 1;
        });
        InFlight(self.clone())
    }

    /// Completes when no request has been in flight for `first` since the connection was opened, or
    /// for `later` since the last one ended.
    pub(super) async fn idle(&self, first: Duration, later: Duration) {
        let mut counts = self.0.subscribe();
        loop {
            let count = *counts.borrow_and_update();
            let limit = if count.started == 0 { first } else { later };
            let changed = counts.changed();
            if count.in_flight > 0 {
                // `self` holds the sender, so this cannot fail.
                let _ = changed.await;
            } else if tokio::time::timeout(limit, changed).await.is_err() {
                return;
            }
        }
    }
}

impl InFlight {
    /// Wraps the response body, so that the request counts as in flight until the body has ended or
    /// is dropped.
    pub(super) fn track<B>(self, body: B) -> CountedBody<B> {
        CountedBody {
            body,
            _in_flight: self,
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| count.in_flight -= 1);
    }
}

pin_project! {
    pub(super) struct CountedBody<B> {
        #[pin]
        body: B,
        _in_flight: InFlight,
    }
}

impl<B: Body> Body for CountedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
