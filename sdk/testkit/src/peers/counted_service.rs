//! The service of one connection, wrapped: it counts requests in flight and notes when each
//! response has ended.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bowline_server::{ConnectionFacts, HttpService};
use bytes::{Buf, Bytes};
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper_util::service::TowerToHyperService;
use tokio::sync::watch;
use tokio::time::Instant;

use super::connection_log::ConnectionLog;
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The service of one connection; see the module.
pub(super) struct CountedService<S> {
    pub(super) service: TowerToHyperService<S>,
    pub(super) facts: Arc<ConnectionFacts>,
    pub(super) row: usize,
    pub(super) activity: Arc<watch::Sender<Activity>>,
    pub(super) log: Arc<ConnectionLog>,
    pub(super) max_responses: Option<u64>,
}

impl<S: HttpService> hyper::service::Service<Request<Incoming>> for CountedService<S> {
    type Response = Response<CountedBody>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        self.log.request(self.row);
        crate::secrets::record_request(request.headers());
        let in_flight = InFlight::new(Arc::clone(&self.activity));
        let max_responses = self.max_responses;
        request.extensions_mut().insert(Arc::clone(&self.facts));
        let response = self.service.call(request);
        Box::pin(async move {
            let response = response.await.map_err(Into::into)?;
            in_flight.answer(max_responses).await;
            Ok(response.map(|body| CountedBody {
                body: body
                    .map_frame(into_bytes)
                    .map_err(Into::into)
                    .boxed_unsync(),
                _in_flight: in_flight,
            }))
        })
    }
}

fn into_bytes(frame: Frame<impl Buf>) -> Frame<Bytes> {
    frame.map_data(|mut data| data.copy_to_bytes(data.remaining()))
}

/// State that the service and the connection's task share.
#[derive(Clone, Copy)]
pub(super) struct Activity {
    pub(super) in_flight: usize,
    /// When `in_flight` fell to 0; the handshake's end at first.
    pub(super) idle_since: Instant,
    /// Responses that have begun, or are about to.
    pub(super) responses: u64,
    /// The response that reaches `max_responses` waits until the connection has begun to close.
    pub(super) is_last_response_due: bool,
    /// When the connection began to close gracefully.
    pub(super) retired_at: Option<Instant>,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            in_flight: 0,
            idle_since: Instant::now(),
            responses: 0,
            is_last_response_due: false,
            retired_at: None,
        }
    }
}

/// A request that was received and whose response has not ended.
struct InFlight {
    activity: Arc<watch::Sender<Activity>>,
}

impl InFlight {
    fn new(activity: Arc<watch::Sender<Activity>>) -> Self {
        activity.send_modify(|activity| activity.in_flight += 1);
        Self { activity }
    }

    /// Counts the response. Before the last one, the connection begins to close (`Connection:
    /// close`, GOAWAY), so that a client which sends its requests one by one never sends one too
    /// many.
    async fn answer(&self, max_responses: Option<u64>) {
        let mut is_last = false;
        self.activity.send_modify(|activity| {
            activity.responses += 1;
            is_last = max_responses == Some(activity.responses);
            activity.is_last_response_due |= is_last;
        });
        if is_last {
            let mut activity = self.activity.subscribe();
            // Ends when the connection begins to close; `self` holds the sender, so the wait itself
            // cannot fail.
            let _ = activity
                .wait_for(|activity| activity.retired_at.is_some())
                .await;
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.activity.send_modify(|activity| {
            activity.in_flight -= 1;
            activity.idle_since = Instant::now();
        });
    }
}

/// A response body that marks the end of its request: hyper drops it once it has been sent.
pub(super) struct CountedBody {
    body: UnsyncBoxBody<Bytes, BoxError>,
    _in_flight: InFlight,
}

impl Body for CountedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
