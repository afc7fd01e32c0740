//! HTTP/1.1: where messages begin and end (RFC 9112 section 6).

use std::collections::VecDeque;
use std::mem;

use memchr::memchr;

/// A longer head is not followed. hyper refuses it as well.
const MAX_HEAD_BYTES: usize = 1024 * 1024;

/// The exchanges on one connection.
#[derive(Debug, Default)]
pub(crate) struct Exchanges {
    requests: Messages,
    responses: Messages,
    /// The requests that have arrived and are not answered completely, the oldest first.
    unanswered: VecDeque<Asked>,
    begun: bool,
}

/// What the method of a request says about the framing of its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Head,
    Connect,
    Other,
}

impl Exchanges {
    pub(super) fn received(&mut self, bytes: &[u8]) {
        let Self {
            requests,
            unanswered,
            begun,
            ..
        } = self;
        requests.scan(bytes, |event| match event {
            Event::Head(head) => {
                *begun = true;
                unanswered.push_back(match head.start.split(|byte| *byte == b' ').next() {
                    Some(b"HEAD") => Asked::Head,
                    Some(b"CONNECT") => Asked::Connect,
                    _ => Asked::Other,
                });
                head.framing.unwrap_or(Body::None)
            }
            Event::End => Body::None,
        });
    }

    pub(super) fn sent(&mut self, bytes: &[u8]) {
        let Self {
            responses,
            unanswered,
            ..
        } = self;
        responses.scan(bytes, |event| match event {
            Event::Head(head) => {
                let status = head.start.get(9..12).unwrap_or_default();
                match (status, unanswered.front()) {
                    (b"101", _) => Body::Rest,
                    ([b'1', ..], _) => Body::Interim,
                    ([b'2', ..], Some(Asked::Connect)) => Body::Rest,
                    (b"204" | b"304", _) | (_, Some(Asked::Head)) => Body::None,
                    _ => head.framing.unwrap_or(Body::Rest),
                }
            }
            Event::End => {
                unanswered.pop_front();
                Body::None
            }
        });
    }

    pub(super) fn begun(&self) -> bool {
        self.begun
    }

    pub(super) fn open(&self) -> usize {
        self.unanswered.len()
    }
}

/// The messages of one direction.
#[derive(Debug, Default)]
struct Messages {
    state: State,
    /// The beginning of a line that came in parts.
    line: Vec<u8>,
    head: Head,
    head_bytes: usize,
}

#[derive(Debug, Default)]
struct Head {
    /// Whether the start line has come.
    begun: bool,
    /// Of the start line what is read here: the method, or the status after the version.
    start: [u8; 12],
    /// What the fields say: chunked, or a length.
    framing: Option<Body>,
}

/// What follows a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    None,
    /// Nothing, and the message goes on with another head.
    Interim,
    Length(u64),
    Chunked,
    /// Everything, until the connection closes.
    Rest,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Head,
    Data(u64),
    ChunkSize,
    ChunkData(u64),
    /// The line end after a chunk's data.
    ChunkEnd,
    Trailers,
    /// Nothing is followed from here on.
    Rest,
}

enum Event<'a> {
    /// Its answer says what follows.
    Head(&'a Head),
    End,
}

impl Messages {
    fn scan(&mut self, mut bytes: &[u8], mut on: impl FnMut(Event<'_>) -> Body) {
        while !bytes.is_empty() {
            match self.state {
                State::Rest => return,
                State::Data(left) => {
                    self.state = match skip(&mut bytes, left) {
                        0 => self.end(&mut on),
                        left => State::Data(left),
                    };
                }
                State::ChunkData(left) => {
                    self.state = match skip(&mut bytes, left) {
                        0 => State::ChunkEnd,
                        left => State::ChunkData(left),
                    };
                }
                State::Head | State::ChunkSize | State::ChunkEnd | State::Trailers => {
                    let line_end = memchr(b'\n', bytes);
                    let taken = line_end.map_or(bytes.len(), |at| at + 1);
                    self.head_bytes += taken;
                    if self.head_bytes > MAX_HEAD_BYTES {
                        self.state = State::Rest;
                        self.line = Vec::new();
                        return;
                    }
                    let (part, rest) = bytes.split_at(taken);
                    bytes = rest;
                    if line_end.is_none() || !self.line.is_empty() {
                        self.line.extend_from_slice(part);
                    }
                    if line_end.is_none() {
                        return;
                    }
                    self.state = if self.line.is_empty() {
                        self.line(part, &mut on)
                    } else {
                        let whole = mem::take(&mut self.line);
                        self.line(&whole, &mut on)
                    };
                }
            }
        }
    }

    /// The state after this line.
    fn line(&mut self, line: &[u8], on: &mut impl FnMut(Event<'_>) -> Body) -> State {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match self.state {
            // Empty lines before a start line are ignored (RFC 9112 section 2.2).
            State::Head if line.is_empty() && !self.head.begun => {
                self.head_bytes = 0;
                State::Head
            }
            State::Head if line.is_empty() => {
                let head = mem::take(&mut self.head);
                self.head_bytes = 0;
                match on(Event::Head(&head)) {
                    Body::None | Body::Length(0) => self.end(on),
                    Body::Interim => State::Head,
                    Body::Length(length) => State::Data(length),
                    Body::Chunked => State::ChunkSize,
                    Body::Rest => State::Rest,
                }
            }
            State::Head if !self.head.begun => {
                self.head.begin(line);
                State::Head
            }
            State::Head => {
                self.head.field(line);
                State::Head
            }
            State::ChunkSize => {
                self.head_bytes = 0;
                match chunk_size(line) {
                    Some(0) => State::Trailers,
                    Some(size) => State::ChunkData(size),
                    None => State::Rest,
                }
            }
            State::ChunkEnd => State::ChunkSize,
            State::Trailers if line.is_empty() => self.end(on),
            State::Trailers | State::Data(_) | State::ChunkData(_) | State::Rest => self.state,
        }
    }

    fn end(&mut self, on: &mut impl FnMut(Event<'_>) -> Body) -> State {
        self.head_bytes = 0;
        on(Event::End);
        State::Head
    }
}

impl Head {
    fn begin(&mut self, line: &[u8]) {
        self.begun = true;
        let read = line.len().min(self.start.len());
        self.start[..read].copy_from_slice(&line[..read]);
    }

    fn field(&mut self, line: &[u8]) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            return;
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            let last = value.rsplit(|byte| *byte == b',').next();
            if last.is_some_and(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"chunked")) {
                self.framing = Some(Body::Chunked);
            }
        } else if name.eq_ignore_ascii_case(b"content-length")
            && self.framing != Some(Body::Chunked)
        {
            let length = str::from_utf8(value)
                .ok()
                .and_then(|text| text.parse().ok());
            self.framing = length.map(Body::Length);
        }
    }
}

/// Skips up to `left` bytes, and returns how many are left then.
fn skip(bytes: &mut &[u8], left: u64) -> u64 {
    let skipped = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
    *bytes = &bytes[skipped..];
    left - skipped as u64
}

fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|byte| *byte == b';').next()?.trim_ascii();
    u64::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests;
