//! The facts of one TLS connection, against which RS-1..RS-13 are checked.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use bowline_proof::ExporterValue;
use rustls::ProtocolVersion;
use rustls_pki_types::UnixTime;
use tokio::sync::Notify;

use crate::certificate::ClientCertificate;
use crate::connection_id::ConnectionId;
use crate::event::{CloseReason, CloseReport};
use crate::owner::{AddressPrefix, Owner};
use crate::proof_cache::ProofCache;

/// The facts of one TLS connection, fixed when its handshake ended, and the cache of the proofs
/// seen on it.
///
/// An [`Acceptor`](crate::Acceptor) makes one per connection; [`serve`](crate::serve) puts it, in
/// an `Arc`, into the extensions of each request. The cache is freed with the last `Arc` (RS-11).
pub struct ConnectionFacts {
    pub(crate) id: ConnectionId,
    pub(crate) exporter: ExporterValue,
    pub(crate) certificate: Option<Arc<ClientCertificate>>,
    pub(crate) resumed: bool,
    pub(crate) tls_version: ProtocolVersion,
    pub(crate) alpn: Option<Vec<u8>>,
    pub(crate) handshake_at: UnixTime,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) proofs: ProofCache,
    /// See [`drain_wanted`](Self::drain_wanted).
    pub(crate) drain: Notify,
    pub(crate) close_report: CloseReport,
}

impl ConnectionFacts {
    /// A number that is unique within this process.
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// The exporter value of this connection (EX-1).
    #[must_use]
    pub fn exporter(&self) -> &ExporterValue {
        &self.exporter
    }

    /// The client's certificate, verified by this end (RS-1); `None` if the client came without
    /// one.
    #[must_use]
    pub fn certificate(&self) -> Option<&ClientCertificate> {
        self.certificate.as_deref()
    }

    /// Whether the handshake resumed an earlier session.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// The protocol version that was negotiated.
    #[must_use]
    pub fn tls_version(&self) -> ProtocolVersion {
        self.tls_version
    }

    /// The application protocol that was negotiated.
    #[must_use]
    pub fn alpn(&self) -> Option<&[u8]> {
        self.alpn.as_deref()
    }

    /// When the handshake ended.
    #[must_use]
    pub fn handshake_at(&self) -> UnixTime {
        self.handshake_at
    }

    /// Completes when the connection should take no more requests: a request was refused because
    /// the client's certificate has expired (RS-1), or the set of used `jti` values is nearly full
    /// (RS-9; a new connection starts with an empty one). It completes once, for the code that
    /// serves the connection; [`serve`](crate::serve) then drains it.
    pub async fn drain_wanted(&self) {
        self.drain.notified().await;
    }

    /// Asks for the connection to be drained. The first reason given is the one that is reported.
    pub(crate) fn drain(&self, reason: CloseReason) {
        self.close_report.set_reason(reason);
        self.drain.notify_one();
    }

    /// The owner of this connection.
    pub(crate) fn owner(&self) -> Owner {
        Owner::of(self.certificate(), self.peer())
    }

    /// The peer's address, if the acceptor was given it.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }
}

impl Owner {
    /// The owner of what came with this certificate and from this peer: the SPIFFE ID, else subject
    /// and issuer, else the thumbprint, else the address prefix.
    pub(crate) fn of(certificate: Option<&ClientCertificate>, peer: Option<SocketAddr>) -> Self {
        match (certificate, peer) {
            (Some(certificate), _) => certificate.owner().clone(),
            (None, Some(peer)) => Self::Address(AddressPrefix::of(peer.ip())),
            (None, None) => Self::Unknown,
        }
    }
}

/// Shows no exporter value, proof or token, only what may be logged (EX-7).
impl fmt::Debug for ConnectionFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionFacts")
            .field("id", &self.id)
            .field("certificate", &self.certificate)
            .field("resumed", &self.resumed)
            .field("tls_version", &self.tls_version)
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}
