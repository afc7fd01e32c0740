//! Answers that are event streams.

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

use super::holding::Endings;
use super::request::can_resume_after;
use super::strikes::{Place, SHORT, Strike, Strikes};
use crate::claims::Claims;
use crate::error::Cause;
use crate::{Error, ErrorKind};

/// What is known of an event stream before the answer has come.
pub(super) struct Opening {
    pub(super) session_id: Option<Arc<str>>,
    /// Where the stream would be resumed if it broke now. `None` while it could not be: one that
    /// answers a POST has no event id yet.
    pub(super) place: Option<Place>,
    /// In bytes, for one event.
    pub(super) limit: usize,
    pub(super) strikes: Strikes,
    pub(super) endings: Endings,
    /// To learn from a list of tools, and whose.
    pub(super) learning: Option<Learning>,
}

/// Where a list of tools is expected.
#[derive(Clone)]
pub(super) struct Learning {
    pub(super) claims: Claims,
    pub(super) endpoint: Arc<str>,
}

impl Learning {
    pub(super) fn learn(&self, response: &[u8]) {
        self.claims.learn(&self.endpoint, response);
    }
}

impl Opening {
    /// The events of `body`, to the first error. Dropping them cancels the rest at once; but once
    /// the response has come, an HTTP/1.1 connection is kept.
    pub(super) fn open(self, body: Body, version: Version) -> Reading {
        let answered = Arc::new(AtomicBool::new(false));
        let bounded = Bounded {
            body: Some(body),
            measure: Measure::new(self.limit),
            answered: answered.clone(),
            // Of an HTTP/2 connection nothing but the stream goes.
            endings: (version < Version::HTTP_2).then(|| self.endings.clone()),
        };
        Reading {
            source: Some(SseStream::new(bounded)),
            answered,
            opened: Instant::now(),
            is_empty: true,
            opening: self,
        }
    }
}

/// An event stream that is being read.
pub(super) struct Reading {
    /// `None` after the end or an error; the connection goes back, or is cancelled, right then.
    source: Option<SseStream<Bounded>>,
    answered: Arc<AtomicBool>,
    opened: Instant,
    is_empty: bool,
    opening: Opening,
}

impl Stream for Reading {
    type Item = Result<Sse, SseError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(events) = &mut self.source else {
            return Poll::Ready(None);
        };
        let item = match ready!(events.poll_next_unpin(cx)) {
            // rmcp would try to resume after it for ever.
            Some(Ok(Sse { id: Some(id), .. })) if !can_resume_after(&id) => Some(Err(
                SseError::Body(Box::new(Error::from(Cause::InvalidId("event id")))),
            )),
            item => item,
        };
        match &item {
            Some(Ok(event)) => self.came(event),
            Some(Err(e)) => self.ended(flaw(e)),
            None => self.ended(None),
        }
        Poll::Ready(item)
    }
}

impl Reading {
    fn came(&mut self, event: &Sse) {
        self.is_empty = false;
        let opening = &mut self.opening;
        if let Some(id) = &event.id {
            opening.place = Some(
                opening
                    .strikes
                    .place(opening.session_id.as_deref(), Some(id)),
            );
        }
        if let Some(data) = &event.data
            && is_response(data)
        {
            self.answered.store(true, Ordering::Relaxed);
            if let Some(learning) = &opening.learning {
                learning.learn(data.as_bytes());
            }
        }
    }

    fn ended(&mut self, flaw: Option<Strike>) {
        self.source = None;
        let answered = self.answered.load(Ordering::Relaxed);
        let Some(place) = self.opening.place.filter(|_| !answered) else {
            return;
        };
        let strikes = &self.opening.strikes;
        if let Some(flaw) = flaw {
            strikes.add(place, flaw);
        } else if self.opened.elapsed() >= SHORT {
            strikes.forget(place);
        } else {
            strikes.add(
                place,
                if self.is_empty {
                    Strike::Empty
                } else {
                    Strike::Short
                },
            );
        }
    }
}

/// What is wrong with what the server sent, and not with the connection: it would be there again
/// the next time.
fn flaw(error: &SseError) -> Option<Strike> {
    match error {
        SseError::Body(e) => {
            let own = e.downcast_ref::<Error>();
            own.is_some_and(|e| e.kind() == ErrorKind::EventTooLong)
                .then_some(Strike::TooLong)
        }
        _ => Some(Strike::Unreadable),
    }
}

/// Whether an event is a JSON-RPC response: what a POST was for, and the last that its stream
/// brings.
fn is_response(data: &str) -> bool {
    #[derive(Deserialize)]
    struct Shape {
        method: Option<IgnoredAny>,
        result: Option<IgnoredAny>,
        error: Option<IgnoredAny>,
    }
    // Most events are none, and this is cheaper to see.
    if !data.contains("\"result\"") && !data.contains("\"error\"") {
        return false;
    }
    let shape = serde_json::from_str::<Shape>(data);
    shape.is_ok_and(|shape| {
        shape.method.is_none() && (shape.result.is_some() || shape.error.is_some())
    })
}

/// A body in which no event is longer than a limit.
struct Bounded {
    /// Until it is dropped.
    body: Option<Body>,
    measure: Measure,
    answered: Arc<AtomicBool>,
    endings: Option<Endings>,
}

impl http_body::Body for Bounded {
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
            && let Err(e) = self.measure.add(data)
        {
            // What is that long is not read to its end.
            self.endings = None;
            return Poll::Ready(Some(Err(e)));
        }
        Poll::Ready(Some(Ok(frame)))
    }
}

impl Drop for Bounded {
    fn drop(&mut self) {
        if let (Some(body), Some(endings)) = (self.body.take(), self.endings.take())
            && self.answered.load(Ordering::Relaxed)
        {
            endings.await_end_of(body);
        }
    }
}

/// Measures events as their bytes come: what a parser must keep of an event that has not ended.
struct Measure {
    limit: usize,
    /// The event's complete lines. Comments are not kept.
    lines: usize,
    /// The line that has not ended.
    line: usize,
    is_comment: bool,
    after_cr: bool,
}

impl Measure {
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
mod tests {
    use super::*;

    fn fits(limit: usize, chunks: &[&str]) -> bool {
        let mut measure = Measure::new(limit);
        chunks
            .iter()
            .all(|chunk| measure.add(chunk.as_bytes()).is_ok())
    }

    #[test]
    fn a_response_has_a_result_or_an_error_and_no_method() {
        for (data, expected) in [
            (r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, true),
            (
                r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":""}}"#,
                true,
            ),
            (
                r#"{"jsonrpc":"2.0","method":"m","params":{"result":1}}"#,
                false,
            ),
            (r#"{"jsonrpc":"2.0","id":1,"method":"m","result":1}"#, false),
            (r#"{"params":{"error":1}}"#, false),
            (r#""result""#, false),
            ("", false),
        ] {
            assert_eq!(is_response(data), expected, "{data}");
        }
    }

    #[test]
    fn an_event_may_be_as_long_as_the_limit_and_no_longer() {
        assert!(fits(9, &["data: ab\n\n"]));
        assert!(!fits(8, &["data: ab\n\n"]));
        assert!(fits(18, &["data: ab\ndata: ab\n\n"]));
        assert!(!fits(17, &["data: ab\ndata: ab\n\n"]));
    }

    #[test]
    fn every_event_is_measured_for_itself_whatever_ends_its_lines() {
        for end in ["\n", "\r", "\r\n"] {
            let event = format!("data: ab{end}{end}");
            assert!(fits(9, &[&event, &event, &event]), "{end:?}");
            let whole = event.repeat(3);
            for cut in 0..whole.len() {
                assert!(
                    fits(9, &[&whole[..cut], &whole[cut..]]),
                    "{end:?} cut at {cut}"
                );
            }
            let two_lines = format!("data: ab{end}data: ab{end}");
            assert!(!fits(9, &[&two_lines]), "{end:?}");
        }
    }

    #[test]
    fn a_line_without_an_end_is_over_the_limit_at_some_point() {
        assert!(!fits(100, &["data: x"; 20]));
        assert!(!fits(100, &[": x"; 50]));
    }

    #[test]
    fn comments_do_not_add_up_and_do_not_end_an_event() {
        assert!(fits(9, &[": ping\n"; 50]));
        assert!(!fits(17, &["data: ab\n", ": ping\n", "data: ab\n"]));
    }
}
