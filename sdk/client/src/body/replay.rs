//! The body of a request, which can be sent again.
//!
//! Frames move from the caller's body to hyper through one [`Source`], which keeps what it has
//! passed on, up to a limit:
//!
//! ```text
//!              kept          inner (not read yet)
//! source   [ a | b | c ]    d e f ...
//!            ^ read = 1: attempt 2 has had `a` again, gets `b` and `c` from what was kept,
//!              and then `d` from the caller's body
//! ```
//!
//! - [`ReplayBody`] is what hyper holds: one attempt. hyper may still hold the body of an earlier
//!   attempt; that one gets an error instead of frames.
//! - [`ReplayHandle`] is what the exchange keeps: it starts the next attempt, and knows how much
//!   was read.
//! - [`Source`] is shared by them. It owns the caller's body, so that the body lives exactly as
//!   long as it may still be read.
//!
//! Nothing is copied: kept frames share their memory with those that were sent.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use tokio::time::Instant;

use crate::conn::frames::WireState;
use crate::error::BoxError;

/// A request's body in one attempt of possibly several (CL-5, CL-7). Boxed once, because hyper's
/// senders are generic over it.
pub(crate) struct ReplayBody {
    source: Arc<Mutex<Source>>,
    attempt: u32,
    /// The h2 connection that it was given to.
    wire: Option<Arc<WireState>>,
}

/// Starts further attempts to send a [`ReplayBody`].
pub(crate) struct ReplayHandle(Arc<Mutex<Source>>);

/// A body, and what was kept of it.
struct Source {
    inner: UnsyncBoxBody<Bytes, BoxError>,
    kept: Vec<Part>,
    bytes: usize,
    limit: usize,
    too_long: bool,
    ended: bool,
    failed: bool,
    /// Which attempt may read; an earlier one that hyper still holds may not.
    attempt: u32,
    /// How many of the kept parts this attempt has read.
    read: usize,
    /// This attempt's stream, once hyper has made one of it.
    stream: Option<u32>,
    /// How many bytes hyper was given in this attempt, and when it got the last of them.
    given: u64,
    given_at: Instant,
}

/// What a request waits for while it is being sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sending {
    /// Nothing of it was written.
    Unopened,
    /// The peer takes nothing, and something is ready for it since then.
    Blocked(Instant),
    /// Its caller, or the answer.
    Other,
}

/// A frame; `http_body`'s own cannot be cloned.
/// Upstream: no issue; request 21 in `docs/src/upstream.md`.
#[derive(Clone)]
enum Part {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl ReplayBody {
    pub(crate) fn new<B>(body: B, limit: usize) -> (Self, ReplayHandle)
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let source = Arc::new(Mutex::new(Source {
            ended: body.is_end_stream(),
            inner: UnsyncBoxBody::new(body.map_err(Into::into)),
            kept: Vec::new(),
            bytes: 0,
            limit,
            too_long: false,
            failed: false,
            attempt: 0,
            read: 0,
            stream: None,
            given: 0,
            given_at: Instant::now(),
        }));
        let body = Self {
            source: source.clone(),
            attempt: 0,
            wire: None,
        };
        (body, ReplayHandle(source))
    }

    /// The same body, about to be given to an h2 connection.
    pub(crate) fn on(mut self, wire: &Arc<WireState>) -> Self {
        self.wire = Some(wire.clone());
        lock(&self.source).stream = None;
        self
    }
}

impl ReplayHandle {
    /// The body from its beginning, if everything that was read of it is kept. The attempt before
    /// gets no more of it.
    pub(crate) fn replay(&self) -> Option<ReplayBody> {
        let mut source = lock(&self.0);
        if source.too_long || source.failed {
            return None;
        }
        source.attempt += 1;
        source.read = 0;
        source.stream = None;
        source.given = 0;
        let attempt = source.attempt;
        drop(source);
        Some(ReplayBody {
            source: self.0.clone(),
            attempt,
            wire: None,
        })
    }

    /// This attempt's stream on h2, once hyper has made one of it.
    pub(crate) fn stream(&self) -> Option<u32> {
        lock(&self.0).stream
    }

    /// What the request waits for on this h2 connection. hyper takes a part of the body before it
    /// waits for a window, so a part that waits for one has been given to it.
    pub(crate) fn sending_h2(&self, wire: &WireState) -> Sending {
        let source = lock(&self.0);
        let Some(stream) = source.stream.filter(|stream| wire.has_opened(*stream)) else {
            return Sending::Unopened;
        };
        match wire.upload(stream) {
            Some(upload) if upload.written < source.given => {
                Sending::Blocked(upload.at.max(source.given_at))
            }
            _ => Sending::Other,
        }
    }

    /// Whether all of it was read.
    pub(crate) fn was_sent(&self) -> bool {
        let source = lock(&self.0);
        source.ended && source.read == source.kept.len()
    }

    /// Whether all of it has certainly been written on HTTP/2 when a response comes: hyper has read
    /// it, and no window holds it back (RFC 9113 §6.9.2). A longer body may wait for its window
    /// where we cannot see it.
    pub(crate) fn has_left(&self) -> bool {
        let source = lock(&self.0);
        source.ended
            && source.read == source.kept.len()
            && !source.too_long
            && source.bytes <= INITIAL_WINDOW
    }

    /// Whether the caller's own body failed: then the connection is not at fault.
    pub(crate) fn failed(&self) -> bool {
        lock(&self.0).failed
    }
}

impl http_body::Body for ReplayBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut source = lock(&self.source);
        if source.attempt == self.attempt {
            let polled = source.poll_frame(cx);
            source.note_given(&polled);
            polled
        } else {
            Poll::Ready(Some(Err("the request is sent elsewhere by now".into())))
        }
    }

    fn is_end_stream(&self) -> bool {
        let mut source = lock(&self.source);
        // hyper asks first when it makes a stream of the request, in the order of the streams.
        if let Some(wire) = &self.wire
            && source.attempt == self.attempt
            && source.stream.is_none()
        {
            source.stream = Some(wire.take_stream());
        }
        source.read == source.kept.len() && source.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let source = lock(&self.source);
        let kept: u64 = source.kept[source.read..].iter().map(Part::bytes).sum();
        let rest = source.inner.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(kept));
        if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(kept)) {
            hint.set_upper(upper);
        }
        hint
    }
}

impl Source {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(part) = self.kept.get(self.read) {
            self.read += 1;
            return Poll::Ready(Some(Ok(part.clone().into())));
        }
        let polled = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        match &polled {
            Some(Ok(frame)) => {
                self.keep(frame);
                self.ended = self.inner.is_end_stream();
            }
            Some(Err(_)) => self.failed = true,
            None => self.ended = true,
        }
        Poll::Ready(polled)
    }

    /// Notes what hyper was given.
    fn note_given(&mut self, polled: &Poll<Option<Result<Frame<Bytes>, BoxError>>>) {
        if let Poll::Ready(Some(Ok(frame))) = polled {
            self.given += frame.data_ref().map_or(0, |data| data.len() as u64);
            self.given_at = Instant::now();
        }
    }

    fn keep(&mut self, frame: &Frame<Bytes>) {
        self.bytes = self
            .bytes
            .saturating_add(frame.data_ref().map_or(0, Bytes::len));
        if self.too_long || self.bytes > self.limit {
            self.too_long = true;
            self.kept = Vec::new();
        } else if let Some(data) = frame.data_ref() {
            self.kept.push(Part::Data(data.clone()));
        } else if let Some(trailers) = frame.trailers_ref() {
            self.kept.push(Part::Trailers(trailers.clone()));
        }
        self.read = self.kept.len();
    }
}

impl Part {
    fn bytes(&self) -> u64 {
        match self {
            Self::Data(data) => data.len() as u64,
            Self::Trailers(_) => 0,
        }
    }
}

impl From<Part> for Frame<Bytes> {
    fn from(part: Part) -> Self {
        match part {
            Part::Data(data) => Self::data(data),
            Part::Trailers(trailers) => Self::trailers(trailers),
        }
    }
}

fn lock(source: &Mutex<Source>) -> std::sync::MutexGuard<'_, Source> {
    source.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Of a stream, in bytes.
const INITIAL_WINDOW: usize = 65_535;

#[cfg(test)]
mod tests;
