//! What this end knows about one TLS connection: the value that RS-1..RS-13 are checked against.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use bowline_proof::{ExporterValue, KeyError, ProofVerifier, Thumbprint};
use rustls::ProtocolVersion;
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::sync::Notify;

use crate::memory::ProofMemory;

/// The facts of one TLS connection, fixed when its handshake ended, and the memory of the proofs seen on it.
///
/// An [`Acceptor`](crate::Acceptor) makes one per connection; [`serve`](crate::serve) puts it, in an `Arc`, into the
/// extensions of each request. When the last `Arc` is dropped the memory goes with it (RS-11): there is no table of
/// connections.
pub struct ConnectionFacts {
    pub(crate) id: ConnectionId,
    pub(crate) exporter: ExporterValue,
    pub(crate) certificate: Option<ClientCertificate>,
    pub(crate) resumed: bool,
    pub(crate) tls_version: ProtocolVersion,
    pub(crate) alpn: Option<Vec<u8>>,
    pub(crate) handshake_at: UnixTime,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) memory: ProofMemory,
    /// See [`drain_wanted`](Self::drain_wanted).
    pub(crate) drain: Notify,
}

impl ConnectionFacts {
    /// A number that no other connection of this process has.
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// The exporter value of this connection (EX-1).
    #[must_use]
    pub fn exporter(&self) -> &ExporterValue {
        &self.exporter
    }

    /// The client's certificate, verified by this end (RS-1); `None` if the client came without one.
    #[must_use]
    pub fn certificate(&self) -> Option<&ClientCertificate> {
        self.certificate.as_ref()
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

    /// Ends when the connection should take no more requests: a request was refused because the client's certificate has
    /// expired (RS-1), or the memory of `jti` values is nearly full (RS-9), and on a new connection the client has an
    /// empty one. For whoever serves the connection, once; [`serve`](crate::serve) heeds it.
    pub async fn drain_wanted(&self) {
        self.drain.notified().await;
    }

    /// Where the connection came from, if the acceptor was told.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }
}

/// No exporter value, no proof, no token: only what may stand in a log (EX-7).
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

/// Names a connection within this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId(u64);

impl ConnectionId {
    pub(crate) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The certificate that authenticated the client in the handshake.
pub struct ClientCertificate {
    der: CertificateDer<'static>,
    pub(crate) verifier: ProofVerifier,
}

impl ClientCertificate {
    pub(crate) fn new(der: CertificateDer<'static>) -> Result<Self, KeyError> {
        let verifier = ProofVerifier::new(&der)?;
        Ok(Self { der, verifier })
    }

    /// The certificate itself.
    #[must_use]
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// Its SHA-256 thumbprint (PR-3).
    #[must_use]
    pub fn thumbprint(&self) -> Thumbprint {
        self.verifier.thumbprint()
    }

    /// The last moment at which it is valid (RS-1).
    #[must_use]
    pub fn not_after(&self) -> UnixTime {
        self.verifier.not_after()
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate")
            .field("thumbprint", &self.thumbprint())
            .field("not_after", &self.not_after().as_secs())
            .finish_non_exhaustive()
    }
}
