//! Waits for the end of an event stream that has brought its response.
//!
//! An HTTP/1.1 connection can carry the next request once its event stream has ended. The caller's
//! next request often follows the response at once; sent before the stream's end, it would need a
//! new connection and a new proof:
//!
//! ```text
//! server    event: response | end of body        (a millisecond apart)
//! caller                                           next request
//!           |---- held ----->| handed on           finds the connection idle
//! ```

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bowline_client::Body;
use futures_util::{Stream, StreamExt};
use http_body::Body as _;
use rmcp::transport::streamable_http_client::SseError;
use sse_stream::Sse;
use tokio::runtime::Handle;
use tokio::time::{Sleep, sleep};

/// Maximum time for which a response is held. A server that ends its streams at all sends response
/// and end together.
const HOLD: Duration = Duration::from_millis(50);

/// How many bytes after a response are read once the caller has dropped the stream, and for how
/// long.
const REST_BYTES: usize = 64 * 1024;
const REST_TIME: Duration = Duration::from_secs(1);

/// How the server ends its event streams once the response is out, as MCP demands, judged by the
/// last stream seen. A server that is late costs its first caller `HOLD` and later callers nothing;
/// one that never ends its streams costs one connection `REST_TIME`. Clones share the record.
#[derive(Clone, Debug)]
pub(super) struct StreamEndStats(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Within `HOLD`.
    prompt: AtomicBool,
    /// Within `REST_TIME`.
    certain: AtomicBool,
}

impl Default for StreamEndStats {
    fn default() -> Self {
        Self(Arc::new(Inner {
            prompt: AtomicBool::new(true),
            certain: AtomicBool::new(true),
        }))
    }
}

impl StreamEndStats {
    /// Reads the rest of a stream that has brought its response, in a task of its own, so that an
    /// HTTP/1.1 connection and its proof stay usable. If the server left the last stream open, the
    /// rest is cancelled instead.
    pub(super) fn read_rest(self, body: Body) {
        if !self.are_certain() || body.is_end_stream() {
            return;
        }
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                let ended = bowline_transport::body::read_out(body, REST_BYTES, REST_TIME).await;
                self.0.certain.store(ended, Ordering::Relaxed);
            });
        }
    }

    fn are_prompt(&self) -> bool {
        self.0.prompt.load(Ordering::Relaxed)
    }

    fn are_certain(&self) -> bool {
        self.0.certain.load(Ordering::Relaxed)
    }

    /// A stream ended while its reader waited.
    fn note_end(&self) {
        self.0.prompt.store(true, Ordering::Relaxed);
        self.0.certain.store(true, Ordering::Relaxed);
    }

    /// A stream did not end in time.
    fn note_delay(&self) {
        self.0.prompt.store(false, Ordering::Relaxed);
    }
}

/// An event stream that yields its response when the next item is there, or after `HOLD`.
pub(super) struct HoldLast<S> {
    events: S,
    ends: StreamEndStats,
    held: Option<(Sse, Pin<Box<Sleep>>)>,
    /// The item that came after the response while it was held.
    after: Option<Result<Sse, SseError>>,
    has_response: bool,
}

impl<S> HoldLast<S> {
    pub(super) fn new(events: S, ends: StreamEndStats) -> Self {
        Self {
            events,
            ends,
            held: None,
            after: None,
            has_response: false,
        }
    }
}

impl<S> Stream for HoldLast<S>
where
    S: Stream<Item = Result<Sse, SseError>> + Unpin,
{
    type Item = Result<Sse, SseError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(after) = self.after.take() {
            return Poll::Ready(Some(after));
        }
        if self.held.is_none() {
            match ready!(self.poll_events(cx)) {
                Some(Ok(event)) if may_be_response(&event) => {
                    self.has_response = true;
                    if !self.ends.are_prompt() {
                        return Poll::Ready(Some(Ok(event)));
                    }
                    self.held = Some((event, Box::pin(sleep(HOLD))));
                }
                other => return Poll::Ready(other),
            }
        }
        match self.poll_events(cx) {
            Poll::Ready(after) => self.after = after,
            Poll::Pending => {
                if let Some((_, time)) = &mut self.held {
                    ready!(time.as_mut().poll(cx));
                }
                self.ends.note_delay();
            }
        }
        Poll::Ready(self.held.take().map(|(event, _)| Ok(event)))
    }
}

impl<S> HoldLast<S>
where
    S: Stream<Item = Result<Sse, SseError>> + Unpin,
{
    fn poll_events(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Sse, SseError>>> {
        let item = ready!(self.events.poll_next_unpin(cx));
        if item.is_none() && self.has_response {
            self.ends.note_end();
        }
        Poll::Ready(item)
    }
}

/// Whether an event may hold a JSON-RPC response. A wrong guess only delays an event, so nothing is
/// parsed.
fn may_be_response(event: &Sse) -> bool {
    let data = event.data.as_deref().unwrap_or_default();
    data.contains("\"result\"") || data.contains("\"error\"")
}

#[cfg(test)]
mod tests;
