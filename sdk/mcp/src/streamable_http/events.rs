//! Answers that are event streams.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bowline_client::Body;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http_body::Frame;
use rmcp::transport::streamable_http_client::SseError;
use sse_stream::{Sse, SseStream};

use super::strikes::{Place, Strikes};
use crate::error::Cause;
use crate::{Error, Kind};

/// What is known of an event stream before the answer has come.
pub(super) struct Opening {
    pub(super) session_id: Option<Arc<str>>,
    /// Where the stream would be resumed if it broke now. `None` while it could not be: one that answers a POST has
    /// no event id yet.
    pub(super) place: Option<Place>,
    /// In octets, for one event.
    pub(super) limit: usize,
    pub(super) strikes: Strikes,
}

impl Opening {
    /// The events of `body`, to the first error. Dropping them cancels the rest at once.
    pub(super) fn open(self, body: Body) -> Reading {
        let measure = Measure::new(self.limit);
        Reading {
            source: Some(SseStream::new(Bounded { body, measure })),
            opening: self,
        }
    }
}

/// An event stream that is being read.
pub(super) struct Reading {
    /// `None` after the end or an error; the connection goes back, or is cancelled, right then.
    source: Option<SseStream<Bounded>>,
    opening: Opening,
}

impl Stream for Reading {
    type Item = Result<Sse, SseError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { source, opening } = &mut *self;
        let Some(events) = source else { return Poll::Ready(None) };
        let item = ready!(events.poll_next_unpin(cx));
        match &item {
            Some(Ok(Sse { id: Some(id), .. })) => {
                opening.place = Some(opening.strikes.place(opening.session_id.as_deref(), Some(id)));
            }
            Some(Ok(_)) => {}
            Some(Err(e)) => {
                *source = None;
                if let Some(place) = opening.place.filter(|_| is_in_the_data(e)) {
                    opening.strikes.add(place);
                }
            }
            None => *source = None,
        }
        Poll::Ready(item)
    }
}

/// Whether the error lies in what the server sent, so that it would be there again the next time, and not in the
/// connection.
fn is_in_the_data(error: &SseError) -> bool {
    match error {
        SseError::Body(e) => e
            .downcast_ref::<Error>()
            .is_some_and(|e| e.kind() == Kind::EventTooLong),
        _ => true,
    }
}

/// A body in which no event is longer than a limit.
struct Bounded {
    body: Body,
    measure: Measure,
}

impl http_body::Body for Bounded {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(cx)) else {
            return Poll::Ready(None);
        };
        let frame = frame.map_err(Error::from)?;
        if let Some(data) = frame.data_ref() {
            self.measure.add(data)?;
        }
        Poll::Ready(Some(Ok(frame)))
    }
}

/// Measures events as their octets come: what a parser must keep of an event that has not ended.
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
        for &octet in data {
            let ends_crlf = std::mem::replace(&mut self.after_cr, octet == b'\r') && octet == b'\n';
            match octet {
                _ if ends_crlf => {}
                b'\r' | b'\n' => self.end_line(),
                _ => {
                    self.is_comment = if self.line == 0 { octet == b':' } else { self.is_comment };
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
        chunks.iter().all(|chunk| measure.add(chunk.as_bytes()).is_ok())
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
                assert!(fits(9, &[&whole[..cut], &whole[cut..]]), "{end:?} cut at {cut}");
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
