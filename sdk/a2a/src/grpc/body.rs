//! A response's body on its way to tonic: its messages, and an error unless it ends as gRPC
//! demands.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use a2a::A2AError;
use bowline_http_client::Body;
use bowline_transport::redact::SentTokens;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body::Frame;
use tokio::time::{Sleep, sleep};

use super::status::{GrpcStatus, ResponseShape, StatusLocation};
use crate::error::{Error, ErrorKind};

/// How long one message may take once the head has come.
const MESSAGE_TIME: Duration = Duration::from_secs(60);

/// A body that ends with `grpc-status: 0` or with an error, and in no other way. tonic does not
/// recognise every shortened body, and hyper reports a stream that is reset with CANCEL or NO_ERROR
/// as one that ended.
/// Upstream: no issue; reports 6 and 12 in `docs/src/upstream.md`.
pub(super) struct ResponseBody {
    /// `None` if the response ended with its head.
    body: Option<Body>,
    shape: ResponseShape,
    /// What the call was sent with.
    sent: SentTokens,
    messages: MessageFraming,
    deadline: Option<Pin<Box<Sleep>>>,
    /// Until the first message has come: the request can be sent again if its token is refused.
    resend: Option<Resend>,
    /// The request is being sent again.
    sending: Option<Sending>,
}

/// Sends a request again because its token was refused with this error, if there is another token.
pub(super) type Resend = Box<dyn FnOnce(A2AError) -> Sending + Send>;

/// A request that is being sent again. A response that has ended has the trailers in its head.
type Sending = BoxFuture<'static, Result<Response<ResponseBody>, A2AError>>;

/// The trailers of a successful call: all that tonic needs.
pub(super) fn ok_trailers() -> HeaderMap {
    HeaderMap::from_iter([(
        HeaderName::from_static("grpc-status"),
        HeaderValue::from_static("0"),
    )])
}

impl ResponseBody {
    pub(super) fn new(body: Body, shape: ResponseShape, sent: SentTokens, resend: Resend) -> Self {
        Self {
            body: Some(body),
            shape,
            sent,
            messages: MessageFraming::default(),
            deadline: (shape == ResponseShape::Unary).then(|| Box::pin(sleep(MESSAGE_TIME))),
            resend: Some(resend),
            sending: None,
        }
    }

    /// The body of a response that ended with its head.
    pub(super) fn empty() -> Self {
        Self {
            body: None,
            shape: ResponseShape::Streaming,
            sent: SentTokens::default(),
            messages: MessageFraming::default(),
            deadline: None,
            resend: None,
            sending: None,
        }
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, A2AError>> {
        loop {
            if let Some(sending) = &mut self.sending {
                let response = ready!(sending.poll_unpin(cx));
                self.sending = None;
                let (head, body) = response?.into_parts();
                *self = body;
                if !head.headers.is_empty() {
                    // It ended with its head, and tonic has seen another.
                    return Poll::Ready(Ok(Some(Frame::trailers(head.headers))));
                }
            }
            let frame = ready!(self.poll_response(cx));
            if self.sending.is_none() {
                return Poll::Ready(frame);
            }
        }
    }

    /// The next frame of one response. If its trailers refuse the token, the request is sent again.
    fn poll_response(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Frame<Bytes>>, A2AError>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(Ok(None));
        };
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            let message =
                format!("the agent began its response and did not finish within {MESSAGE_TIME:?}");
            return Poll::Ready(Err(Error::new(ErrorKind::TimedOut, message)
                .with_processed(true)
                .into()));
        }
        let frame = match ready!(http_body::Body::poll_frame(Pin::new(body), cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(e)) => return Poll::Ready(Err(self.cut(&e.to_string()).into())),
            None => return Poll::Ready(Err(self.cut("it ended without a gRPC status").into())),
        };
        Poll::Ready(match frame.into_data() {
            Ok(data) => self.read(data).map(Some),
            Err(frame) => self.ended(&frame.into_trailers().unwrap_or_default()),
        })
    }

    fn read(&mut self, data: Bytes) -> Result<Frame<Bytes>, A2AError> {
        self.messages.read(&data);
        self.resend = None;
        if self.shape == ResponseShape::Unary && self.messages.started > 1 {
            let message = "the agent sent several messages in response to a unary call";
            return Err(Error::new(ErrorKind::NotA2a, message).into());
        }
        Ok(Frame::data(data))
    }

    fn ended(&mut self, trailers: &HeaderMap) -> Result<Option<Frame<Bytes>>, A2AError> {
        match GrpcStatus::from_fields(trailers, &self.sent) {
            GrpcStatus::Ok if self.messages.is_at_boundary() => {
                Ok(Some(Frame::trailers(ok_trailers())))
            }
            GrpcStatus::Ok => Err(self.cut("it ended in the middle of a message").into()),
            GrpcStatus::Error(status) => {
                let location = StatusLocation::Trailers {
                    shape: self.shape,
                    after_messages: self.messages.started > 0,
                };
                let refuses_token = status.refuses_token(trailers);
                let error = status.into_error(trailers, location, &self.sent);
                match self.resend.take() {
                    Some(resend) if refuses_token => {
                        self.sending = Some(resend(error));
                        Ok(None)
                    }
                    _ => Err(error),
                }
            }
            GrpcStatus::Invalid(failure) => Err(failure.into()),
            GrpcStatus::Absent => Err(self.cut("it ended without a gRPC status").into()),
        }
    }

    fn cut(&self, why: &str) -> Error {
        match self.shape {
            ResponseShape::Unary => {
                let message = format!(
                    "the agent's response was cut; the call may have been processed: {why}"
                );
                Error::new(ErrorKind::MayHaveBeenProcessed, message)
            }
            ResponseShape::Streaming => {
                let message = format!("the agent's stream was cut; the task goes on: {why}");
                Error::new(ErrorKind::StreamCut, message)
            }
        }
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = A2AError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, A2AError>>> {
        self.get_mut().poll_body(cx).map(Result::transpose)
    }
}

/// The position in a sequence of length-prefixed messages: one byte of flags, four bytes of length,
/// then that many bytes of message.
#[derive(Default)]
struct MessageFraming {
    /// The current prefix, of which `prefix_len` bytes have come.
    prefix: [u8; PREFIX],
    prefix_len: usize,
    /// Bytes that are missing of the current message.
    remaining: usize,
    /// Prefixes that have come in full.
    started: u64,
}

const PREFIX: usize = 5;

impl MessageFraming {
    fn read(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.remaining > 0 {
                let read = self.remaining.min(bytes.len());
                self.remaining -= read;
                bytes = &bytes[read..];
                continue;
            }
            let read = (PREFIX - self.prefix_len).min(bytes.len());
            self.prefix[self.prefix_len..][..read].copy_from_slice(&bytes[..read]);
            self.prefix_len += read;
            bytes = &bytes[read..];
            if self.prefix_len == PREFIX {
                let [_, length @ ..] = self.prefix;
                self.remaining = u32::from_be_bytes(length) as usize;
                self.prefix_len = 0;
                self.started += 1;
            }
        }
    }

    /// Whether the last message is complete and no other has started.
    fn is_at_boundary(&self) -> bool {
        self.remaining == 0 && self.prefix_len == 0
    }
}

#[cfg(test)]
mod tests;
