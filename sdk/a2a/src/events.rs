//! Answers that are streams: server-sent events, each of which becomes a [`StreamResponse`].

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use a2a::{A2AError, StreamResponse, TaskState};
use bowline_http_client::Body;
use bowline_transport::head::has_media_type;
use bowline_transport::hold_last::HoldLast;
use bowline_transport::redact::SentTokens;
use bowline_transport::sse::{self, SseError};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, Stream, StreamExt};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use http::response::Parts;
use http::{HeaderMap, Version};
use http_body::Body as _;

use crate::decode::DecodeError;
use crate::endpoint;
use crate::error::{Error, ErrorKind};
use crate::text::sent_tokens;

pub(crate) const EVENT_STREAM: &str = "text/event-stream";

/// How long an event that should be the last is held for the end of its stream, on HTTP/1.1: the
/// caller's next request often follows hard upon it, and would need a new connection, and that a
/// new proof. Agents send both in one go.
const HOLD: Duration = Duration::from_millis(50);

/// Events, to the first error.
pub(crate) type Events = BoxStream<'static, Result<StreamResponse, A2AError>>;

/// Whether an answer of success is a stream, as far as its head tells. One that says nothing of its
/// type may be.
pub(crate) fn may_be_stream(fields: &HeaderMap, body: &Body) -> bool {
    if fields.contains_key(CONTENT_TYPE) {
        has_media_type(fields, EVENT_STREAM)
    } else {
        !body.is_end_stream()
    }
}

/// What is allowed of a stream, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) event: usize,
    /// One response in place of events.
    pub(crate) response: usize,
}

/// The events of an answer, each of which `read` reads. Dropping them cancels the rest at once; but
/// once there is nothing to wait for, an HTTP/1.1 connection is kept.
///
/// A stream that ends where its answer ends is over. One that ends otherwise, or in the middle of
/// an event, ends in an error: `StreamCut`.
pub(crate) fn events<D>(head: &Parts, body: Body, limits: Limits, decode: D) -> Events
where
    D: Fn(&[u8]) -> Result<StreamResponse, DecodeError> + Send + Unpin + 'static,
{
    let is_h1 = head.version < Version::HTTP_2;
    let reader = EventReader {
        state: State::Opening(body),
        limits,
        decode,
        sent: sent_tokens(head),
        is_h1,
        ends_with_connection: ends_with_connection(head),
        is_empty: true,
        end: None,
    };
    if is_h1 {
        Box::pin(HoldLast::new(reader, HOLD, |event| {
            event
                .as_ref()
                .is_ok_and(|event| End::from_event(event).is_some())
        }))
    } else {
        Box::pin(reader)
    }
}

/// One event, and no more.
pub(crate) fn only(event: StreamResponse) -> Events {
    futures_util::stream::iter([Ok(event)]).boxed()
}

/// Whether nothing but the end of its connection ends the answer (RFC 9112 §6.3): it cannot be told
/// from one that is cut.
fn ends_with_connection(head: &Parts) -> bool {
    let is_delimited =
        head.headers.contains_key(TRANSFER_ENCODING) || head.headers.contains_key(CONTENT_LENGTH);
    head.version < Version::HTTP_2 && !is_delimited
}

/// Reads the events of one response.
struct EventReader<D> {
    state: State,
    limits: Limits,
    decode: D,
    /// What the call was sent with.
    sent: SentTokens,
    is_h1: bool,
    ends_with_connection: bool,
    /// No event has come.
    is_empty: bool,
    /// What the last event means for what may follow.
    end: Option<End>,
}

enum State {
    /// Nothing has come. A server may answer with JSON and say that it is a stream.
    Opening(Body),
    Events(Box<sse::Events>),
    Json(BoxFuture<'static, Result<Vec<u8>, Error>>),
    Over,
}

/// After which event a stream should end (A2A §11.7).
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// The task has ended, or the agent has answered with a message: nothing more is to come.
    Final,
    /// The task waits for the caller.
    Interrupted,
}

impl End {
    fn from_event(event: &StreamResponse) -> Option<Self> {
        let state = match event {
            StreamResponse::Message(_) => return Some(Self::Final),
            StreamResponse::Task(task) => &task.status.state,
            StreamResponse::StatusUpdate(update) => &update.status.state,
            StreamResponse::ArtifactUpdate(_) => return None,
        };
        match state {
            TaskState::InputRequired | TaskState::AuthRequired => Some(Self::Interrupted),
            state => state.is_terminal().then_some(Self::Final),
        }
    }
}

impl<D> Stream for EventReader<D>
where
    D: Fn(&[u8]) -> Result<StreamResponse, DecodeError> + Unpin,
{
    type Item = Result<StreamResponse, A2AError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = ready!(self.poll_item(cx));
        match &item {
            Some(Ok(event)) => {
                self.is_empty = false;
                self.end = End::from_event(event);
            }
            _ => self.close(),
        }
        Poll::Ready(item)
    }
}

impl<D> EventReader<D>
where
    D: Fn(&[u8]) -> Result<StreamResponse, DecodeError> + Unpin,
{
    fn poll_item(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<StreamResponse, A2AError>>> {
        loop {
            match &mut self.state {
                State::Over => return Poll::Ready(None),
                State::Opening(body) => match ready!(Pin::new(body).poll_frame(cx)) {
                    None => return Poll::Ready(self.ended()),
                    Some(Err(e)) => return Poll::Ready(self.broken(SseError::from(e))),
                    Some(Ok(frame)) => self.open(frame.into_data().unwrap_or_default()),
                },
                State::Events(events) => match ready!(events.poll_next_unpin(cx)) {
                    None => return Poll::Ready(self.ended()),
                    Some(Ok(event)) => {
                        // The standard ignores an event without data (HTML, event streams).
                        let Some(data) = event.data.filter(|data| !data.is_empty()) else {
                            continue;
                        };
                        let event = (self.decode)(data.as_bytes());
                        let sent = &self.sent;
                        return Poll::Ready(Some(event.map_err(|e| e.into_event_error(sent))));
                    }
                    Some(Err(e)) => return Poll::Ready(self.broken(e)),
                },
                State::Json(whole) => {
                    let bytes = ready!(whole.as_mut().poll(cx));
                    self.state = State::Over;
                    let event = bytes.map_err(A2AError::from).and_then(|bytes| {
                        (self.decode)(&bytes).map_err(|e| e.into_event_error(&self.sent))
                    });
                    return Poll::Ready(Some(event));
                }
            }
        }
    }

    /// The first bytes tell events from JSON: no event begins with a brace.
    fn open(&mut self, data: Bytes) {
        let State::Opening(body) = std::mem::replace(&mut self.state, State::Over) else {
            return;
        };
        self.state = match data.iter().find(|byte| !byte.is_ascii_whitespace()) {
            None => State::Opening(body),
            Some(b'{') => State::Json(rest_of(data, body, self.limits.response).boxed()),
            Some(_) => {
                let events = sse::Events::new(body, self.limits.event).after(&data);
                State::Events(Box::new(events))
            }
        };
    }

    /// What the end of the answer means.
    fn ended(&self) -> Option<Result<StreamResponse, A2AError>> {
        let why = match self.end {
            _ if self.is_empty => "the stream ended before its first event",
            None if self.ends_with_connection => {
                "the stream's connection ended before its task did"
            }
            _ => return None,
        };
        Some(Err(cut(why).into()))
    }

    /// What an error in the middle means.
    fn broken(&self, error: SseError) -> Option<Result<StreamResponse, A2AError>> {
        let failure = match error {
            // There was nothing more to say.
            SseError::Client(_) if self.end == Some(End::Final) => return None,
            SseError::Client(_) | SseError::Cut => cut(&error.to_string()),
            SseError::TooLong { .. } => Error::new(ErrorKind::TooLong, error.to_string()),
            SseError::Silent(_) => {
                Error::new(ErrorKind::TimedOut, error.to_string()).with_processed(true)
            }
            _ => Error::new(ErrorKind::NotA2a, error.to_string()),
        };
        Some(Err(failure.into()))
    }
}

impl<D> EventReader<D> {
    /// Reads no further. On HTTP/1.1 the connection is kept if there is nothing to wait for: the
    /// rest of the stream is read in the background.
    fn close(&mut self) {
        if let State::Events(events) = std::mem::replace(&mut self.state, State::Over)
            && self.is_h1
            && self.end.is_some()
            && let Some(rest) = events.into_rest()
        {
            rest.drain_in_background();
        }
    }
}

impl<D> Drop for EventReader<D> {
    fn drop(&mut self) {
        self.close();
    }
}

fn cut(why: &str) -> Error {
    let message = format!("{why}; if there is a task, it goes on: subscribe to it");
    Error::new(ErrorKind::StreamCut, message)
}

async fn rest_of(begun: Bytes, body: Body, limit: usize) -> Result<Vec<u8>, Error> {
    let Some(room) = limit.checked_sub(begun.len()) else {
        let message = format!("the answer has more than {limit} bytes");
        return Err(Error::new(ErrorKind::TooLong, message));
    };
    let rest = endpoint::whole(body, room).await?;
    Ok([&begun, &*rest].concat())
}
