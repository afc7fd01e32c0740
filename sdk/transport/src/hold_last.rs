//! The last event of a stream, held for the stream's end.
//!
//! An HTTP/1.1 connection carries the next request once its event stream has ended. A caller often
//! sends its next request as soon as it has the last event, which would be before that end: the
//! request would need a new connection, and that a new proof. Servers send both in one go, so the
//! last event is returned together with the end, or after a short time without it.
//!
//! ```text
//! stream    progress ........ response .. end
//! caller    progress ............... response, end     the connection is free
//! ```

#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::stream::Fuse;
use futures_util::{Stream, StreamExt};
use tokio::time::{Sleep, sleep};

/// A stream that holds an item for which `is_last` holds, until what follows it is there (an item,
/// or the end), or a time is over.
pub struct HoldLast<S: Stream, L, T = fn()> {
    stream: Fuse<S>,
    limit: Duration,
    is_last: L,
    on_timeout: Option<T>,
    held: Option<(S::Item, Pin<Box<Sleep>>)>,
    /// What followed the held item.
    after: Option<S::Item>,
}

impl<S, L> HoldLast<S, L>
where
    S: Stream,
    L: Fn(&S::Item) -> bool,
{
    /// Holds each item of `stream` for which `is_last` holds, for `limit` at most.
    pub fn new(stream: S, limit: Duration, is_last: L) -> Self {
        Self {
            stream: stream.fuse(),
            limit,
            is_last,
            on_timeout: None,
            held: None,
            after: None,
        }
    }

    /// Calls `note` each time that an item is returned because the time limit is over.
    #[must_use]
    pub fn on_timeout<T: FnMut()>(self, note: T) -> HoldLast<S, L, T> {
        HoldLast {
            stream: self.stream,
            limit: self.limit,
            is_last: self.is_last,
            on_timeout: Some(note),
            held: self.held,
            after: self.after,
        }
    }
}

impl<S, L, T> Stream for HoldLast<S, L, T>
where
    S: Stream + Unpin,
    S::Item: Unpin,
    L: Fn(&S::Item) -> bool + Unpin,
    T: FnMut() + Unpin,
{
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let this = &mut *self;
        if let Some(after) = this.after.take() {
            return Poll::Ready(Some(after));
        }
        if this.held.is_none() {
            match ready!(this.stream.poll_next_unpin(cx)) {
                Some(item) if (this.is_last)(&item) => {
                    this.held = Some((item, Box::pin(sleep(this.limit))));
                }
                other => return Poll::Ready(other),
            }
        }
        match this.stream.poll_next_unpin(cx) {
            Poll::Ready(after) => this.after = after,
            Poll::Pending => {
                if let Some((_, time)) = &mut this.held {
                    ready!(time.as_mut().poll(cx));
                }
                if let Some(note) = &mut this.on_timeout {
                    note();
                }
            }
        }
        Poll::Ready(this.held.take().map(|(item, _)| item))
    }
}

impl<S: Stream, L, T> std::fmt::Debug for HoldLast<S, L, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HoldLast")
            .field("limit", &self.limit)
            .field("is_holding", &self.held.is_some())
            .finish_non_exhaustive()
    }
}
