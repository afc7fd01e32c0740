//! Bodies on their way through the egress.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;

use super::fields;
use crate::passing::body::{BoxError, with_trailers};

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

/// The body of an answer: an origin's, or of the egress.
pub(crate) type Body = crate::passing::body::Body<OriginBody>;

/// An origin's body on its way to the agent.
pub(crate) struct OriginBody(pub(crate) bowline::Body);

impl HttpBody for OriginBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.0).poll_frame(cx));
        Poll::Ready(frame.map(|frame| match frame {
            Ok(frame) => Ok(with_trailers(frame, fields::strip_response)),
            Err(error) => {
                tracing::debug!(%error, "an origin's answer broke off");
                Err(error.into())
            }
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}
