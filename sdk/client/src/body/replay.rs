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
//! - [`Upload`] is shared by them and the connection: how far one attempt has come. A body that was
//!   there as a whole, as nearly all are, is in it, and needs no [`Source`].
//! - [`Source`] is shared by them. It owns the caller's body, so that the body lives exactly as
//!   long as it may still be read.
//!
//! Nothing is copied: kept frames share their memory with those that were sent.

use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::FutureExt;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use tokio::time::Instant;

use crate::conn::frames::WireState;
use crate::conn::uploads::Upload;
use crate::error::BoxError;

/// A request's body in one attempt of possibly several (CL-5, CL-7). Not generic, because hyper's
/// senders are generic over it.
pub(crate) struct ReplayBody {
    /// This attempt; it has the body itself if that was there as a whole.
    upload: Arc<Upload>,
    /// Any other body.
    source: Option<Arc<Mutex<Source>>>,
    attempt: u32,
    /// The h2 connection that it was given to.
    wire: Option<Arc<WireState>>,
}

/// Starts further attempts to send a [`ReplayBody`].
pub(crate) struct ReplayHandle {
    upload: Arc<Upload>,
    source: Option<Arc<Mutex<Source>>>,
}

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
        match as_whole(body, limit) {
            Ok(whole) => Self::of(Upload::whole(whole), None, 0),
            Err(body) => {
                let source = Source {
                    ended: body.is_end_stream(),
                    inner: UnsyncBoxBody::new(body.map_err(Into::into)),
                    kept: Vec::new(),
                    bytes: 0,
                    limit,
                    too_long: false,
                    failed: false,
                    attempt: 0,
                    read: 0,
                };
                let source = Arc::new(Mutex::new(source));
                Self::of(Upload::default(), Some(source), 0)
            }
        }
    }

    fn of(
        upload: Upload,
        source: Option<Arc<Mutex<Source>>>,
        attempt: u32,
    ) -> (Self, ReplayHandle) {
        let upload = spare::filled_with(upload);
        let body = Self {
            upload: upload.clone(),
            source: source.clone(),
            attempt,
            wire: None,
        };
        (body, ReplayHandle { upload, source })
    }

    /// The same body, about to be given to an h2 connection.
    pub(crate) fn on(mut self, wire: &Arc<WireState>) -> Self {
        self.wire = Some(wire.clone());
        self.upload.restart();
        self
    }
}

/// The body's bytes, if they are all there now and may be kept.
fn as_whole<B>(body: B, limit: usize) -> Result<Bytes, B>
where
    B: http_body::Body<Data = Bytes> + 'static,
{
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let is_short = |body: &B| body.size_hint().exact().is_some_and(|n| n <= limit as u64);
    if TypeId::of::<B>() != TypeId::of::<Full<Bytes>>() || !is_short(&body) {
        return Err(body);
    }
    let mut body = Some(body);
    let full = (&mut body as &mut dyn Any).downcast_mut::<Option<Full<Bytes>>>();
    // Never pending: its one frame, and no error.
    let frame = full.and_then(Option::take).and_then(|mut full| {
        let frame = full.frame().now_or_never()??;
        frame.ok()?.into_data().ok()
    });
    match (frame, body) {
        (Some(data), _) => Ok(data),
        (None, Some(body)) => Err(body),
        (None, None) => Ok(Bytes::new()),
    }
}

impl Drop for ReplayHandle {
    fn drop(&mut self) {
        spare::keep(&mut self.upload);
    }
}

/// Uploads that nobody holds any more, for the next requests of their thread: nearly every request
/// leaves one, and the next need not allocate.
mod spare {
    use super::*;

    const MOST: usize = 32;

    thread_local! {
        static SPARE: RefCell<Vec<Arc<Upload>>> = const { RefCell::new(Vec::new()) };
    }

    pub(super) fn filled_with(upload: Upload) -> Arc<Upload> {
        let spare = SPARE.try_with(|spare| spare.borrow_mut().pop());
        if let Ok(Some(mut spare)) = spare
            && let Some(place) = Arc::get_mut(&mut spare)
        {
            *place = upload;
            return spare;
        }
        Arc::new(upload)
    }

    pub(super) fn keep(upload: &mut Arc<Upload>) {
        // hyper may still have it.
        let Some(place) = Arc::get_mut(upload) else {
            return;
        };
        // The body is dropped now, and may do anything then.
        drop(std::mem::take(place));
        // The thread may be about to end.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < MOST {
                spare.push(upload.clone());
            }
        });
    }
}

impl ReplayHandle {
    /// The body from its beginning, if everything that was read of it is kept. The attempt before
    /// gets no more of it.
    pub(crate) fn replay(&mut self) -> Option<ReplayBody> {
        let (upload, attempt) = match &self.source {
            None => (Upload::whole(self.upload.whole.clone()?), 0),
            Some(source) => {
                let mut source = lock(source);
                if source.too_long || source.failed {
                    return None;
                }
                source.attempt += 1;
                source.read = 0;
                (Upload::default(), source.attempt)
            }
        };
        self.upload.supersede();
        let (body, handle) = ReplayBody::of(upload, self.source.clone(), attempt);
        *self = handle;
        Some(body)
    }

    /// This attempt.
    pub(crate) fn upload(&self) -> &Arc<Upload> {
        &self.upload
    }

    /// What the request waits for on this h2 connection. hyper takes a part of the body before it
    /// waits for a window, so a part that waits for one has been given to it.
    pub(crate) fn sending_h2(&self, wire: &WireState) -> Sending {
        let stream = self.upload.stream();
        if !stream.is_some_and(|stream| wire.has_opened(stream)) {
            return Sending::Unopened;
        }
        match self.upload.blocked_since() {
            Some(since) => Sending::Blocked(since),
            None => Sending::Other,
        }
    }

    /// Whether all of it was read.
    pub(crate) fn was_sent(&self) -> bool {
        match &self.source {
            None => self.upload.is_read(),
            Some(source) => lock(source).is_read(),
        }
    }

    /// Whether all of it has certainly been written on HTTP/2 when a response comes: hyper has read
    /// it, and no window holds it back (RFC 9113 §6.9.2). A longer body may wait for its window
    /// where we cannot see it.
    pub(crate) fn has_left(&self) -> bool {
        match &self.source {
            None => {
                let whole = self.upload.whole.as_ref();
                self.upload.is_read() && whole.is_some_and(|whole| whole.len() <= INITIAL_WINDOW)
            }
            Some(source) => {
                let source = lock(source);
                source.is_read() && !source.too_long && source.bytes <= INITIAL_WINDOW
            }
        }
    }

    /// Whether the caller's own body failed: then the connection is not at fault.
    pub(crate) fn failed(&self) -> bool {
        self.source
            .as_ref()
            .is_some_and(|source| lock(source).failed)
    }
}

impl http_body::Body for ReplayBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let upload = &self.upload;
        if upload.is_superseded() {
            return Poll::Ready(Some(Err("the request is sent elsewhere by now".into())));
        }
        let Some(source) = &self.source else {
            let whole = upload.whole.as_ref().and_then(|whole| upload.read(whole));
            return Poll::Ready(whole.map(|data| Ok(Frame::data(data))));
        };
        let mut source = lock(source);
        if source.attempt != self.attempt {
            return Poll::Ready(Some(Err("the request is sent elsewhere by now".into())));
        }
        let polled = source.poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            upload.note_given(frame.data_ref().map_or(0, |data| data.len() as u64));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        // hyper asks first when it makes a stream of the request, in the order of the streams.
        if let Some(wire) = &self.wire
            && !self.upload.is_superseded()
            && self.upload.stream().is_none()
        {
            self.upload.set_stream(wire.take_stream());
        }
        match &self.source {
            None => self.upload.is_read(),
            Some(source) => {
                let source = lock(source);
                source.read == source.kept.len() && source.inner.is_end_stream()
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        let Some(source) = &self.source else {
            let whole = self
                .upload
                .whole
                .as_ref()
                .filter(|_| !self.upload.is_read());
            return SizeHint::with_exact(whole.map_or(0, |whole| whole.len() as u64));
        };
        let source = lock(source);
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

    fn is_read(&self) -> bool {
        self.ended && self.read == self.kept.len()
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
