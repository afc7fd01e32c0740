//! A future that costs nothing while another one beside it is polled.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

/// Polls the future only when it was woken itself. The task that serves a connection is woken several
/// times for each request, and what would end the connection for another reason is hardly ever.
///
/// It is pending for good once it has completed.
pub(crate) struct WhenWoken<F>(FuturesUnordered<F>);

impl<F: Future> WhenWoken<F> {
    pub(crate) fn new(future: F) -> Self {
        Self(FuturesUnordered::from_iter([future]))
    }
}

impl<F: Future> Future for WhenWoken<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        match self.0.poll_next_unpin(cx) {
            Poll::Ready(Some(output)) => Poll::Ready(output),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests;
