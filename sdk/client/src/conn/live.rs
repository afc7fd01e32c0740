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

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::HeaderValue;
use hyper::client::conn::{http1, http2};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::bind::BindConnection;
use crate::body::ReplayBody;
use crate::conn::close_report::CloseReport;
use crate::conn::facts::{ConnectionFacts, HttpVersion};
use crate::conn::frames::WireState;
use crate::conn::parked_sender::ParkedSender;
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
    /// The h1 sender, while its request waits for the response.
    pub(crate) parked: ParkedSender<http1::SendRequest<ReplayBody>>,
    close_report: CloseReport,
    told_to_close: Notify,
}

/// hyper's end of a connection.
pub(crate) enum Sender {
    H1(http1::SendRequest<ReplayBody>),
    H2(http2::SendRequest<ReplayBody>),
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
    ) -> Self {
        Self {
            facts,
            bound,
            requests: AtomicU64::new(0),
            wire,
            host: HeaderValue::try_from(origin.authority()).ok(),
            observers,
            parked: ParkedSender::default(),
            close_report: CloseReport::default(),
            told_to_close: Notify::new(),
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
        loop {
            tokio::select! {
                biased;
                seen = &mut end => return seen,
                () = self.wire.streams_changed() => {
                    streams_changed();
                    self.wire.pool_informed();
                }
                () = self.told_to_close.notified() => {
                    return timeout(CLOSING_TIME, end).await.unwrap_or(CloseReason::Evicted);
                }
            }
        }
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
        self.told_to_close.notify_one();
    }

    /// hyper has let go of the connection: no caller need wait for the peer's SETTINGS, or hold a
    /// sender, any more.
    pub(crate) fn close_driver(&self) {
        self.wire.stop_waiting();
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
