//! Bodies, streamed: a frame is asked for only when the other end takes one.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of an answer. Dropping one that is passed on ends the exchange with the other end.
#[derive(Default)]
pub(crate) enum Body<B> {
    #[default]
    Empty,
    /// The proxy's own.
    Whole(Bytes),
    Passed(B),
}

impl<B> Body<B> {
    /// A line of text.
    pub(crate) fn text(text: &str) -> Self {
        Self::Whole(Bytes::from(format!("{text}\n")))
    }
}

impl<B> HttpBody for Body<B>
where
    B: HttpBody<Data = Bytes, Error = BoxError> + Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Self::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Self::Passed(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Whole(_) => false,
            Self::Passed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Passed(body) => body.size_hint(),
        }
    }
}

/// A frame, whose trailers are changed if it is made of them.
pub(crate) fn with_trailers(
    frame: Frame<Bytes>,
    change: impl FnOnce(&mut HeaderMap),
) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            change(&mut trailers);
            Frame::trailers(trailers)
        }
        Err(data) => data,
    }
}
