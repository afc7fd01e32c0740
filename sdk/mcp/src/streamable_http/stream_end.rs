//! Waits for the end of an event stream that has brought its response.
//!
//! An HTTP/1.1 connection can carry the next request once its event stream has ended, and the
//! caller's next request often follows the response at once: see [`HoldLast`]. How long that is
//! worth waiting depends on the server, which [`StreamEndStats`] remembers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use bowline_http_client::Body;
use bowline_transport::hold_last::HoldLast;
use futures_util::{Stream, StreamExt, stream};
use http_body::Body as _;
use rmcp::transport::streamable_http_client::SseError;
use sse_stream::Sse;
use tokio::runtime::Handle;

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
                let ended = body.drain(REST_BYTES, REST_TIME).await;
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

/// The events, with the response held until the next item is there, or for `HOLD`.
pub(super) fn hold_response<S>(
    events: S,
    ends: StreamEndStats,
) -> impl Stream<Item = Result<Sse, SseError>> + Unpin
where
    S: Stream<Item = Result<Sse, SseError>> + Unpin,
{
    let has_response = Arc::new(AtomicBool::new(false));
    let is_held = {
        let (has_response, ends) = (has_response.clone(), ends.clone());
        move |item: &Result<Sse, SseError>| {
            let is_response = item.as_ref().is_ok_and(may_be_response);
            has_response.fetch_or(is_response, Ordering::Relaxed);
            is_response && ends.are_prompt()
        }
    };
    let noting = ends.clone();
    let at_end = stream::poll_fn(move |_| {
        if has_response.load(Ordering::Relaxed) {
            noting.note_end();
        }
        Poll::Ready(None)
    });
    HoldLast::new(events.chain(at_end), HOLD, is_held).on_timeout(move || ends.note_delay())
}

/// Whether an event may hold a JSON-RPC response. A wrong guess only delays an event, so nothing is
/// parsed.
fn may_be_response(event: &Sse) -> bool {
    let data = event.data.as_deref().unwrap_or_default();
    data.contains("\"result\"") || data.contains("\"error\"")
}

#[cfg(test)]
mod tests;
