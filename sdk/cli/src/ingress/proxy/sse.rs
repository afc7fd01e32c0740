//! Keep-alive comments in event streams (`text/event-stream`), between events only.

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{Response, StatusCode};

/// A comment, and the end of its line. A blank line is not needed: nothing is dispatched.
pub(super) const COMMENT: &[u8] = b":\n";

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Whether the response is an event stream.
pub(super) fn is_event_stream<B>(response: &Response<B>) -> bool {
    let Some(field) = response.headers().get(CONTENT_TYPE) else {
        return false;
    };
    let media_type = field.as_bytes().split(|&byte| byte == b';').next();
    media_type.is_some_and(|name| name.trim_ascii().eq_ignore_ascii_case(b"text/event-stream"))
}

/// Whether comments can be put into it: not into an encoding, nor where its length is announced.
pub(super) fn takes_comments<B>(response: &Response<B>) -> bool {
    let headers = response.headers();
    response.status() == StatusCode::OK
        && !headers.contains_key(CONTENT_LENGTH)
        && !headers.contains_key(CONTENT_ENCODING)
}

/// Follows an event stream, to know where an event ends.
#[derive(Debug)]
pub(super) struct Position {
    line: Line,
    /// How many bytes of a byte order mark at the start are still to be dropped, because a comment
    /// stands before it now.
    mark: Mark,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// Between two events, or before the first one.
    Between,
    /// The same, after a CR that an LF may follow.
    BetweenAfterCr,
    /// At the start of a line within an event.
    Start,
    /// The same, after a CR that an LF may follow.
    StartAfterCr,
    /// Within a line.
    Within,
}

#[derive(Debug)]
enum Mark {
    /// Nothing has been sent.
    Possible,
    /// A comment has been sent first, and this many bytes of the mark have come.
    Dropping(usize),
    Past,
}

impl Position {
    pub(super) fn new() -> Self {
        Self {
            line: Line::Between,
            mark: Mark::Possible,
        }
    }

    /// Whether a comment can be sent now.
    pub(super) fn is_between(&self) -> bool {
        matches!(self.line, Line::Between | Line::BetweenAfterCr)
    }

    pub(super) fn comment_sent(&mut self) {
        if matches!(self.mark, Mark::Possible) {
            self.mark = Mark::Dropping(0);
        }
    }

    /// Follows the next bytes, and returns what is to be sent.
    pub(super) fn follow(&mut self, mut bytes: Bytes) -> Bytes {
        if let Mark::Dropping(mut dropped) = self.mark {
            // A parser takes it for a mark at the very start only (HTML section 9.2.5).
            while let Some((expected, first)) = BYTE_ORDER_MARK.get(dropped).zip(bytes.first()) {
                if expected != first {
                    dropped = BYTE_ORDER_MARK.len();
                    break;
                }
                dropped += 1;
                bytes = bytes.slice(1..);
            }
            self.mark = match dropped {
                3.. => Mark::Past,
                some => Mark::Dropping(some),
            };
        } else if !bytes.is_empty() {
            self.mark = Mark::Past;
        }
        for byte in &bytes {
            self.line = self.line.after(*byte);
        }
        bytes
    }
}

impl Line {
    fn after(self, byte: u8) -> Self {
        match (byte, self) {
            // The LF of a CRLF.
            (b'\n', Self::BetweenAfterCr) => Self::Between,
            (b'\n', Self::StartAfterCr) => Self::Start,
            // A blank line ends the event.
            (b'\n', Self::Start | Self::Between) => Self::Between,
            (b'\n', Self::Within) => Self::Start,
            (b'\r', Self::Within) => Self::StartAfterCr,
            (b'\r', _) => Self::BetweenAfterCr,
            _ => Self::Within,
        }
    }
}

#[cfg(test)]
mod tests;
