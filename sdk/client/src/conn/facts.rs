//! What is known of a connection: made once, when its handshake ends, and never changed.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use bowline_proof::ExporterValue;

use crate::conn::identity::Identity;
use crate::origin::Origin;

/// A connection's number: unique in this process, in order of opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(u64);

impl ConnectionId {
    pub(crate) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    #[cfg(test)]
    pub(crate) fn numbered(number: u64) -> Self {
        Self(number)
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}", self.0)
    }
}

/// The HTTP version of a connection, by ALPN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HttpVersion {
    /// HTTP/1.1.
    H1,
    /// HTTP/2.
    H2,
}

/// What a binding needs to know of the connection that a request is about to be written to.
///
/// `Debug` shows no secret.
pub struct ConnectionFacts {
    pub(crate) id: ConnectionId,
    pub(crate) origin: Origin,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) http: HttpVersion,
    pub(crate) tls: Option<TlsFacts>,
    pub(crate) opened_at: SystemTime,
}

/// What is known of a connection's TLS session.
pub struct TlsFacts {
    pub(crate) exporter: ExporterValue,
    pub(crate) version: TlsVersion,
    pub(crate) resumed: bool,
    pub(crate) presented: Presented,
}

/// The TLS version of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TlsVersion {
    /// RFC 5246, with extended master secret (EX-2).
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// What became of the client certificate in the handshake (CL-9).
#[derive(Clone)]
pub enum Presented {
    /// The server asked for a certificate and this identity's was presented. On a resumed session:
    /// it was, in the last full handshake with this origin.
    Certificate(Arc<Identity>),
    /// The server did not ask for a certificate.
    NotRequested,
    /// The server asked and this client had none, or none with a signature scheme the server takes.
    Nothing,
}

impl ConnectionFacts {
    /// The connection's number.
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// The origin that it leads to.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The peer's address, where the transport has one.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// The HTTP version.
    pub fn http(&self) -> HttpVersion {
        self.http
    }

    /// When its handshake ended.
    pub fn opened_at(&self) -> SystemTime {
        self.opened_at
    }

    /// The TLS session; `None` on plaintext (loopback only).
    pub fn tls(&self) -> Option<&TlsFacts> {
        self.tls.as_ref()
    }

    /// The identity whose certificate authenticated this connection.
    pub fn identity(&self) -> Option<&Arc<Identity>> {
        match self.tls.as_ref()?.presented {
            Presented::Certificate(ref identity) => Some(identity),
            Presented::NotRequested | Presented::Nothing => None,
        }
    }
}

impl TlsFacts {
    /// The exporter value (EX-1): secret-like.
    pub fn exporter(&self) -> &ExporterValue {
        &self.exporter
    }

    /// The TLS version.
    pub fn version(&self) -> TlsVersion {
        self.version
    }

    /// Whether the session was resumed: its exporter value is new all the same (EX-5).
    pub fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// What became of the client certificate.
    pub fn presented(&self) -> &Presented {
        &self.presented
    }
}

impl fmt::Debug for ConnectionFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionFacts")
            .field("id", &self.id)
            .field("origin", &self.origin)
            .field("peer", &self.peer)
            .field("http", &self.http)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for TlsFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsFacts")
            .field("version", &self.version)
            .field("resumed", &self.resumed)
            .field("presented", &self.presented)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Presented::Certificate(identity) => write!(f, "Certificate({})", identity.thumbprint()),
            Presented::NotRequested => f.write_str("NotRequested"),
            Presented::Nothing => f.write_str("Nothing"),
        }
    }
}
