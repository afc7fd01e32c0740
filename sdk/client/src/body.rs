//! Bodies, both ways: requests that can be sent again, responses that give their connection back.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;

use crate::error::{BoxError, Error, Kind};
use crate::pool::Checkout;

/// The body of a response.
///
/// Read to its end, it gives an h1 connection back to the pool; dropped before that, it cancels the rest at once.
pub struct Body {
    incoming: Incoming,
    /// The connection that the body arrives on, until the body has ended.
    checkout: Option<Checkout>,
}

impl Body {
    pub(crate) fn new(incoming: Incoming, checkout: Checkout) -> Self {
        let mut body = Self {
            incoming,
            checkout: Some(checkout),
        };
        body.release_at_end();
        body
    }

    /// Reads and drops what is left, away from the caller and within bounds (64 KiB, 1 s): for a reader that has all it
    /// needs and wants the h1 connection, and its proof, to live on. Dropping the body instead cancels it.
    pub fn drain_in_background(self) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(self.drain());
        }
    }

    pub(crate) async fn drain(self) {
        let _ = tokio::time::timeout(DRAIN_TIME, self.drain_octets(DRAIN_OCTETS)).await;
    }

    /// Drops what is left, up to `limit` octets, so that the connection can carry another request.
    async fn drain_octets(mut self, limit: usize) {
        let mut left = limit;
        while let Some(Ok(frame)) = self.frame().await {
            let octets = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(octets) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    }

    fn release_at_end(&mut self) {
        if self.incoming.is_end_stream()
            && let Some(checkout) = self.checkout.take()
        {
            checkout.finished();
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
            Some(Ok(frame)) => {
                self.release_at_end();
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(e)) => {
                if let Some(checkout) = self.checkout.take() {
                    checkout.broken();
                }
                let message = "the response body ended before its announced end";
                Poll::Ready(Some(Err(Error::with_source(Kind::Protocol, message, e))))
            }
            None => {
                if let Some(checkout) = self.checkout.take() {
                    checkout.finished();
                }
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").finish_non_exhaustive()
    }
}

const DRAIN_OCTETS: usize = 64 * 1024;
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// A request's body on its way out: boxed once, because hyper's senders are generic over it.
///
/// While it is written it keeps a copy of its frames, up to a limit, so that a request refused with a binding
/// challenge can be sent again (CL-5). The copies share the frames' memory.
pub(crate) struct Outgoing {
    inner: UnsyncBoxBody<Bytes, BoxError>,
    copy: Arc<Mutex<Copy>>,
}

/// What was kept of a body.
#[derive(Default)]
struct Copy {
    data: Vec<Bytes>,
    trailers: Option<HeaderMap>,
    octets: usize,
    limit: usize,
    too_long: bool,
    ended: bool,
    failed: bool,
}

/// The other end of an [`Outgoing`]: asks for the body again.
pub(crate) struct Kept(Arc<Mutex<Copy>>);

impl Outgoing {
    pub(crate) fn new<B>(body: B, limit: usize) -> (Self, Kept)
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let copy = Arc::new(Mutex::new(Copy {
            limit,
            ended: body.is_end_stream(),
            ..Copy::default()
        }));
        let outgoing = Self {
            inner: UnsyncBoxBody::new(body.map_err(Into::into)),
            copy: copy.clone(),
        };
        (outgoing, Kept(copy))
    }
}

impl Kept {
    /// The whole body once more, if all of it was written and fitted the limit.
    pub(crate) fn again(&self) -> Option<Outgoing> {
        let copy = lock(&self.0);
        if !copy.ended || copy.too_long || copy.failed {
            return None;
        }
        let replay = Replay {
            data: copy.data.clone().into_iter(),
            trailers: copy.trailers.clone(),
        };
        // This handle keeps the copy: the next sending need not make another.
        let (outgoing, _) = Outgoing::new(replay, 0);
        Some(outgoing)
    }

    /// Whether all of it was sent.
    pub(crate) fn was_sent(&self) -> bool {
        lock(&self.0).ended
    }

    /// Whether the caller's own body failed, so that nobody else is to blame.
    pub(crate) fn failed(&self) -> bool {
        lock(&self.0).failed
    }
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        let mut copy = lock(&self.copy);
        match &polled {
            Some(Ok(frame)) => {
                copy.keep(frame);
                copy.ended = self.inner.is_end_stream();
            }
            Some(Err(_)) => copy.failed = true,
            None => copy.ended = true,
        }
        drop(copy);
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Copy {
    fn keep(&mut self, frame: &Frame<Bytes>) {
        if let Some(data) = frame.data_ref() {
            self.octets = self.octets.saturating_add(data.len());
            if self.octets > self.limit {
                self.too_long = true;
                self.data = Vec::new();
            } else {
                self.data.push(data.clone());
            }
        } else if let Some(trailers) = frame.trailers_ref() {
            self.trailers = Some(trailers.clone());
        }
    }
}

/// A kept body as a body.
struct Replay {
    data: std::vec::IntoIter<Bytes>,
    trailers: Option<HeaderMap>,
}

impl http_body::Body for Replay {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let next = match self.data.next() {
            Some(data) => Some(Frame::data(data)),
            None => self.trailers.take().map(Frame::trailers),
        };
        Poll::Ready(next.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.data.as_slice().is_empty() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let octets = self.data.as_slice().iter().map(|data| data.len() as u64).sum();
        SizeHint::with_exact(octets)
    }
}

fn lock(copy: &Mutex<Copy>) -> std::sync::MutexGuard<'_, Copy> {
    copy.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use http_body_util::{Full, StreamBody};

    use super::*;

    async fn collect(body: Outgoing) -> Bytes {
        body.collect().await.unwrap().to_bytes()
    }

    #[tokio::test]
    async fn a_body_within_the_limit_can_be_sent_again() {
        let (body, kept) = Outgoing::new(Full::new(Bytes::from_static(b"hello")), 5);
        assert!(kept.again().is_none(), "nothing was written yet");
        assert_eq!(collect(body).await, "hello");
        assert_eq!(collect(kept.again().unwrap()).await, "hello");
    }

    #[tokio::test]
    async fn an_empty_body_can_be_sent_again_even_if_nobody_polled_it() {
        let (_body, kept) = Outgoing::new(http_body_util::Empty::new(), 0);
        assert_eq!(collect(kept.again().unwrap()).await, "");
    }

    #[tokio::test]
    async fn a_body_over_the_limit_cannot() {
        let (body, kept) = Outgoing::new(Full::new(Bytes::from_static(b"hello!")), 5);
        collect(body).await;
        assert!(kept.again().is_none());
    }

    #[tokio::test]
    async fn a_body_that_failed_is_the_callers_fault_and_is_not_sent_again() {
        let frames = [Ok(Frame::data(Bytes::from_static(b"a"))), Err(BoxError::from("disk"))];
        let (body, kept) = Outgoing::new(StreamBody::new(futures_util::stream::iter(frames)), 99);
        assert!(body.collect().await.is_err());
        assert!(kept.failed());
        assert!(kept.again().is_none());
    }
}
