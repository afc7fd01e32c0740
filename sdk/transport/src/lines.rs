//! An event stream's bytes as lines, within bounds: superseded by [`sse`](crate::sse). It goes once
//! `bowline-mcp` and `bowline-a2a` read their streams with that.
//!
//! `eventsource-stream` parses what comes out of here. It gets whole lines of valid UTF-8, because
//! of what it does with other input: bytes that are no UTF-8 pile up unread, a byte order mark at
//! the start makes it panic, a long line is scanned again with each piece of it, and `retry` counts
//! only in an event that has data.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bowline_client::Body;
use bytes::Bytes;
use futures_util::Stream;
use http_body::Body as _;
use tokio::task::coop;
use tokio::time::{Instant, Sleep, sleep};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

pub use crate::sse::SseError as LinesError;

/// What the server last said in `retry`. Clones share it.
#[derive(Clone, Debug)]
pub struct Retry(Arc<AtomicU64>);

impl Retry {
    const NONE: u64 = u64::MAX;

    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long to wait before the stream is opened again.
    pub fn pause(&self) -> Option<Duration> {
        match self.0.load(Ordering::Relaxed) {
            Self::NONE => None,
            milliseconds => Some(Duration::from_millis(milliseconds)),
        }
    }

    /// Anything but digits is ignored (HTML, "interpreting an event stream").
    fn note(&self, line: &str) {
        if let Some(value) = line.strip_prefix("retry:") {
            let value = value.strip_prefix(' ').unwrap_or(value);
            if value.bytes().all(|byte| byte.is_ascii_digit())
                && let Ok(milliseconds) = value.parse()
            {
                self.0.store(milliseconds, Ordering::Relaxed);
            }
        }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(Self::NONE)))
    }
}

/// The lines of a body, each ended by one line feed whatever ended it. Ends at the first error.
pub struct Lines {
    body: Option<Body>,
    splitter: Splitter,
    silence: Option<Silence>,
    ready: VecDeque<Result<String, LinesError>>,
}

/// How long the body may say nothing at all.
struct Silence {
    limit: Duration,
    over: Pin<Box<Sleep>>,
}

impl Lines {
    /// `limit`: bytes of one event, its line ends included; a comment counts for itself.
    /// `silence`: the longest time without any byte.
    pub fn of(body: Body, limit: usize, silence: Option<Duration>, retry: Retry) -> Self {
        Self {
            body: Some(body),
            splitter: Splitter::new(limit, retry),
            silence: silence.map(|limit| Silence {
                limit,
                over: Box::pin(sleep(limit)),
            }),
            // Something harmless, so that the parser never looks for a byte order mark.
            ready: VecDeque::from([Ok(":\n".to_owned())]),
        }
    }

    /// With bytes that were read off the body before.
    #[must_use]
    pub fn after(mut self, data: Bytes) -> Self {
        self.take_in(Some(Ok(data)));
        self
    }

    /// What has not been read of the body; `None` once it has ended. Lines that are ready are
    /// dropped.
    pub fn into_rest(self) -> Option<Body> {
        self.body
    }

    fn take_in(&mut self, frame: Option<Result<Bytes, bowline_client::Error>>) {
        let end = match frame {
            Some(Ok(data)) => self.splitter.add(&data, &mut self.ready).err(),
            Some(Err(e)) => Some(e.into()),
            None if self.splitter.is_within_event() => Some(LinesError::Cut),
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

impl Stream for Lines {
    type Item = Result<String, LinesError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // A server that sends without a pause, comments for one, would keep its reader from ever
        // looking at a clock.
        let budget = ready!(coop::poll_proceed(cx));
        loop {
            if let Some(line) = self.ready.pop_front() {
                budget.made_progress();
                return Poll::Ready(Some(line));
            }
            let Self { body, silence, .. } = &mut *self;
            let Some(reading) = body else {
                return Poll::Ready(None);
            };
            let frame = match (Pin::new(reading).poll_frame(cx), silence) {
                (Poll::Ready(frame), silence) => {
                    if let Some(Silence { limit, over }) = silence {
                        over.as_mut().reset(Instant::now() + *limit);
                    }
                    frame
                }
                (Poll::Pending, None) => return Poll::Pending,
                (Poll::Pending, Some(Silence { limit, over })) => {
                    ready!(over.as_mut().poll(cx));
                    *body = None;
                    return Poll::Ready(Some(Err(LinesError::Silent(*limit))));
                }
            };
            // Trailers are passed over.
            let data = frame.map(|frame| frame.map(|frame| frame.into_data().unwrap_or_default()));
            self.take_in(data);
        }
    }
}

/// Cuts bytes into lines as they come.
struct Splitter {
    limit: usize,
    retry: Retry,
    /// The line that has not ended.
    line: Vec<u8>,
    /// Bytes of the event's complete lines.
    event: usize,
    is_first: bool,
    after_cr: bool,
}

impl Splitter {
    fn new(limit: usize, retry: Retry) -> Self {
        Self {
            limit,
            retry,
            line: Vec::new(),
            event: 0,
            is_first: true,
            after_cr: false,
        }
    }

    fn add(
        &mut self,
        mut data: &[u8],
        lines: &mut VecDeque<Result<String, LinesError>>,
    ) -> Result<(), LinesError> {
        while !data.is_empty() {
            if std::mem::take(&mut self.after_cr) && data[0] == b'\n' {
                data = &data[1..];
                continue;
            }
            let end = data.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
            let piece = &data[..end.unwrap_or(data.len())];
            if piece.len() > self.limit.saturating_sub(self.event + self.line.len()) {
                return Err(LinesError::TooLong { limit: self.limit });
            }
            self.line.extend_from_slice(piece);
            let Some(end) = end else { return Ok(()) };
            self.after_cr = data[end] == b'\r';
            data = &data[end + 1..];
            lines.push_back(Ok(self.end_line()?));
        }
        Ok(())
    }

    /// Whether an event, or a comment, has begun and not ended.
    fn is_within_event(&self) -> bool {
        self.event > 0 || !self.line.is_empty()
    }

    fn end_line(&mut self) -> Result<String, LinesError> {
        let mut bytes = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.is_first) && bytes.starts_with(BYTE_ORDER_MARK) {
            bytes.drain(..BYTE_ORDER_MARK.len());
        }
        match bytes.first() {
            None => self.event = 0,
            Some(b':') => {}
            Some(_) => self.event += bytes.len() + 1,
        }
        let mut line = String::from_utf8(bytes).map_err(|_| LinesError::InvalidUtf8)?;
        self.retry.note(&line);
        line.push('\n');
        Ok(line)
    }
}
