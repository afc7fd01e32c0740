//! An event stream's bytes as lines, within bounds.
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

/// Why there are no more lines, other than that the stream ended between two events.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinesError {
    /// An event is longer than allowed.
    #[error("the server sent an event of more than {limit} bytes")]
    TooLong {
        /// In bytes.
        limit: usize,
    },
    /// Bytes that are not UTF-8.
    #[error("the event stream holds bytes that are not UTF-8")]
    InvalidUtf8,
    /// Nothing came for as long as this.
    #[error("the event stream said nothing for {0:?}")]
    Silent(Duration),
    /// The body ended, as it seems properly, in the middle of an event, which is lost.
    #[error("the event stream ended in the middle of an event")]
    Cut,
    /// The body ended before its announced end.
    #[error(transparent)]
    Client(#[from] bowline_client::Error),
}

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

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(limit: usize, chunks: &[&[u8]]) -> Result<String, LinesError> {
        let mut splitter = Splitter::new(limit, Retry::new());
        let mut lines = VecDeque::new();
        for chunk in chunks {
            splitter.add(chunk, &mut lines)?;
        }
        Ok(lines.into_iter().map(Result::unwrap).collect())
    }

    #[test]
    fn lines_end_alike_whatever_ends_them_and_however_they_are_cut() {
        for end in ["\n", "\r", "\r\n"] {
            let text = format!("a{end}{end}: b{end}{end}é{end}");
            for cut in 0..=text.len() {
                let (one, two) = text.as_bytes().split_at(cut);
                assert_eq!(
                    lines(100, &[one, two]).unwrap(),
                    "a\n\n: b\n\né\n",
                    "{end:?} cut at {cut}"
                );
            }
        }
    }

    #[test]
    fn an_event_may_be_as_long_as_the_limit_and_no_longer() {
        assert!(lines(9, &[b"data: abc\n\n"]).is_ok());
        assert!(matches!(
            lines(8, &[b"data: abc\n\n"]),
            Err(LinesError::TooLong { .. })
        ));
        assert!(lines(18, &[b"data: a\n", b"data: abcd\n\n"]).is_ok());
        assert!(matches!(
            lines(17, &[b"data: a\n", b"data: abcd\n\n"]),
            Err(LinesError::TooLong { .. })
        ));
        let two = b"data: abc\n\ndata: abc\n\n";
        assert!(
            lines(9, &[two]).is_ok(),
            "each event is measured for itself"
        );
    }

    #[test]
    fn what_never_ends_is_over_the_limit_at_some_point_and_comments_do_not_add_up() {
        assert!(matches!(
            lines(100, &[b"data: x".as_slice(); 20]),
            Err(LinesError::TooLong { .. })
        ));
        assert!(matches!(
            lines(100, &[b"x\n".as_slice(); 60]),
            Err(LinesError::TooLong { .. })
        ));
        assert!(matches!(
            lines(100, &[b": x".as_slice(); 50]),
            Err(LinesError::TooLong { .. })
        ));
        assert!(lines(9, &[b": ping\n".as_slice(); 50]).is_ok());
    }

    #[tokio::test]
    async fn who_reads_what_never_has_to_be_waited_for_lets_others_run() {
        let mut lines = Lines {
            body: None,
            splitter: Splitter::new(100, Retry::new()),
            silence: None,
            ready: (0..10_000).map(|_| Ok(": ping\n".to_owned())).collect(),
        };
        let read = std::future::poll_fn(|cx| {
            let mut read = 0;
            while let Poll::Ready(Some(_)) = Pin::new(&mut lines).poll_next(cx) {
                read += 1;
            }
            Poll::Ready(read)
        });
        let read = read.await;
        assert!(read < 10_000, "{read} lines without a pause");
    }

    #[test]
    fn bytes_that_are_no_utf8_are_an_error_at_the_line_s_end() {
        assert!(matches!(
            lines(100, &[b"data: \xc3", b"\n"]),
            Err(LinesError::InvalidUtf8)
        ));
        assert!(lines(100, &[b"data: \xc3", b"\xa9\n"]).is_ok());
    }

    #[test]
    fn an_end_between_events_is_one_and_any_other_is_a_cut() {
        for (text, is_cut) in [
            ("", false),
            ("data: a\n\n", false),
            ("data: a\r\n\r\n", false),
            ("data: a\n\n: ping\n", false),
            ("data: a\n\n\n\n", false),
            ("data: a\n", true),
            ("data: a", true),
            ("data: a\n\nd", true),
            ("{\"no\": \"event\"}", true),
        ] {
            let mut splitter = Splitter::new(100, Retry::new());
            splitter.add(text.as_bytes(), &mut VecDeque::new()).unwrap();
            assert_eq!(splitter.is_within_event(), is_cut, "{text:?}");
        }
    }

    #[test]
    fn one_byte_order_mark_is_taken_off_and_no_more() {
        assert_eq!(
            lines(100, &[b"\xef\xbb", b"\xbfdata: a\n"]).unwrap(),
            "data: a\n"
        );
        let two = b"\xef\xbb\xbf\xef\xbb\xbfa\n\xef\xbb\xbfb\n";
        assert_eq!(lines(100, &[two]).unwrap(), "\u{feff}a\n\u{feff}b\n");
    }

    #[test]
    fn retry_counts_without_data_and_only_if_it_is_a_number() {
        let retry = Retry::new();
        let mut splitter = Splitter::new(100, retry.clone());
        for (line, pause) in [
            ("retry: soon\n", None),
            ("retry: +7\n", None),
            ("retry: 250\n\n", Some(250)),
            ("retry:7\n", Some(7)),
            ("retry: -1\n", Some(7)),
            ("retry: 99999999999999999999999\n", Some(7)),
        ] {
            splitter.add(line.as_bytes(), &mut VecDeque::new()).unwrap();
            assert_eq!(retry.pause(), pause.map(Duration::from_millis), "{line}");
        }
    }
}
