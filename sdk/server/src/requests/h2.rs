//! HTTP/2: streams and their windows, by frames (RFC 9113 sections 4.1, 5.1 and 6.9).

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// The number of a stream.
pub(crate) type StreamId = u32;

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADER_BYTES: usize = 9;
const DEFAULT_WINDOW: i64 = 65_535;

/// Larger SETTINGS frames are not read. hyper refuses frames above 16 KiB.
const MAX_KEPT_BYTES: usize = 16 * 1024;

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const WINDOW_UPDATE: u8 = 0x8;
const CONTINUATION: u8 = 0x9;

const END_STREAM: u8 = 0x1;
const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

const SETTINGS_INITIAL_WINDOW_SIZE: u16 = 0x4;

/// RFC 9113 section 7.
const CANCEL: u32 = 0x8;

/// The streams on one connection that the peer opened and this end has not ended. The preface is
/// not among the bytes.
#[derive(Debug)]
pub(crate) struct Streams {
    received: Frames,
    sent: Frames,
    open: HashMap<StreamId, Stream>,
    /// The newest stream that the peer opened.
    last: StreamId,
    initial_window: i64,
    /// How much this end may send on all streams together.
    window: i64,
    /// Since when that has been nothing.
    closed_since: Option<Instant>,
}

#[derive(Debug)]
struct Stream {
    /// How much this end may send.
    window: i64,
    /// The response has begun, and this was the last time at which a part of it was sent.
    sent_at: Option<Instant>,
}

/// Responses of which the peer takes nothing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stalled {
    /// The windows of these streams are closed.
    Streams(Vec<StreamId>),
    /// The connection's window is closed.
    Connection,
}

impl Default for Streams {
    fn default() -> Self {
        Self {
            received: Frames::default(),
            sent: Frames::default(),
            open: HashMap::new(),
            last: 0,
            initial_window: DEFAULT_WINDOW,
            window: DEFAULT_WINDOW,
            closed_since: None,
        }
    }
}

impl Streams {
    pub(super) fn received(&mut self, bytes: &[u8], now: Instant) {
        let mut frames = std::mem::take(&mut self.received);
        frames.scan(bytes, |frame, payload| match frame.kind {
            HEADERS | CONTINUATION if frame.flags & END_HEADERS != 0 => self.opened(frame.stream),
            RST_STREAM => drop(self.open.remove(&frame.stream)),
            SETTINGS if frame.flags & ACK == 0 => self.settings(payload),
            WINDOW_UPDATE => self.window_update(frame.stream, payload, now),
            _ => {}
        });
        self.received = frames;
    }

    pub(super) fn sent(&mut self, bytes: &[u8], now: Instant) {
        let mut frames = std::mem::take(&mut self.sent);
        frames.scan(bytes, |frame, _| match frame.kind {
            DATA => {
                self.window -= frame.length as i64;
                if self.window <= 0 {
                    self.closed_since.get_or_insert(now);
                }
                if let Some(stream) = self.open.get_mut(&frame.stream) {
                    stream.window -= frame.length as i64;
                    stream.sent_at = Some(now);
                }
                self.ended_if(frame);
            }
            HEADERS => {
                if let Some(stream) = self.open.get_mut(&frame.stream) {
                    stream.sent_at = Some(now);
                }
                self.ended_if(frame);
            }
            RST_STREAM => drop(self.open.remove(&frame.stream)),
            _ => {}
        });
        self.sent = frames;
    }

    fn opened(&mut self, stream: StreamId) {
        // A known or older stream gets trailers, or it has ended; an even number is no client's.
        if stream > self.last && stream % 2 == 1 {
            self.last = stream;
            let window = self.initial_window;
            self.open.insert(
                stream,
                Stream {
                    window,
                    sent_at: None,
                },
            );
        }
    }

    fn ended_if(&mut self, frame: Frame) {
        if frame.flags & END_STREAM != 0 {
            self.open.remove(&frame.stream);
        }
    }

    fn settings(&mut self, payload: &[u8]) {
        for entry in payload.chunks_exact(6) {
            let id = u16::from_be_bytes([entry[0], entry[1]]);
            let value = u32::from_be_bytes([entry[2], entry[3], entry[4], entry[5]]);
            if id == SETTINGS_INITIAL_WINDOW_SIZE {
                let change = i64::from(value) - self.initial_window;
                self.initial_window = i64::from(value);
                for stream in self.open.values_mut() {
                    stream.window += change;
                }
            }
        }
    }

    fn window_update(&mut self, stream: StreamId, payload: &[u8], now: Instant) {
        let Some(increment) = payload.first_chunk() else {
            return;
        };
        let increment = i64::from(u32::from_be_bytes(*increment) & !(1 << 31));
        if stream == 0 {
            self.window += increment;
            if self.window > 0 {
                self.closed_since = None;
            }
        } else if let Some(stream) = self.open.get_mut(&stream) {
            let was_closed = stream.window <= 0;
            stream.window += increment;
            // If nothing was ready, this is not the end of a wait: the next one starts later.
            if was_closed && stream.window > 0 && stream.sent_at.is_some() {
                stream.sent_at = Some(now);
            }
        }
    }

    pub(super) fn begun(&self) -> bool {
        self.last > 0
    }

    pub(super) fn open(&self) -> usize {
        self.open.len()
    }

    /// When the first response will have been stalled for `limit`, if a frame has been ready since
    /// `ready` on each.
    pub(crate) fn stalls_at(&self, ready: Instant, limit: Duration) -> Option<Instant> {
        self.waiting()
            .map(|(_, since)| since.max(ready) + limit)
            .min()
    }

    /// The responses that are stalled now, if any.
    pub(crate) fn stalled(&self, ready: Instant, limit: Duration, now: Instant) -> Option<Stalled> {
        let over: Vec<_> = self
            .waiting()
            .filter(|(_, since)| (*since).max(ready) + limit <= now)
            .map(|(id, _)| id)
            .collect();
        let streams: Vec<_> = over.iter().copied().flatten().collect();
        match (over.is_empty(), streams.is_empty()) {
            (true, _) => None,
            (false, true) => Some(Stalled::Connection),
            (false, false) => Some(Stalled::Streams(streams)),
        }
    }

    /// Closed windows for which a response waits, and since when; the connection's is `None`.
    fn waiting(&self) -> impl Iterator<Item = (Option<StreamId>, Instant)> {
        let begun = self.open.values().any(|stream| stream.sent_at.is_some());
        let connection = self.closed_since.filter(|_| begun).map(|at| (None, at));
        let streams = self
            .open
            .iter()
            .filter(|(_, stream)| stream.window <= 0)
            .filter_map(|(id, stream)| Some((Some(*id), stream.sent_at?)));
        connection.into_iter().chain(streams)
    }

    /// Whether a response waits at a closed window.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting().next().is_some()
    }

    /// Forgets this stream: it is reset.
    pub(crate) fn reset(&mut self, stream: StreamId) {
        self.open.remove(&stream);
    }

    /// Whether the peer has sent complete frames only.
    pub(crate) fn received_whole_frames(&self) -> bool {
        self.received.between_frames()
    }

    /// Whether this end has sent complete frames only.
    pub(crate) fn sent_whole_frames(&self) -> bool {
        self.sent.between_frames()
    }
}

/// The frame that resets a stream: the client does not want the rest of the response.
pub(crate) fn reset_frame(stream: StreamId) -> [u8; HEADER_BYTES + 4] {
    let mut frame = [0; HEADER_BYTES + 4];
    frame[2] = 4;
    frame[3] = RST_STREAM;
    frame[5..9].copy_from_slice(&stream.to_be_bytes());
    frame[9..].copy_from_slice(&CANCEL.to_be_bytes());
    frame
}

/// The frames of one direction.
#[derive(Debug, Default)]
struct Frames {
    header: [u8; HEADER_BYTES],
    /// Bytes of the header that have come.
    header_bytes: usize,
    /// Bytes of the payload that are still to come.
    left: usize,
    /// The payload so far, of the kinds that are read.
    payload: Vec<u8>,
}

#[derive(Clone, Copy)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: StreamId,
    length: usize,
}

impl Frames {
    /// Calls `on` with each frame that has passed completely.
    fn scan(&mut self, mut bytes: &[u8], mut on: impl FnMut(Frame, &[u8])) {
        while !bytes.is_empty() {
            if self.header_bytes < HEADER_BYTES {
                let taken = bytes.len().min(HEADER_BYTES - self.header_bytes);
                self.header[self.header_bytes..][..taken].copy_from_slice(&bytes[..taken]);
                self.header_bytes += taken;
                bytes = &bytes[taken..];
                if self.header_bytes < HEADER_BYTES {
                    return;
                }
                self.left = self.frame().length;
            }
            let frame = self.frame();
            let taken = bytes.len().min(self.left);
            if matches!(frame.kind, SETTINGS | WINDOW_UPDATE) && frame.length <= MAX_KEPT_BYTES {
                self.payload.extend_from_slice(&bytes[..taken]);
            }
            self.left -= taken;
            bytes = &bytes[taken..];
            if self.left == 0 {
                self.header_bytes = 0;
                on(frame, &self.payload);
                self.payload.clear();
            }
        }
    }

    fn frame(&self) -> Frame {
        let [a, b, c, kind, flags, stream @ ..] = self.header;
        Frame {
            kind,
            flags,
            stream: u32::from_be_bytes(stream) & !(1 << 31),
            length: u32::from_be_bytes([0, a, b, c]) as usize,
        }
    }

    fn between_frames(&self) -> bool {
        self.header_bytes == 0
    }
}

#[cfg(test)]
mod tests;
