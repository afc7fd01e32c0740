//! An answer's body on its way to tonic: its messages, and an error unless it ends as gRPC wants.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use a2a::A2AError;
use bowline_client::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;
use tokio::time::{Sleep, sleep};

use super::ending::{Ending, Place};
use crate::failure::{ErrorKind, Failure};

/// How long one message may take once the head has come.
const MESSAGE_TIME: Duration = Duration::from_secs(60);

/// What a call is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// One message.
    Message,
    /// Any number of them, for as long as it takes.
    Stream,
}

/// A body that ends with success or with an error, and never just so: tonic cannot tell every way
/// in which it may be cut, and hyper makes of a stream that is reset with CANCEL or NO_ERROR one
/// that ended.
pub(super) struct Answer {
    /// `None` if it ended with its head.
    body: Option<Body>,
    shape: Shape,
    messages: Messages,
    too_late: Option<Pin<Box<Sleep>>>,
}

/// The trailers of an answer that succeeded: all that tonic needs of them.
pub(super) fn success() -> HeaderMap {
    HeaderMap::from_iter([(
        HeaderName::from_static("grpc-status"),
        HeaderValue::from_static("0"),
    )])
}

impl Answer {
    pub(super) fn new(body: Body, shape: Shape) -> Self {
        Self {
            body: Some(body),
            shape,
            messages: Messages::default(),
            too_late: (shape == Shape::Message).then(|| Box::pin(sleep(MESSAGE_TIME))),
        }
    }

    /// An answer that ended with its head.
    pub(super) fn nothing() -> Self {
        Self {
            body: None,
            shape: Shape::Stream,
            messages: Messages::default(),
            too_late: None,
        }
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, A2AError>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(Ok(None));
        };
        if let Some(too_late) = &mut self.too_late
            && too_late.as_mut().poll(cx).is_ready()
        {
            let message =
                format!("the agent began to answer and did not end within {MESSAGE_TIME:?}");
            return Poll::Ready(Err(Failure::new(ErrorKind::TimedOut, message)
                .processed(true)
                .into()));
        }
        let frame = match ready!(http_body::Body::poll_frame(Pin::new(body), cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(e)) => return Poll::Ready(Err(self.cut(&e.to_string()).into())),
            None => return Poll::Ready(Err(self.cut("it ended without a gRPC status").into())),
        };
        Poll::Ready(match frame.into_data() {
            Ok(data) => self.read(data).map(Some),
            Err(frame) => self
                .ended(&frame.into_trailers().unwrap_or_default())
                .map(Some),
        })
    }

    fn read(&mut self, data: Bytes) -> Result<Frame<Bytes>, A2AError> {
        self.messages.read(&data);
        if self.shape == Shape::Message && self.messages.begun > 1 {
            let message = "the agent answered with several messages to a call that has one answer";
            return Err(Failure::new(ErrorKind::NotA2a, message).into());
        }
        Ok(Frame::data(data))
    }

    fn ended(&self, trailers: &HeaderMap) -> Result<Frame<Bytes>, A2AError> {
        match Ending::of(trailers) {
            Ending::Ok if self.messages.is_between() => Ok(Frame::trailers(success())),
            Ending::Ok => Err(self.cut("it ended in the middle of a message").into()),
            Ending::Error(status) => {
                let place = Place::Trailers {
                    shape: self.shape,
                    after_messages: self.messages.begun > 0,
                };
                Err(status.into_error(trailers, place))
            }
            Ending::Unreadable(failure) => Err(failure.into()),
            Ending::None => Err(self.cut("it ended without a gRPC status").into()),
        }
    }

    fn cut(&self, why: &str) -> Failure {
        match self.shape {
            Shape::Message => {
                let message =
                    format!("the agent's answer was cut; the call may have been processed: {why}");
                Failure::new(ErrorKind::MayHaveBeenProcessed, message)
            }
            Shape::Stream => {
                let message = format!("the agent's stream was cut, and the task goes on: {why}");
                Failure::new(ErrorKind::StreamCut, message)
            }
        }
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = A2AError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, A2AError>>> {
        self.get_mut().poll_body(cx).map(Result::transpose)
    }
}

/// How far a sequence of length-prefixed messages has come: one byte of flags, four of length, and
/// as many as they say.
#[derive(Default)]
struct Messages {
    /// What has come of a prefix.
    prefix: [u8; PREFIX],
    prefixed: usize,
    /// What is to come of a message.
    left: usize,
    /// How many prefixes have come whole.
    begun: u64,
}

const PREFIX: usize = 5;

impl Messages {
    fn read(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let read = self.left.min(bytes.len());
                self.left -= read;
                bytes = &bytes[read..];
                continue;
            }
            let read = (PREFIX - self.prefixed).min(bytes.len());
            self.prefix[self.prefixed..][..read].copy_from_slice(&bytes[..read]);
            self.prefixed += read;
            bytes = &bytes[read..];
            if self.prefixed == PREFIX {
                let [_, length @ ..] = self.prefix;
                self.left = u32::from_be_bytes(length) as usize;
                self.prefixed = 0;
                self.begun += 1;
            }
        }
    }

    /// Whether no message is under way.
    fn is_between(&self) -> bool {
        self.left == 0 && self.prefixed == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_apart_however_they_are_cut_up() {
        let bytes = [
            &[0, 0, 0, 0, 2, 7, 7][..],
            &[0, 0, 0, 0, 0],
            &[1, 0, 0, 1, 0],
            &[9; 256],
        ]
        .concat();
        let between = [0, 7, 12, bytes.len()];
        for size in 1..=bytes.len() {
            let (mut messages, mut at) = (Messages::default(), 0);
            for part in bytes.chunks(size) {
                messages.read(part);
                at += part.len();
                assert_eq!(
                    messages.is_between(),
                    between.contains(&at),
                    "{at} of {size} at a time"
                );
            }
            assert_eq!(messages.begun, 3);
        }
    }
}
