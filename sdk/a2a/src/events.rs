//! Answers that are streams: server-sent events, each of which becomes a [`StreamResponse`].

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use a2a::{A2AError, StreamResponse, TaskState};
use bowline_client::Body;
use bowline_transport::head::has_media_type;
use bowline_transport::lines::{Lines, LinesError, Retry};
use bytes::Bytes;
use eventsource_stream::{EventStream, EventStreamError};
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, Stream, StreamExt};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use http::response::Parts;
use http::{HeaderMap, Version};
use http_body::Body as _;
use tokio::time::{Sleep, sleep};

use crate::decode::DecodeError;
use crate::endpoint;
use crate::error::{Error, ErrorKind};

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
    match fields.contains_key(CONTENT_TYPE) {
        true => has_media_type(fields, EVENT_STREAM),
        false => !body.is_end_stream(),
    }
}

/// What is allowed of a stream, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Longest {
    pub(crate) event: usize,
    /// One answer in place of events.
    pub(crate) answer: usize,
}

/// The events of an answer, each of which `read` reads. Dropping them cancels the rest at once; but
/// once there is nothing to wait for, an HTTP/1.1 connection is kept.
///
/// A stream that ends where its answer ends is over. One that ends otherwise, or in the middle of
/// an event, ends in an error: `StreamCut`.
pub(crate) fn events<R>(head: &Parts, body: Body, longest: Longest, read: R) -> Events
where
    R: Fn(&[u8]) -> Result<StreamResponse, DecodeError> + Send + Unpin + 'static,
{
    let reading = Reading {
        state: State::Opening(body),
        longest,
        read,
        is_h1: head.version < Version::HTTP_2,
        ends_with_connection: ends_with_connection(head),
        is_empty: true,
        end: None,
        is_last: Arc::default(),
    };
    match reading.is_h1 {
        true => Box::pin(Holding {
            reading,
            held: None,
            after: None,
        }),
        false => Box::pin(reading),
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

struct Reading<R> {
    state: State,
    longest: Longest,
    read: R,
    is_h1: bool,
    ends_with_connection: bool,
    /// No event has come.
    is_empty: bool,
    /// What the last event means for what may follow.
    end: Option<End>,
    /// The same, for the stream's own body: there is nothing to wait for.
    is_last: Arc<AtomicBool>,
}

enum State {
    /// Nothing has come. A server may answer with JSON and say that it is a stream.
    Opening(Body),
    Events(Box<EventStream<Kept>>),
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
    fn of(event: &StreamResponse) -> Option<Self> {
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

impl<R> Stream for Reading<R>
where
    R: Fn(&[u8]) -> Result<StreamResponse, DecodeError> + Unpin,
{
    type Item = Result<StreamResponse, A2AError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = ready!(self.poll_item(cx));
        match &item {
            Some(Ok(event)) => {
                self.is_empty = false;
                self.end = End::of(event);
                self.is_last.store(self.end.is_some(), Ordering::Relaxed);
            }
            _ => self.state = State::Over,
        }
        Poll::Ready(item)
    }
}

impl<R> Reading<R>
where
    R: Fn(&[u8]) -> Result<StreamResponse, DecodeError> + Unpin,
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
                    Some(Err(e)) => return Poll::Ready(self.broken(LinesError::from(e))),
                    Some(Ok(frame)) => self.open(frame.into_data().unwrap_or_default()),
                },
                State::Events(events) => match ready!(events.poll_next_unpin(cx)) {
                    None => return Poll::Ready(self.ended()),
                    Some(Ok(event)) if event.data.is_empty() => {}
                    Some(Ok(event)) => {
                        let read = (self.read)(event.data.as_bytes());
                        return Poll::Ready(Some(read.map_err(DecodeError::into_event_error)));
                    }
                    Some(Err(EventStreamError::Transport(e))) => {
                        return Poll::Ready(self.broken(e));
                    }
                    // Not for lines of valid UTF-8.
                    Some(Err(e)) => {
                        let message = format!("the stream's events cannot be read: {e:?}");
                        return Poll::Ready(Some(Err(
                            Error::new(ErrorKind::NotA2a, message).into()
                        )));
                    }
                },
                State::Json(whole) => {
                    let bytes = ready!(whole.as_mut().poll(cx));
                    self.state = State::Over;
                    let bytes = bytes.map_err(A2AError::from);
                    let read = bytes.and_then(|bytes| {
                        (self.read)(&bytes).map_err(DecodeError::into_event_error)
                    });
                    return Poll::Ready(Some(read));
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
            Some(b'{') => State::Json(rest_of(data, body, self.longest.answer).boxed()),
            Some(_) => {
                let lines = Lines::of(body, self.longest.event, None, Retry::new()).after(data);
                State::Events(Box::new(EventStream::new(Kept {
                    lines: Some(lines),
                    is_last: self.is_h1.then(|| self.is_last.clone()),
                })))
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
    fn broken(&self, error: LinesError) -> Option<Result<StreamResponse, A2AError>> {
        let failure = match error {
            // There was nothing more to say.
            LinesError::Client(_) if self.end == Some(End::Final) => return None,
            LinesError::Client(_) | LinesError::Cut => cut(&error.to_string()),
            LinesError::TooLong { .. } => Error::new(ErrorKind::TooLong, error.to_string()),
            LinesError::Silent(_) => {
                Error::new(ErrorKind::TimedOut, error.to_string()).with_processed(true)
            }
            _ => Error::new(ErrorKind::NotA2a, error.to_string()),
        };
        Some(Err(failure.into()))
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

/// Lines whose connection is kept, on HTTP/1.1, if they are dropped when there is nothing to wait
/// for.
struct Kept {
    lines: Option<Lines>,
    is_last: Option<Arc<AtomicBool>>,
}

impl Stream for Kept {
    type Item = Result<String, LinesError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut self.lines {
            Some(lines) => lines.poll_next_unpin(cx),
            None => Poll::Ready(None),
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let is_last = self
            .is_last
            .as_ref()
            .is_some_and(|is_last| is_last.load(Ordering::Relaxed));
        if is_last && let Some(rest) = self.lines.take().and_then(Lines::into_rest) {
            rest.drain_in_background();
        }
    }
}

/// Events of which the last comes with the stream's end.
struct Holding<R> {
    reading: Reading<R>,
    held: Option<(StreamResponse, Pin<Box<Sleep>>)>,
    /// What came while it was held.
    after: Option<Result<StreamResponse, A2AError>>,
}

impl<R> Stream for Holding<R>
where
    R: Fn(&[u8]) -> Result<StreamResponse, DecodeError> + Unpin,
{
    type Item = Result<StreamResponse, A2AError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(after) = self.after.take() {
            return Poll::Ready(Some(after));
        }
        if self.held.is_none() {
            match ready!(self.reading.poll_next_unpin(cx)) {
                Some(Ok(event)) if self.reading.end.is_some() => {
                    self.held = Some((event, Box::pin(sleep(HOLD))));
                }
                other => return Poll::Ready(other),
            }
        }
        match self.reading.poll_next_unpin(cx) {
            Poll::Ready(after) => self.after = after,
            Poll::Pending => {
                if let Some((_, time)) = &mut self.held {
                    ready!(time.as_mut().poll(cx));
                }
            }
        }
        Poll::Ready(self.held.take().map(|(event, _)| Ok(event)))
    }
}
