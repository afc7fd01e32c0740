//! A response's body, limited by its request's time-out.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::error::Error;

/// When a request's own time-out expires: one moment for head and body.
#[derive(Clone, Copy)]
pub(crate) struct Deadline {
    pub(crate) at: Instant,
    pub(crate) limit: Duration,
}

impl Deadline {
    /// `None` without a time-out, or with one that the clock cannot represent.
    pub(crate) fn for_request(request: &reqwest::Request) -> Option<Self> {
        let limit = *request.timeout()?;
        let at = Instant::now().checked_add(limit)?;
        Some(Self { at, limit })
    }
}

/// The body of a response, for `reqwest::Body::wrap`.
pub(crate) struct Body {
    inner: bowline_http_client::Body,
    timer: Option<(Pin<Box<Sleep>>, Duration)>,
}

impl Body {
    pub(crate) fn new(inner: bowline_http_client::Body, deadline: Option<Deadline>) -> Self {
        let timer = deadline.map(|deadline| (Box::pin(sleep_until(deadline.at)), deadline.limit));
        Self { inner, timer }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        // The timer is polled first, as in reqwest: it limits the time for the whole body.
        if let Some((timer, limit)) = &mut self.timer
            && timer.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Some(Err(Error::timeout(*limit))));
        }
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        polled.map_err(Error::from)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
