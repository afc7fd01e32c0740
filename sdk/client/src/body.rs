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

use crate::connection::HttpVersion;
use crate::error::{BoxError, Error, ErrorKind};
use crate::pool::Checkout;

/// The body of a response.
///
/// Read to its end, it gives an h1 connection back to the pool; dropped before that, it cancels the
/// rest at once.
pub struct Body {
    incoming: Incoming,
    /// The connection that the body arrives on, until the body has ended.
    checkout: Option<Checkout>,
    /// Whether it is over only where its stream is: HTTP/2, and a request that was all sent.
    ends_with_stream: bool,
}

impl Body {
    /// `request_sent`: all of the request had left when the answer came. A server that wants no
    /// more of one may reset its stream after a complete answer (RFC 9113 §8.1), and hyper says of
    /// that what it says of any reset with NO_ERROR: that the body has ended.
    pub(crate) fn new(incoming: Incoming, checkout: Checkout, request_sent: bool) -> Self {
        let ends_with_stream = request_sent && checkout.facts().http() == HttpVersion::H2;
        let mut body = Self {
            incoming,
            checkout: Some(checkout),
            ends_with_stream,
        };
        body.release_at_end();
        body
    }

    /// Reads and drops what is left, away from the caller and within bounds (64 KiB, 1 s): for a
    /// reader that has all it needs and wants the h1 connection, and its proof, to live on.
    /// Dropping the body instead cancels it.
    pub fn drain_in_background(self) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(self.drain());
        }
    }

    pub(crate) async fn drain(self) {
        let _ = tokio::time::timeout(DRAIN_TIME, self.drain_bytes(DRAIN_BYTES)).await;
    }

    /// Drops what is left, up to `limit` bytes, so that the connection can carry another request.
    async fn drain_bytes(mut self, limit: usize) {
        let mut left = limit;
        while let Some(Ok(frame)) = self.frame().await {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(bytes) {
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

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
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
                Poll::Ready(Some(Err(Error::with_source(
                    ErrorKind::Protocol,
                    message,
                    e,
                ))))
            }
            None => {
                let Some(checkout) = self.checkout.take() else {
                    return Poll::Ready(None);
                };
                checkout.finished();
                let is_whole =
                    self.incoming.is_end_stream() || self.incoming.size_hint().exact() == Some(0);
                if self.ends_with_stream && !is_whole {
                    let message = "the server reset the response's stream before its end";
                    return Poll::Ready(Some(Err(Error::new(ErrorKind::Protocol, message))));
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

/// Of a stream, in bytes.
const INITIAL_WINDOW: usize = 65_535;

const DRAIN_BYTES: usize = 64 * 1024;
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// A request's body on its way out, in one sending of possibly several: boxed once, because hyper's
/// senders are generic over it.
///
/// What was sent of it is kept, up to a limit, so that the request can be sent again (CL-5, CL-7):
/// first what was kept, then the rest, which may never have been asked for. The copies share the
/// frames' memory.
pub(crate) struct Outgoing {
    source: Arc<Mutex<Source>>,
    sending: u32,
}

/// The other end of an [`Outgoing`]: asks for the body again.
pub(crate) struct Kept(Arc<Mutex<Source>>);

/// A body, and what was kept of it.
struct Source {
    inner: UnsyncBoxBody<Bytes, BoxError>,
    kept: Vec<Part>,
    bytes: usize,
    limit: usize,
    too_long: bool,
    ended: bool,
    failed: bool,
    /// Which sending may read; an earlier one that hyper still holds may not.
    sending: u32,
    /// How many of the kept parts this sending has read.
    read: usize,
}

/// A frame; `http_body`'s own cannot be cloned.
#[derive(Clone)]
enum Part {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl Outgoing {
    pub(crate) fn new<B>(body: B, limit: usize) -> (Self, Kept)
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let source = Arc::new(Mutex::new(Source {
            ended: body.is_end_stream(),
            inner: UnsyncBoxBody::new(body.map_err(Into::into)),
            kept: Vec::new(),
            bytes: 0,
            limit,
            too_long: false,
            failed: false,
            sending: 0,
            read: 0,
        }));
        let outgoing = Self {
            source: source.clone(),
            sending: 0,
        };
        (outgoing, Kept(source))
    }
}

impl Kept {
    /// The body from its beginning, if what was sent of it is still there. The sending before gets
    /// no more of it.
    pub(crate) fn again(&self) -> Option<Outgoing> {
        let mut source = lock(&self.0);
        if source.too_long || source.failed {
            return None;
        }
        source.sending += 1;
        source.read = 0;
        let sending = source.sending;
        drop(source);
        Some(Outgoing {
            source: self.0.clone(),
            sending,
        })
    }

    /// Whether all of it was sent.
    pub(crate) fn was_sent(&self) -> bool {
        let source = lock(&self.0);
        source.ended && source.read == source.kept.len()
    }

    /// Whether all of it has surely left on HTTP/2 when an answer comes: hyper has it, and no
    /// window holds it back (RFC 9113 §6.9.2). A longer one may wait for its window, out of our
    /// sight.
    pub(crate) fn has_left(&self) -> bool {
        let source = lock(&self.0);
        source.ended
            && source.read == source.kept.len()
            && !source.too_long
            && source.bytes <= INITIAL_WINDOW
    }

    /// Whether the caller's own body failed, so that nobody else is to blame.
    pub(crate) fn failed(&self) -> bool {
        lock(&self.0).failed
    }
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut source = lock(&self.source);
        match source.sending == self.sending {
            true => source.poll_frame(cx),
            false => Poll::Ready(Some(Err("the request is sent elsewhere by now".into()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        let source = lock(&self.source);
        source.read == source.kept.len() && source.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let source = lock(&self.source);
        let kept: u64 = source.kept[source.read..].iter().map(Part::bytes).sum();
        let rest = source.inner.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(kept));
        if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(kept)) {
            hint.set_upper(upper);
        }
        hint
    }
}

impl Source {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(part) = self.kept.get(self.read) {
            self.read += 1;
            return Poll::Ready(Some(Ok(part.clone().into())));
        }
        let polled = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        match &polled {
            Some(Ok(frame)) => {
                self.keep(frame);
                self.ended = self.inner.is_end_stream();
            }
            Some(Err(_)) => self.failed = true,
            None => self.ended = true,
        }
        Poll::Ready(polled)
    }

    fn keep(&mut self, frame: &Frame<Bytes>) {
        self.bytes = self
            .bytes
            .saturating_add(frame.data_ref().map_or(0, Bytes::len));
        if self.too_long || self.bytes > self.limit {
            self.too_long = true;
            self.kept = Vec::new();
        } else if let Some(data) = frame.data_ref() {
            self.kept.push(Part::Data(data.clone()));
        } else if let Some(trailers) = frame.trailers_ref() {
            self.kept.push(Part::Trailers(trailers.clone()));
        }
        self.read = self.kept.len();
    }
}

impl Part {
    fn bytes(&self) -> u64 {
        match self {
            Self::Data(data) => data.len() as u64,
            Self::Trailers(_) => 0,
        }
    }
}

impl From<Part> for Frame<Bytes> {
    fn from(part: Part) -> Self {
        match part {
            Part::Data(data) => Self::data(data),
            Part::Trailers(trailers) => Self::trailers(trailers),
        }
    }
}

fn lock(source: &Mutex<Source>) -> std::sync::MutexGuard<'_, Source> {
    source.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use http_body_util::{Full, StreamBody};

    use super::*;

    fn frames<const N: usize>(texts: [&'static str; N]) -> [Result<Frame<Bytes>, BoxError>; N] {
        texts.map(|text| Ok(Frame::data(Bytes::from_static(text.as_bytes()))))
    }

    async fn collect(body: Outgoing) -> Bytes {
        body.collect().await.unwrap().to_bytes()
    }

    #[tokio::test]
    async fn a_body_within_the_limit_can_be_sent_again_however_much_of_it_was_sent() {
        let body = || StreamBody::new(futures_util::stream::iter(frames(["he", "llo"])));
        for frames in 0..=2 {
            let (mut first, kept) = Outgoing::new(body(), 5);
            for _ in 0..frames {
                first.frame().await.unwrap().unwrap();
            }
            let second = kept.again().unwrap();
            assert!(
                first.frame().await.unwrap().is_err(),
                "the first sending has lost it"
            );
            assert_eq!(collect(second).await, "hello");
            assert_eq!(collect(kept.again().unwrap()).await, "hello");
            assert!(kept.was_sent());
        }
    }

    #[tokio::test]
    async fn what_is_left_to_send_is_told_exactly() {
        let (mut first, kept) = Outgoing::new(Full::new(Bytes::from_static(b"hello")), 5);
        assert_eq!(first.size_hint().exact(), Some(5));
        first.frame().await.unwrap().unwrap();
        assert_eq!(first.size_hint().exact(), Some(0));
        assert!(first.is_end_stream());
        let again = kept.again().unwrap();
        assert_eq!(again.size_hint().exact(), Some(5));
        assert!(!again.is_end_stream() && !kept.was_sent());
    }

    #[tokio::test]
    async fn trailers_are_sent_again_too() {
        let trailers =
            HeaderMap::from_iter([(http::header::ETAG, http::HeaderValue::from_static("x"))]);
        let frames = [
            Ok::<_, BoxError>(Frame::data(Bytes::from_static(b"a"))),
            Ok(Frame::trailers(trailers.clone())),
        ];
        let (first, kept) = Outgoing::new(StreamBody::new(futures_util::stream::iter(frames)), 5);
        assert_eq!(first.collect().await.unwrap().trailers(), Some(&trailers));
        assert_eq!(
            kept.again().unwrap().collect().await.unwrap().trailers(),
            Some(&trailers)
        );
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
        let frames = [
            Ok(Frame::data(Bytes::from_static(b"a"))),
            Err(BoxError::from("disk")),
        ];
        let (body, kept) = Outgoing::new(StreamBody::new(futures_util::stream::iter(frames)), 99);
        assert!(body.collect().await.is_err());
        assert!(kept.failed());
        assert!(kept.again().is_none());
    }
}
