//! What is left of a request's body that nobody reads, taken before the answer.
//!
//! An answer may come before the request has been sent (RFC 9113 section 8.1), and HTTP/2 then resets the stream with
//! NO_ERROR. Some clients take that for an error: curl 7.88 ends with status 92. Over HTTP/1.1 the connection would have to be
//! closed (RFC 9112 section 9.3). So the head waits as well: curl sends nothing more once it has the head of a refusal.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::header::EXPECT;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// A longer rest is not read, and the answer does not wait for it.
const MAX_BYTES: usize = 64 * 1024;

/// How long the answer waits.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// A request's body, which goes back to [`Unread`] if it is dropped before its end.
pub(crate) struct LentBody {
    /// `None` only once it is dropped.
    inner: Option<Incoming>,
    back: Option<oneshot::Sender<Incoming>>,
}

/// Gets a [`LentBody`] back.
pub(super) struct Unread(Option<oneshot::Receiver<Incoming>>);

/// Has the body come back. That of a client with `Expect` does not: it sends nothing unless it is asked to, and with a refusal
/// it is not (RFC 9110 section 10.1.1).
pub(super) fn lend(request: Request<Incoming>) -> (Request<LentBody>, Unread) {
    let is_awaited = !request.body().is_end_stream() && !request.headers().contains_key(EXPECT);
    let (back, unread) = is_awaited.then(oneshot::channel).unzip();
    let lent = request.map(|body| LentBody {
        inner: Some(body),
        back,
    });
    (lent, Unread(unread))
}

impl Unread {
    /// Reads the rest of the body, within the limits, if it has come back.
    pub(super) async fn read(self) {
        let Some(body) = self.0.and_then(|mut unread| unread.try_recv().ok()) else {
            return;
        };
        if body.size_hint().lower() > MAX_BYTES as u64 {
            return;
        }
        let mut body = Limited::new(body, MAX_BYTES);
        let rest = async { while let Some(Ok(_)) = body.frame().await {} };
        // However it ends, the answer follows.
        let _ = timeout(MAX_WAIT, rest).await;
    }
}

impl Body for LentBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.inner {
            Some(inner) => Pin::new(inner).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let inner = self.inner.as_ref();
        inner.map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for LentBody {
    fn drop(&mut self) {
        if let (Some(inner), Some(back)) = (self.inner.take(), self.back.take())
            && !inner.is_end_stream()
        {
            // An error means that the answer was already under way.
            let _ = back.send(inner);
        }
    }
}

#[cfg(test)]
mod tests;
