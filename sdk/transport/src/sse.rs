//! Event streams: the bytes of a response body as events, within bounds.
//!
//! Server-sent events are lines of UTF-8 (HTML, "server-sent events"). An empty line ends an event:
//!
//! ```text
//! bytes of the body         filter                          parser       event
//! ": ping\r\n"              (a comment, dropped)
//! "id: 7\r\ndata: {\r"      "id: 7\n" "data: {\n"
//! "\ndata: }\r\n\r\n"       "data: }\n" "\n"             -> one event -> id "7", data "{\n}"
//! "retry: 250\n\n"          "retry: 250\n" "data\n" "\n" -> one event -> retry 250 ms, no data
//! ```
//!
//! `eventsource-stream` parses the events, but nothing reaches it that it cannot cope with. The
//! filter in front of it cuts the bytes into lines, counts them, and drops what the standard
//! ignores. It works round these faults of version 0.2.3; each goes when its fault does:
//!
//! - A byte order mark at the start of the stream makes it panic
//!   (<https://github.com/jpopesculian/eventsource-stream/pull/10>): the filter removes it.
//! - It bounds neither a line nor an event, and bytes that are not UTF-8 pile up unread (no issue;
//!   the text of one is in `docs/src/upstream.md`): the filter counts, and decodes each line.
//! - It scans an unfinished line again with each piece of it, and copies what follows a line (no
//!   issue; same place): the filter hands over whole lines, one at a time.
//! - It says nothing of an `id` or a `retry` in an event without data, and repeats the last `id`
//!   with each event after it (both as browsers do; MCP needs to know which event had one): each
//!   event goes through a parser of its own, with an empty `data` line if it has none.
//! - It takes `retry: +7` for a number (no issue; same place): the filter drops that line.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bowline_http_client::Body;
use bytes::Bytes;
use eventsource_stream::EventStream;
use futures_util::{FutureExt, Stream, StreamExt, stream};
use tokio::task::coop;
use tokio::time::{Instant, Sleep, sleep};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// One event. It has data, or an id, or a retry time; one with none of them is no event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its type: `message`, unless the server named another.
    pub event: String,
    /// The id, if this very event has one. An empty one clears the last id.
    pub id: Option<String>,
    /// The data, its lines joined by line feeds. `None` if the event has no `data` line; a browser
    /// would not show such an event to a script.
    pub data: Option<String>,
    /// How long to wait before the stream is opened again.
    pub retry: Option<Duration>,
}

/// Why the stream failed. A stream that ends after a complete event has not.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SseError {
    /// An event is longer than allowed.
    #[error("the server sent an event of more than {limit} bytes")]
    TooLong {
        /// In bytes.
        limit: usize,
    },
    /// Nothing came for as long as this.
    #[error("the event stream said nothing for {0:?}")]
    Silent(Duration),
    /// The body ended in the middle of an event; the partial event is discarded.
    #[error("the event stream ended in the middle of an event")]
    Cut,
    /// The body ended before its announced end.
    #[error(transparent)]
    Client(#[from] bowline_http_client::Error),
}

/// The events of a body, to the first error. Dropping them cancels the rest of the body.
pub struct Events<B = Body> {
    /// `None` after the end and after an error.
    body: Option<B>,
    filter: Filter,
    silence: Option<Silence>,
    ready: VecDeque<Result<Event, SseError>>,
}

/// The longest time without a byte of the body.
struct Silence {
    limit: Duration,
    over: Pin<Box<Sleep>>,
}

impl<B> Events<B>
where
    B: http_body::Body<Data = Bytes, Error = bowline_http_client::Error> + Unpin,
{
    /// Reads events of at most `limit` bytes, the line ends between their lines included. A comment
    /// counts for itself.
    pub fn new(body: B, limit: usize) -> Self {
        Self {
            body: Some(body),
            filter: Filter::new(limit),
            silence: None,
            ready: VecDeque::new(),
        }
    }

    /// Fails with [`SseError::Silent`] if no byte comes for so long, from now on.
    #[must_use]
    pub fn silence(mut self, limit: Option<Duration>) -> Self {
        self.silence = limit.map(|limit| Silence {
            limit,
            over: Box::pin(sleep(limit)),
        });
        self
    }

    /// Puts bytes in front that were read off the body before.
    #[must_use]
    pub fn after(mut self, data: &[u8]) -> Self {
        self.take_in(Some(Ok(data)));
        self
    }

    /// What the server last said in `retry`, even if the event has not ended, or never will.
    pub fn retry(&self) -> Option<Duration> {
        self.filter.retry
    }

    /// What has not been read of the body; `None` once it has ended, or failed. Events that have
    /// been read and not taken are dropped.
    pub fn into_rest(self) -> Option<B> {
        self.body
    }

    fn take_in(&mut self, frame: Option<Result<&[u8], bowline_http_client::Error>>) {
        let end = match frame {
            Some(Ok(data)) => self.filter.add(data, &mut self.ready).err(),
            Some(Err(e)) => Some(e.into()),
            None if self.filter.is_within_event() => Some(SseError::Cut),
            None => {
                self.body = None;
                return;
            }
        };
        if let Some(error) = end {
            self.body = None;
            self.ready.push_back(Err(error));
        }
    }
}

impl<B> Stream for Events<B>
where
    B: http_body::Body<Data = Bytes, Error = bowline_http_client::Error> + Unpin,
{
    type Item = Result<Event, SseError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            // A server that sends without a pause, comments for one, would keep its reader from
            // ever looking at a clock.
            let budget = ready!(coop::poll_proceed(cx));
            if let Some(event) = self.ready.pop_front() {
                budget.made_progress();
                return Poll::Ready(Some(event));
            }
            let Self { body, silence, .. } = &mut *self;
            let Some(reading) = body else {
                return Poll::Ready(None);
            };
            let frame = match Pin::new(reading).poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    let Some(Silence { limit, over }) = silence else {
                        return Poll::Pending;
                    };
                    ready!(over.as_mut().poll(cx));
                    *body = None;
                    return Poll::Ready(Some(Err(SseError::Silent(*limit))));
                }
            };
            if let Some(Silence { limit, over }) = silence {
                over.as_mut().reset(Instant::now() + *limit);
            }
            budget.made_progress();
            // Trailers are ignored.
            let data = frame.map(|frame| frame.map(|frame| frame.into_data().unwrap_or_default()));
            match data {
                Some(Ok(data)) => self.take_in(Some(Ok(&data))),
                Some(Err(e)) => self.take_in(Some(Err(e))),
                None => self.take_in(None),
            }
        }
    }
}

impl<B> std::fmt::Debug for Events<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

/// Cuts bytes into lines, and lines into events, as they come.
struct Filter {
    limit: usize,
    /// The line that has not ended.
    line: Vec<u8>,
    /// Bytes of the event's complete lines, of those that are dropped too.
    event: usize,
    /// The event's fields, each a line with its end.
    fields: Vec<String>,
    has: Fields,
    /// The last retry time of the stream.
    retry: Option<Duration>,
    is_first: bool,
    after_cr: bool,
}

/// The fields that an event has so far, apart from its type.
#[derive(Default)]
struct Fields {
    data: bool,
    id: bool,
    retry: bool,
}

impl Filter {
    fn new(limit: usize) -> Self {
        Self {
            limit,
            line: Vec::new(),
            event: 0,
            fields: Vec::new(),
            has: Fields::default(),
            retry: None,
            is_first: true,
            after_cr: false,
        }
    }

    fn add(
        &mut self,
        mut data: &[u8],
        events: &mut VecDeque<Result<Event, SseError>>,
    ) -> Result<(), SseError> {
        while !data.is_empty() {
            // The second half of a CR LF that may be cut in two.
            if std::mem::take(&mut self.after_cr) && data[0] == b'\n' {
                data = &data[1..];
                continue;
            }
            let end = data.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
            let piece = &data[..end.unwrap_or(data.len())];
            if piece.len() > self.limit.saturating_sub(self.event + self.line.len()) {
                return Err(SseError::TooLong { limit: self.limit });
            }
            self.line.extend_from_slice(piece);
            let Some(end) = end else { return Ok(()) };
            self.after_cr = data[end] == b'\r';
            data = &data[end + 1..];
            events.extend(self.end_line().map(Ok));
        }
        Ok(())
    }

    /// Whether an event, or a comment, has begun and not ended.
    fn is_within_event(&self) -> bool {
        self.event > 0 || !self.line.is_empty()
    }

    /// Takes in the line that has ended. Returns the event that ends with it, if one does.
    fn end_line(&mut self) -> Option<Event> {
        let mut bytes = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.is_first) && bytes.starts_with(BYTE_ORDER_MARK) {
            bytes.drain(..BYTE_ORDER_MARK.len());
        }
        if bytes.is_empty() {
            self.event = 0;
            return self.end_event();
        }
        if bytes[0] != b':' {
            self.event += bytes.len() + 1;
            // The standard decodes with replacement: bytes that are not UTF-8 become U+FFFD.
            self.take_field(String::from_utf8_lossy(&bytes).into_owned());
        }
        None
    }

    fn take_field(&mut self, mut line: String) {
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "data" => self.has.data = true,
            "event" => {}
            "id" if value.contains('\0') => return,
            "id" => self.has.id = true,
            "retry" => {
                let is_number = value.bytes().all(|byte| byte.is_ascii_digit());
                let Some(milliseconds) = is_number.then(|| value.parse().ok()).flatten() else {
                    return;
                };
                self.retry = Some(Duration::from_millis(milliseconds));
                self.has.retry = true;
            }
            _ => return,
        }
        line.push('\n');
        self.fields.push(line);
    }

    fn end_event(&mut self) -> Option<Event> {
        let mut fields = std::mem::take(&mut self.fields);
        let has = std::mem::take(&mut self.has);
        if !(has.data || has.id || has.retry) {
            return None;
        }
        if !has.data {
            fields.push("data\n".to_owned());
        }
        fields.push("\n".to_owned());
        let parsed = parse(fields)?;
        Some(Event {
            event: parsed.event,
            id: has.id.then_some(parsed.id),
            data: has.data.then_some(parsed.data),
            retry: parsed.retry,
        })
    }
}

/// One event of whole lines. There is always one: the lines end with an empty one, and there is
/// data among them.
fn parse(lines: Vec<String>) -> Option<eventsource_stream::Event> {
    let lines = stream::iter(lines.into_iter().map(Ok::<_, Infallible>));
    let event = EventStream::new(lines).next().now_or_never()?;
    event?.ok()
}
