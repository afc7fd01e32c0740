//! What belongs to one connection and ends with it (CL-4), and why it ended.
//!
//! Two tasks share a `Connection`. The request's task, through its checkout, parks and takes the
//! sender and notes what it sees. The driver's task polls hyper and learns first that the
//! connection has ended. Example: an HTTP/1.1 server answers `Connection: close` and closes:
//!
//! ```text
//! request task (pool/checkout.rs)              driver task (pool/mod.rs, `opened`)
//! head_pending(), parked.park(sender)
//!                                              until_end() -> PeerClosed
//!                                              close_driver(): no sender stays parked
//!                                              ended(PeerClosed): waits for the head
//! expect_end(ConnectionClose)
//! ended(ConnectionClose), head_seen()
//!   -> one report: ConnectionClose
//! ```
//!
//! Whichever task comes last makes the one report: `CloseReport` decides.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::HeaderValue;
use hyper::client::conn::{http1, http2};
use tokio::time::timeout;

use crate::bind::BindConnection;
use crate::body::ReplayBody;
use crate::conn::close_report::CloseReport;
use crate::conn::facts::{ConnectionFacts, HttpVersion};
use crate::conn::frames::WireState;
use crate::conn::parked_sender::ParkedSender;
use crate::conn::signals::{CLOSE, Listener, STREAMS_CHANGED};
use crate::conn::stall::{SendLimits, StallTimer};
use crate::observe::{CloseReason, Event, Observers};
use crate::origin::Origin;

/// A connection's facts and proofs, shared by its checkouts.
pub(crate) struct Connection {
    pub(crate) facts: Arc<ConnectionFacts>,
    pub(crate) bound: Arc<dyn BindConnection>,
    pub(crate) requests: AtomicU64,
    /// What was seen on its stream.
    pub(crate) wire: Arc<WireState>,
    /// `Host` of its requests (h1), made once.
    pub(crate) host: Option<HeaderValue>,
    observers: Observers,
    pub(crate) send_limits: SendLimits,
    /// The h1 sender, while its request waits for the response.
    pub(crate) parked: ParkedSender<http1::SendRequest<ReplayBody>>,
    close_report: CloseReport,
}

/// hyper's end of a connection.
pub(crate) enum Sender {
    H1(http1::SendRequest<ReplayBody>),
    H2(http2::SendRequest<ReplayBody>),
}

/// What the driver has come to.
enum Step {
    Ended(CloseReason),
    /// Something was raised.
    Told(u8),
}

/// How long closing may take.
const CLOSING_TIME: Duration = Duration::from_secs(2);

impl Connection {
    pub(crate) fn new(
        origin: &Origin,
        facts: Arc<ConnectionFacts>,
        bound: Arc<dyn BindConnection>,
        wire: Arc<WireState>,
        observers: Observers,
        send_limits: SendLimits,
    ) -> Self {
        Self {
            facts,
            bound,
            requests: AtomicU64::new(0),
            wire,
            host: HeaderValue::try_from(origin.authority()).ok(),
            observers,
            send_limits,
            parked: ParkedSender::default(),
            close_report: CloseReport::default(),
        }
    }

    /// Requests that it takes at a time.
    pub(crate) fn streams(&self) -> usize {
        match self.facts.http() {
            HttpVersion::H1 => 1,
            HttpVersion::H2 => self.wire.streams(),
        }
    }

    /// Drives the connection to its end, and calls `streams_changed` when
    /// [`streams`](Self::streams) may have changed. Once told to close, it gets `CLOSING_TIME`
    /// for that: a peer that does not read must not keep its connection in the pool.
    pub(crate) async fn until_end(
        &self,
        mut end: BoxFuture<'static, CloseReason>,
        streams_changed: impl Fn(),
    ) -> CloseReason {
        let (mut listener, mut timer) = (Listener::default(), StallTimer::default());
        loop {
            let step = poll_fn(|cx| {
                if let Poll::Ready(seen) = end.as_mut().poll(cx) {
                    return Poll::Ready(Step::Ended(seen));
                }
                if self.poll_stalled(&mut timer, cx).is_ready() {
                    return Poll::Ready(Step::Ended(CloseReason::Cancelled));
                }
                self.wire.signals.poll(&mut listener, cx).map(Step::Told)
            });
            let told = match step.await {
                Step::Ended(seen) => return seen,
                Step::Told(told) => told,
            };
            if told & STREAMS_CHANGED != 0 {
                streams_changed();
                self.wire.pool_informed();
            }
            if told & CLOSE != 0 {
                return timeout(CLOSING_TIME, end)
                    .await
                    .unwrap_or(CloseReason::Evicted);
            }
        }
    }

    /// Looks after the limits of requests that are not all written. Ready when the connection is to
    /// be given up: on HTTP/1.1, where it has only one request.
    fn poll_stalled(&self, timer: &mut StallTimer, cx: &mut Context<'_>) -> Poll<()> {
        match self.facts.http() {
            HttpVersion::H2 => timer.poll_h2(&self.wire, self.send_limits, cx),
            HttpVersion::H1 => {
                let is_over = timer.poll_h1(&self.wire, self.send_limits, cx).is_ready();
                // Once it was answered, it is no longer waited for.
                if is_over && self.close_report.is_head_pending() {
                    self.wire.stall();
                    return Poll::Ready(());
                }
            }
        }
        Poll::Pending
    }

    /// Nothing of the requests that were not written yet ever will be; whether none was written
    /// before.
    pub(crate) fn abandon(&self) -> bool {
        let was_unused = !self.wire.has_opened_any();
        if was_unused {
            self.wire.abandon();
            self.tell_to_close();
        }
        was_unused
    }

    /// No request will use it again.
    pub(crate) fn tell_to_close(&self) {
        self.wire.signals.raise(CLOSE);
    }

    /// hyper has let go of the connection: no caller need wait for the peer's SETTINGS, or hold a
    /// sender, any more.
    pub(crate) fn close_driver(&self) {
        self.wire.stop_waiting();
        self.wire.leave_uploads();
        self.parked.close();
    }

    /// Notes why this connection is about to end; `None` takes it back.
    pub(crate) fn expect_end(&self, reason: Option<CloseReason>) {
        self.close_report.expect(reason);
    }

    /// Why it was to end, if that was known before it did.
    pub(crate) fn expected_end(&self) -> Option<CloseReason> {
        self.close_report.expected()
    }

    /// An h1 request is written.
    pub(crate) fn head_pending(&self) {
        self.close_report.head_pending();
    }

    /// Its response's head has been looked at, or never will be.
    pub(crate) fn head_seen(&self) {
        self.report(self.close_report.head_seen());
    }

    /// Whether it has carried no request yet.
    pub(crate) fn is_new(&self) -> bool {
        self.requests.load(Ordering::Relaxed) == 0
    }

    /// The connection takes no more requests.
    pub(crate) fn ended(&self, seen: CloseReason) {
        self.report(self.close_report.ended(seen));
    }

    /// Reports the end, if it is due now: the connection's proofs are gone (CL-4).
    fn report(&self, due: Option<CloseReason>) {
        let Some(reason) = due else { return };
        self.bound.closed(reason);
        self.observers.emit(&Event::ConnectionClosed {
            facts: &self.facts,
            reason,
            requests: self.requests.load(Ordering::Relaxed),
        });
    }
}
