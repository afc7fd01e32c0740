//! Reads responses that are event streams.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bowline_http_client::Body;
use bowline_transport::redact::SentTokens;
use bowline_transport::sse::{Event, Events, SseError as ReadError};
use futures_util::{Stream, StreamExt};
use http::Version;
use rmcp::transport::streamable_http_client::SseError;
use serde::Deserialize;
use serde::de::IgnoredAny;
use sse_stream::Sse;
use tokio::time::Instant;

use super::request::can_resume_after;
use super::resume_limit::{ResumeLimiter, ResumePoint, SHORT, StreamFailure};
use super::stream_end::StreamEndStats;
use crate::Error;
use crate::error::Cause;
use crate::redact::RedactMessage;
use crate::request_bound::RequestBoundPolicy;

/// What is known about an event stream before its response head has come.
pub(super) struct StreamContext {
    pub(super) session_id: Option<Arc<str>>,
    /// Where the stream would be resumed if it broke now. `None` while it could not be resumed: the
    /// response to a POST has no event id yet.
    pub(super) resume_point: Option<ResumePoint>,
    /// Maximum length of an event in bytes.
    pub(super) max_event: usize,
    pub(super) resume_limiter: ResumeLimiter,
    pub(super) ends: StreamEndStats,
    pub(super) sent: SentTokens,
    /// Set where the stream may bring a list of tools that the policy needs.
    pub(super) tools: Option<ToolRecorder>,
}

/// Records the tools that the server at an endpoint lists.
#[derive(Clone)]
pub(super) struct ToolRecorder {
    pub(super) policy: RequestBoundPolicy,
    pub(super) endpoint: Arc<str>,
}

impl ToolRecorder {
    pub(super) fn record(&self, response: &[u8]) {
        self.policy.record_tools(&self.endpoint, response);
    }
}

impl StreamContext {
    /// The events of `body`, to the first error. Dropping the stream cancels the rest at once; but
    /// once the JSON-RPC response has come, an HTTP/1.1 connection is kept.
    pub(super) fn open(self, body: Body, version: Version) -> EventReader {
        EventReader {
            events: Some(Events::new(body, self.max_event)),
            has_response: false,
            // On HTTP/2 only the stream is cancelled; the connection stays open.
            reads_rest: version < Version::HTTP_2,
            opened: Instant::now(),
            is_empty: true,
            context: self,
        }
    }
}

/// An event stream that is being read.
pub(super) struct EventReader {
    /// `None` after the end or an error: the connection is returned, or cancelled, at that point.
    events: Option<Events>,
    has_response: bool,
    reads_rest: bool,
    opened: Instant,
    is_empty: bool,
    context: StreamContext,
}

impl Stream for EventReader {
    type Item = Result<Sse, SseError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(events) = &mut self.events else {
            return Poll::Ready(None);
        };
        let failure = match ready!(events.poll_next_unpin(cx)) {
            Some(Ok(event)) => {
                // rmcp would try for ever to resume after such an event.
                if event.id.as_deref().is_none_or(can_resume_after) {
                    return Poll::Ready(Some(Ok(self.convert(event))));
                }
                self.note_end(None);
                SseError::Body(Box::new(Error::from(Cause::InvalidId("event id"))))
            }
            // As in rmcp's own reader, a partial event at the end is dropped.
            None | Some(Err(ReadError::Cut)) => {
                self.note_end(None);
                return Poll::Ready(None);
            }
            Some(Err(e)) => {
                self.note_end(content_failure(&e));
                rmcp_error(e)
            }
        };
        Poll::Ready(Some(Err(failure)))
    }
}

impl EventReader {
    fn convert(&mut self, event: Event) -> Sse {
        self.is_empty = false;
        let context = &mut self.context;
        if let Some(id) = &event.id {
            context.resume_point = Some(
                context
                    .resume_limiter
                    .point(context.session_id.as_deref(), Some(id)),
            );
        }
        let mut data = event.data;
        if let Some(text) = &mut data
            && let Some(response) = Response::parse(text)
        {
            self.has_response = true;
            if let Some(tools) = &context.tools {
                tools.record(text.as_bytes());
            }
            if response == Response::Error
                && let Some(redacted) = context.sent.redact_json(text)
            {
                *text = redacted;
            }
        }
        Sse {
            event: Some(event.event).filter(|name| name != "message"),
            data,
            id: event.id,
            retry: event
                .retry
                .map(|retry| u64::try_from(retry.as_millis()).unwrap_or(u64::MAX)),
        }
    }

    fn note_end(&mut self, failure: Option<StreamFailure>) {
        self.events = None;
        let Some(point) = self.context.resume_point.filter(|_| !self.has_response) else {
            return;
        };
        let limiter = &self.context.resume_limiter;
        if let Some(failure) = failure {
            limiter.add(point, failure);
        } else if self.opened.elapsed() >= SHORT {
            limiter.reset(point);
        } else if self.is_empty {
            limiter.add(point, StreamFailure::Empty);
        } else {
            limiter.add(point, StreamFailure::Short);
        }
    }
}

impl Drop for EventReader {
    fn drop(&mut self) {
        if let Some(rest) = self.events.take().and_then(Events::into_rest)
            && self.has_response
            && self.reads_rest
        {
            self.context.ends.clone().read_rest(rest);
        }
    }
}

/// The failure, if it lies in what the server sent and not in the connection: a resumed stream
/// would have it too.
fn content_failure(error: &ReadError) -> Option<StreamFailure> {
    match error {
        ReadError::TooLong { .. } => Some(StreamFailure::TooLong),
        _ => None,
    }
}

/// The error as rmcp's own reader has it.
fn rmcp_error(error: ReadError) -> SseError {
    let own = match error {
        ReadError::TooLong { limit } => Error::from(Cause::EventTooLong { limit }),
        ReadError::Client(e) => e.into(),
        _ => return SseError::InvalidLine,
    };
    SseError::Body(Box::new(own))
}

/// A JSON-RPC response, the last message that the stream of a POST brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Response {
    Result,
    Error,
}

impl Response {
    fn parse(data: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Shape {
            method: Option<IgnoredAny>,
            result: Option<IgnoredAny>,
            error: Option<IgnoredAny>,
        }
        // Cheaper than parsing, and enough to rule out most events.
        if !data.contains("\"result\"") && !data.contains("\"error\"") {
            return None;
        }
        let shape: Shape = serde_json::from_str(data).ok()?;
        match shape {
            Shape {
                method: Some(_), ..
            } => None,
            Shape { error: Some(_), .. } => Some(Self::Error),
            Shape {
                result: Some(_), ..
            } => Some(Self::Result),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
