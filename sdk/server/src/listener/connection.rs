//! A connection that was accepted, and when it has to end.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};
use tokio_rustls::server::TlsStream;

use super::places::Place;
use crate::activity::Activity;
use crate::bounded::Bounded;
use crate::expiry::until_invalid;
use crate::forward::forward_writes;
use crate::limit::{ConnectionLimits, Limit};
use crate::limit_reports::LimitReports;
use crate::{CloseReason, ConnectionFacts};

/// A TLS connection together with its facts and its limits. It reads and writes application data.
///
/// [`serve_connection`](crate::serve_connection) and `axum::serve` keep all limits. If you give it
/// to hyper yourself, only stalled responses are limited, and [`end_wanted`](Self::end_wanted) says
/// when the others are reached.
pub struct Connection<IO = TcpStream> {
    stream: Bounded<TlsStream<IO>>,
    ending: Arc<Ending>,
}

/// When a connection has to end.
pub(crate) struct Ending {
    facts: Arc<ConnectionFacts>,
    activity: Arc<Activity>,
    limits: Arc<LimitReports>,
    first_request_timeout: Duration,
    idle_timeout: Duration,
    /// For its age.
    at: Option<Instant>,
    /// Freed together with this.
    place: Option<Place>,
}

impl<IO> Connection<IO> {
    /// A connection that no [`Listener`](crate::Listener) accepted, so that it counts for no quota.
    pub fn new(
        stream: TlsStream<IO>,
        facts: Arc<ConnectionFacts>,
        limits: &ConnectionLimits,
    ) -> Self {
        let reports = LimitReports::new(facts.close_report.observer());
        Self::with_place(stream, facts, Activity::new(), limits, reports, None)
    }

    pub(super) fn with_place(
        stream: TlsStream<IO>,
        facts: Arc<ConnectionFacts>,
        activity: Arc<Activity>,
        limits: &ConnectionLimits,
        reports: Arc<LimitReports>,
        place: Option<Place>,
    ) -> Self {
        let stalled = limits.stalled_response_timeout;
        Self {
            stream: Bounded::new(
                stream,
                facts.clone(),
                activity.clone(),
                reports.clone(),
                stalled,
            ),
            ending: Arc::new(Ending {
                facts,
                activity,
                limits: reports,
                first_request_timeout: limits.first_request_timeout,
                idle_timeout: limits.idle_timeout,
                at: limits.max_connection_age.map(|age| Instant::now() + age),
                place,
            }),
        }
    }

    /// The facts of this connection.
    #[must_use]
    pub fn facts(&self) -> &Arc<ConnectionFacts> {
        &self.ending.facts
    }

    /// Completes when the connection should take no more requests: its client certificate expires or
    /// no longer verifies (RS-1), or one of its [`ConnectionLimits`] is reached. For a server of your
    /// own, which then drains it. What an HTTP/1.1 `CONNECT` has made of it counts as one request.
    ///
    /// While this lives, the connection keeps its place among those of the
    /// [`Listener`](crate::Listener).
    pub fn end_wanted(&self) -> impl Future<Output = CloseReason> + Send + use<IO> {
        let ending = self.ending.clone();
        async move { ending.wanted().await }
    }

    pub(crate) fn into_parts(self) -> (Bounded<TlsStream<IO>>, Arc<Ending>) {
        (self.stream, self.ending)
    }
}

impl Ending {
    pub(crate) fn facts(&self) -> &Arc<ConnectionFacts> {
        &self.facts
    }

    pub(crate) fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }

    /// Completes when the connection should take no more requests, and sets the reason for which
    /// it is closed.
    pub(crate) async fn wanted(&self) -> CloseReason {
        let reached = |limit| self.limits.reached(limit, &self.facts.owner());
        let reason = tokio::select! {
            reason = until_invalid(&self.facts) => reason,
            // The verifier set the reason when it asked for the drain.
            () = self.facts.drain_wanted() => CloseReason::Unknown,
            never_used = self.activity.idle(self.first_request_timeout, self.idle_timeout) => {
                reached(if never_used { Limit::FirstRequest } else { Limit::Idle });
                CloseReason::Idle
            }
            () = self.old() => {
                reached(Limit::Age);
                CloseReason::Age
            }
            () = self.evicted() => CloseReason::Evicted,
        };
        self.facts.close_report.set_reason(reason);
        reason
    }

    async fn old(&self) {
        match self.at {
            Some(at) => sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    async fn evicted(&self) {
        match &self.place {
            Some(place) => place.evicted().await,
            None => std::future::pending().await,
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for Connection<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Connection<IO> {
    forward_writes!(stream);

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<IO> fmt::Debug for Connection<IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("facts", self.facts())
            .finish_non_exhaustive()
    }
}
