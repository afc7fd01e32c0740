//! The response of an event stream, held back for the stream's end.
//!
//! An HTTP/1.1 connection carries the next request once its event stream has ended, and the
//! caller's next request often follows hard upon the response. If it came first, it would need a
//! new connection, and that a new proof.

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

/// How long a response is held at most. A server that ends its streams at all sends response and
/// end in one go.
const HOLD: Duration = Duration::from_millis(50);

/// How much of what follows a response is read when nobody reads it any more, and for how long.
const REST_BYTES: usize = 64 * 1024;
const REST_TIME: Duration = Duration::from_secs(1);

/// How a server ends its event streams once the response is out, as MCP tells it to: by the last
/// one seen. One that takes its time costs its first caller `HOLD`, and nobody else; one that does
/// not do it at all costs one connection `REST_TIME`.
#[derive(Clone, Debug)]
pub(super) struct Endings(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Within `HOLD`.
    prompt: AtomicBool,
    /// Within `REST_TIME`.
    certain: AtomicBool,
}

impl Default for Endings {
    fn default() -> Self {
        Self(Arc::new(Inner {
            prompt: AtomicBool::new(true),
            certain: AtomicBool::new(true),
        }))
    }
}

impl Endings {
    /// Reads the rest of a stream that has brought its response, away from the caller, so that an
    /// HTTP/1.1 connection and its proof live on. A server that left it open the last time is not
    /// waited for: the rest is cancelled.
    pub(super) fn await_end_of(self, body: Body) {
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

/// An event stream that yields its response when what follows it is there, or `HOLD` is over.
pub(super) struct Holding<S> {
    events: S,
    endings: Endings,
    held: Option<(Sse, Pin<Box<Sleep>>)>,
    /// What came after the response while it was held.
    after: Option<Result<Sse, SseError>>,
    answered: bool,
}

impl<S> Holding<S> {
    pub(super) fn new(events: S, endings: Endings) -> Self {
        Self {
            events,
            endings,
            held: None,
            after: None,
            answered: false,
        }
    }
}

impl<S> Stream for Holding<S>
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
                    self.answered = true;
                    if !self.endings.are_prompt() {
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
                self.endings.note_delay();
            }
        }
        Poll::Ready(self.held.take().map(|(event, _)| Ok(event)))
    }
}

impl<S> Holding<S>
where
    S: Stream<Item = Result<Sse, SseError>> + Unpin,
{
    fn poll_events(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Sse, SseError>>> {
        let item = ready!(self.events.poll_next_unpin(cx));
        if item.is_none() && self.answered {
            self.endings.note_end();
        }
        Poll::Ready(item)
    }
}

/// Whether an event may hold a JSON-RPC response. A mistake costs a moment, so nothing is parsed.
fn may_be_response(event: &Sse) -> bool {
    let data = event.data.as_deref().unwrap_or_default();
    data.contains("\"result\"") || data.contains("\"error\"")
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use tokio::time::Instant;

    use super::*;

    const RESPONSE: &str = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
    const PROGRESS: &str = r#"{"jsonrpc":"2.0","method":"notifications/progress"}"#;

    type Events = stream::BoxStream<'static, Result<Sse, SseError>>;

    fn events(data: &[&'static str], end: Option<Duration>) -> Events {
        let events: Vec<_> = data
            .iter()
            .map(|data| Ok(Sse::default().data(*data)))
            .collect();
        let end = stream::once(async move {
            match end {
                Some(end) => sleep(end).await,
                None => std::future::pending().await,
            }
        });
        Box::pin(stream::iter(events).chain(end.filter_map(|()| std::future::ready(None))))
    }

    /// How long each event of the stream takes to come.
    async fn times(events: Events, endings: &Endings, count: usize) -> Vec<Duration> {
        let mut events = Holding::new(events, endings.clone());
        let mut times = Vec::new();
        for _ in 0..count {
            let start = Instant::now();
            events.next().await.unwrap().unwrap();
            times.push(start.elapsed());
        }
        times
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_comes_with_its_stream_s_end() {
        let (endings, end) = (Endings::default(), Duration::from_millis(7));
        assert_eq!(
            times(events(&[PROGRESS, RESPONSE], Some(end)), &endings, 2).await,
            [Duration::ZERO, end]
        );
        assert!(endings.are_prompt());
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_comes_with_whatever_follows_it_in_order() {
        let mut events = Holding::new(events(&[RESPONSE, PROGRESS], None), Endings::default());
        for expected in [RESPONSE, PROGRESS] {
            assert_eq!(
                events.next().await.unwrap().unwrap().data.as_deref(),
                Some(expected)
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_does_not_end_its_streams_delays_one_response_only() {
        let endings = Endings::default();
        assert_eq!(times(events(&[RESPONSE], None), &endings, 1).await, [HOLD]);
        assert_eq!(
            times(events(&[RESPONSE], None), &endings, 1).await,
            [Duration::ZERO]
        );
        // It does after all.
        let mut late = Holding::new(
            events(&[RESPONSE], Some(Duration::from_secs(1))),
            endings.clone(),
        );
        late.next().await.unwrap().unwrap();
        assert!(!endings.are_prompt());
        assert!(late.next().await.is_none());
        assert!(endings.are_prompt());
    }
}
