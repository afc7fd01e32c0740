//! Reads responses that are event streams.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bowline_client::Body;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::Version;
use http_body::Frame;
use rmcp::transport::streamable_http_client::SseError;
use serde::Deserialize;
use serde::de::IgnoredAny;
use sse_stream::{Sse, SseStream};
use tokio::time::Instant;

use super::request::can_resume_after;
use super::resume_limit::{ResumeLimiter, ResumePoint, SHORT, StreamFailure};
use super::stream_end::StreamEndStats;
use crate::error::Cause;
use crate::request_bound::RequestBoundPolicy;
use crate::{Error, ErrorKind};

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
        let has_response = Arc::new(AtomicBool::new(false));
        let bounded = BoundedBody {
            body: Some(body),
            meter: EventMeter::new(self.max_event),
            has_response: has_response.clone(),
            // On HTTP/2 only the stream is cancelled; the connection stays open.
            ends: (version < Version::HTTP_2).then(|| self.ends.clone()),
        };
        EventReader {
            source: Some(SseStream::new(bounded)),
            has_response,
            opened: Instant::now(),
            is_empty: true,
            context: self,
        }
    }
}

/// An event stream that is being read.
pub(super) struct EventReader {
    /// `None` after the end or an error: dropping the source returns or cancels the connection.
    source: Option<SseStream<BoundedBody>>,
    has_response: Arc<AtomicBool>,
    opened: Instant,
    is_empty: bool,
    context: StreamContext,
}

impl Stream for EventReader {
    type Item = Result<Sse, SseError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(events) = &mut self.source else {
            return Poll::Ready(None);
        };
        let item = match ready!(events.poll_next_unpin(cx)) {
            // rmcp would try for ever to resume after such an event.
            Some(Ok(Sse { id: Some(id), .. })) if !can_resume_after(&id) => Some(Err(
                SseError::Body(Box::new(Error::from(Cause::InvalidId("event id")))),
            )),
            item => item,
        };
        match &item {
            Some(Ok(event)) => self.note_event(event),
            Some(Err(e)) => self.note_end(content_failure(e)),
            None => self.note_end(None),
        }
        Poll::Ready(item)
    }
}

impl EventReader {
    fn note_event(&mut self, event: &Sse) {
        self.is_empty = false;
        let context = &mut self.context;
        if let Some(id) = &event.id {
            context.resume_point = Some(
                context
                    .resume_limiter
                    .point(context.session_id.as_deref(), Some(id)),
            );
        }
        if let Some(data) = &event.data
            && is_response(data)
        {
            self.has_response.store(true, Ordering::Relaxed);
            if let Some(tools) = &context.tools {
                tools.record(data.as_bytes());
            }
        }
    }

    fn note_end(&mut self, failure: Option<StreamFailure>) {
        self.source = None;
        let has_response = self.has_response.load(Ordering::Relaxed);
        let Some(point) = self.context.resume_point.filter(|_| !has_response) else {
            return;
        };
        let limiter = &self.context.resume_limiter;
        if let Some(failure) = failure {
            limiter.add(point, failure);
        } else if self.opened.elapsed() >= SHORT {
            limiter.reset(point);
        } else {
            limiter.add(
                point,
                if self.is_empty {
                    StreamFailure::Empty
                } else {
                    StreamFailure::Short
                },
            );
        }
    }
}

/// The failure, if it lies in what the server sent and not in the connection: a resumed stream
/// would have it too.
fn content_failure(error: &SseError) -> Option<StreamFailure> {
    match error {
        SseError::Body(e) => {
            let own = e.downcast_ref::<Error>();
            own.is_some_and(|e| e.kind() == ErrorKind::EventTooLong)
                .then_some(StreamFailure::TooLong)
        }
        _ => Some(StreamFailure::Unreadable),
    }
}

/// Whether an event is a JSON-RPC response, the last message that the stream of a POST brings.
fn is_response(data: &str) -> bool {
    #[derive(Deserialize)]
    struct Shape {
        method: Option<IgnoredAny>,
        result: Option<IgnoredAny>,
        error: Option<IgnoredAny>,
    }
    // Cheaper than parsing, and enough to rule out most events.
    if !data.contains("\"result\"") && !data.contains("\"error\"") {
        return false;
    }
    let shape = serde_json::from_str::<Shape>(data);
    shape.is_ok_and(|shape| {
        shape.method.is_none() && (shape.result.is_some() || shape.error.is_some())
    })
}

/// A body in which no event is longer than a limit.
struct BoundedBody {
    /// `None` only while it is dropped.
    body: Option<Body>,
    meter: EventMeter,
    has_response: Arc<AtomicBool>,
    ends: Option<StreamEndStats>,
}

impl http_body::Body for BoundedBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let Some(frame) = ready!(Pin::new(body).poll_frame(cx)) else {
            return Poll::Ready(None);
        };
        let frame = frame.map_err(Error::from)?;
        if let Some(data) = frame.data_ref()
            && let Err(e) = self.meter.add(data)
        {
            // The rest of such a stream is not read.
            self.ends = None;
            return Poll::Ready(Some(Err(e)));
        }
        Poll::Ready(Some(Ok(frame)))
    }
}

impl Drop for BoundedBody {
    fn drop(&mut self) {
        if let (Some(body), Some(ends)) = (self.body.take(), self.ends.take())
            && self.has_response.load(Ordering::Relaxed)
        {
            ends.read_rest(body);
        }
    }
}

/// Measures events as their bytes come: how much a parser must keep of an event that has not ended.
struct EventMeter {
    limit: usize,
    /// The event's complete lines. Comments are not kept.
    lines: usize,
    /// The line that has not ended.
    line: usize,
    is_comment: bool,
    after_cr: bool,
}

impl EventMeter {
    fn new(limit: usize) -> Self {
        Self {
            limit,
            lines: 0,
            line: 0,
            is_comment: false,
            after_cr: false,
        }
    }

    fn add(&mut self, data: &[u8]) -> Result<(), Error> {
        for &byte in data {
            let ends_crlf = std::mem::replace(&mut self.after_cr, byte == b'\r') && byte == b'\n';
            match byte {
                _ if ends_crlf => {}
                b'\r' | b'\n' => self.end_line(),
                _ => {
                    self.is_comment = if self.line == 0 {
                        byte == b':'
                    } else {
                        self.is_comment
                    };
                    self.line += 1;
                }
            }
            if self.lines + self.line > self.limit {
                return Err(Cause::EventTooLong { limit: self.limit }.into());
            }
        }
        Ok(())
    }

    fn end_line(&mut self) {
        match self.line {
            // An empty line ends the event.
            0 => self.lines = 0,
            _ if self.is_comment => {}
            // Its end counts too: data lines are joined by one.
            line => self.lines += line + 1,
        }
        self.line = 0;
    }
}

#[cfg(test)]
mod tests;
