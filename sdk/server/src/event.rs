//! Events about connections and requests, for metrics and logs.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bowline_proof::dpop::{DpopCheck, DpopRefusal};
use bowline_proof::{Check, Refusal};

use crate::connection_id::ConnectionId;
use crate::{AcceptErrorKind, BindingClass, Limit, Observed, OwnerClass};

/// An event. An observer given to [`BindingLayer::observer`](crate::BindingLayer::observer)
/// receives events about requests, one given to [`Acceptor::observer`](crate::Acceptor::observer)
/// events about connections; it may be the same observer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerEvent {
    /// A request passed.
    Verified {
        /// The connection it came over.
        connection: ConnectionId,
        /// What was verified of it.
        class: BindingClass,
        /// Its token has `tls_exp`: see
        /// [`VerifiedBinding::is_marked`](crate::VerifiedBinding::is_marked).
        marked: bool,
        /// It had a session-binding proof or a DPoP proof that passed.
        proof: bool,
        /// The proof was in the connection's cache, so no signature was verified.
        cached: bool,
        /// The proof had `jti`, `htm` and `htu`.
        request_bound: bool,
    },
    /// A request passed, and its policy is only observed: what the policy would have said. It comes
    /// after `Verified`.
    Observed {
        /// The connection it came over.
        connection: ConnectionId,
        /// One of the four counts, and the check.
        outcome: Observed,
    },
    /// A request was refused.
    Refused {
        /// The connection it came over.
        connection: ConnectionId,
        /// The check that refused it.
        check: Check,
    },
    /// A request was refused by a check of DPoP.
    DpopRefused {
        /// The connection it came over.
        connection: ConnectionId,
        /// The check that refused it.
        check: DpopCheck,
    },
    /// It could not be decided whether the token is valid, or whether its proof was used before
    /// (503).
    Unavailable {
        /// The connection it came over.
        connection: ConnectionId,
    },
    /// A handshake succeeded.
    ConnectionOpened {
        /// The connection.
        connection: ConnectionId,
        /// It resumed an earlier session.
        resumed: bool,
        /// HTTP/2 was negotiated.
        h2: bool,
        /// The duration of the handshake.
        took: Duration,
    },
    /// A connection was closed, and its proof cache freed (RS-11).
    ConnectionClosed {
        /// The connection.
        connection: ConnectionId,
        /// Why.
        reason: CloseReason,
    },
    /// A handshake failed.
    HandshakeFailed {
        /// Why.
        kind: AcceptErrorKind,
    },
    /// A limit was reached.
    LimitReached {
        /// Which.
        limit: Limit,
        /// What the client is named by: the holder of the connection that was closed, drained or
        /// reset, or the one whose request was refused.
        holder: OwnerClass,
    },
}

/// Why a connection ended, or was asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer closed it properly.
    Peer,
    /// It failed.
    Error,
    /// It had no request for too long.
    Idle,
    /// It was closed to make room for another one, while it was idle.
    Evicted,
    /// The peer took nothing of a response for too long.
    Stalled,
    /// It was as old as connections may become.
    Age,
    /// The client's certificate has expired (RS-1).
    Certificate,
    /// The client's certificate was verified again, and no longer passes (RS-1).
    CertificateRefused,
    /// Its set of used `jti` values is nearly full (RS-9).
    JtiQuota,
    /// The server is shutting down.
    Shutdown,
    /// Not known: the peer, an error or a shutdown under `axum::serve`, which does not say.
    Unknown,
}

impl CloseReason {
    /// A short name in snake case, for metric labels.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Error => "error",
            Self::Idle => "idle",
            Self::Evicted => "evicted",
            Self::Stalled => "stalled",
            Self::Age => "age",
            Self::Certificate => "certificate",
            Self::CertificateRefused => "certificate_refused",
            Self::JtiQuota => "jti_quota",
            Self::Shutdown => "shutdown",
            Self::Unknown => "unknown",
        }
    }
}

/// Receives events, on the task in which they happen, so it must not block. Closures implement it.
pub trait ServerObserver: Send + Sync + 'static {
    /// Receives one event.
    fn observe(&self, event: &ServerEvent);
}

impl<F: Fn(&ServerEvent) + Send + Sync + 'static> ServerObserver for F {
    fn observe(&self, event: &ServerEvent) {
        self(event);
    }
}

/// Passes an event on, if there is an observer.
pub(crate) fn report(observer: Option<&dyn ServerObserver>, event: &ServerEvent) {
    if let Some(observer) = observer {
        observer.observe(event);
    }
}

/// Logs and reports that a check refused a request.
pub(crate) fn report_refusal(
    observer: Option<&dyn ServerObserver>,
    connection: ConnectionId,
    refusal: Refusal,
) {
    tracing::debug!(%connection, %refusal, "request refused");
    let check = refusal.check();
    report(observer, &ServerEvent::Refused { connection, check });
}

/// Logs and reports that a check of DPoP refused a request.
pub(crate) fn report_dpop_refusal(
    observer: Option<&dyn ServerObserver>,
    connection: ConnectionId,
    refusal: DpopRefusal,
) {
    tracing::debug!(%connection, %refusal, "request refused");
    let check = refusal.check();
    report(observer, &ServerEvent::DpopRefused { connection, check });
}

/// Reports the end of a connection when it is dropped together with the connection's facts.
pub(crate) struct CloseReport {
    connection: ConnectionId,
    observer: Option<Arc<dyn ServerObserver>>,
    reason: OnceLock<CloseReason>,
}

impl CloseReport {
    pub(crate) fn new(connection: ConnectionId, observer: Option<Arc<dyn ServerObserver>>) -> Self {
        Self {
            connection,
            observer,
            reason: OnceLock::new(),
        }
    }

    /// Keeps the first reason; later ones are consequences of it.
    pub(crate) fn set_reason(&self, reason: CloseReason) {
        let _ = self.reason.set(reason);
    }

    pub(crate) fn observer(&self) -> Option<Arc<dyn ServerObserver>> {
        self.observer.clone()
    }

    /// The reason, if one was set.
    pub(crate) fn reason(&self) -> Option<CloseReason> {
        self.reason.get().copied()
    }
}

impl Drop for CloseReport {
    fn drop(&mut self) {
        let event = ServerEvent::ConnectionClosed {
            connection: self.connection,
            reason: self.reason().unwrap_or(CloseReason::Unknown),
        };
        report(self.observer.as_deref(), &event);
    }
}
