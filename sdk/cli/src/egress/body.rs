//! Bodies, streamed in both directions: a frame is asked for when the other end takes one.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;

use super::fields;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An agent's body on its way to the origin.
pub(crate) struct RequestBody(pub(crate) Incoming);

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.0).poll_frame(cx));
        Poll::Ready(
            frame.map(|frame| {
                frame.map(|frame| with_trailers(frame, fields::strip_request_trailers))
            }),
        )
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// The body of an answer: the origin's, or of the egress. Dropping the origin's ends the exchange
/// with it.
#[derive(Default)]
pub(crate) enum Body {
    #[default]
    Empty,
    Whole(Bytes),
    Origin(bowline::Body),
}

impl HttpBody for Body {
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
            Self::Origin(body) => {
                let frame = ready!(Pin::new(body).poll_frame(cx));
                Poll::Ready(frame.map(|frame| match frame {
                    Ok(frame) => Ok(with_trailers(frame, fields::strip_response)),
                    Err(error) => {
                        tracing::debug!(%error, "an origin's answer broke off");
                        Err(error.into())
                    }
                }))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Whole(_) => false,
            Self::Origin(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Origin(body) => body.size_hint(),
        }
    }
}

fn with_trailers(frame: Frame<Bytes>, change: impl Fn(&mut http::HeaderMap)) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            change(&mut trailers);
            Frame::trailers(trailers)
        }
        Err(data) => data,
    }
}
