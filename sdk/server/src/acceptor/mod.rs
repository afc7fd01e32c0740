//! From a byte stream to a TLS stream and its facts.

mod error;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bowline_proof::ExporterValue;
use rustls::{HandshakeKind, ProtocolVersion, ServerConnection};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use self::error::Cause;
pub use self::error::{AcceptError, AcceptErrorKind};
use crate::certificate::ClientCertificate;
use crate::connection_id::ConnectionId;
use crate::event::{CloseReport, report};
use crate::facts::ConnectionFacts;
use crate::proof_cache::ProofCache;
use crate::tls::CurrentTls;
use crate::{Clock, ServerEvent, ServerObserver, ServerTls, TlsReloader, tls};

type Accepted<IO> = (TlsStream<IO>, Arc<ConnectionFacts>);

const DEFAULT_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Performs TLS handshakes and reads from each new connection what binding needs.
///
/// It does not listen: [`Listener`](crate::Listener) does that, with many handshakes at a time.
#[derive(Clone)]
pub struct Acceptor {
    tls: Arc<CurrentTls>,
    pub(crate) clock: Clock,
    handshake_timeout: Duration,
    pub(crate) observer: Option<Arc<dyn ServerObserver>>,
}

impl Acceptor {
    /// An acceptor with this configuration, and ten seconds for a handshake.
    #[must_use]
    pub fn new(tls: ServerTls) -> Self {
        Self {
            clock: tls.clock.clone(),
            tls: CurrentTls::new(tls),
            handshake_timeout: DEFAULT_HANDSHAKE_TIMEOUT,
            observer: None,
        }
    }

    /// To replace the TLS configuration while the acceptor is in use, by a listener too. Its clones
    /// share it. The [clock](crate::ServerTlsBuilder::clock) stays that of the first configuration.
    #[must_use]
    pub fn reloader(&self) -> TlsReloader {
        TlsReloader(self.tls.clone())
    }

    /// How long a peer may take for its handshake.
    #[must_use]
    pub fn handshake_timeout(mut self, limit: Duration) -> Self {
        self.handshake_timeout = limit;
        self
    }

    /// Reports connections that open, close or fail in the handshake to this observer.
    #[must_use]
    pub fn observer(mut self, observer: impl ServerObserver) -> Self {
        self.observer = Some(Arc::new(observer));
        self
    }

    /// Performs the handshake on a stream whose origin is not known or does not matter.
    ///
    /// # Errors
    /// See [`AcceptErrorKind`]. The stream is closed.
    pub async fn accept<IO>(
        &self,
        io: IO,
    ) -> Result<(TlsStream<IO>, Arc<ConnectionFacts>), AcceptError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        self.handshake(io, None, std::future::pending()).await
    }

    /// Performs the handshake on a stream that came from `peer`.
    ///
    /// # Errors
    /// See [`AcceptErrorKind`]. The stream is closed.
    pub async fn accept_from<IO>(
        &self,
        io: IO,
        peer: SocketAddr,
    ) -> Result<(TlsStream<IO>, Arc<ConnectionFacts>), AcceptError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        self.handshake(io, Some(peer), std::future::pending()).await
    }

    /// As [`accept_from`](Self::accept_from), but cancelled when `displaced` completes.
    pub(crate) async fn accept_unless<IO>(
        &self,
        io: IO,
        peer: SocketAddr,
        displaced: oneshot::Receiver<()>,
    ) -> Result<Accepted<IO>, AcceptError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let displaced = async {
            // The sender is dropped only together with the listener, which cancels this future too.
            let _ = displaced.await;
        };
        self.handshake(io, Some(peer), displaced).await
    }

    async fn handshake<IO>(
        &self,
        io: IO,
        peer: Option<SocketAddr>,
        displaced: impl Future<Output = ()>,
    ) -> Result<Accepted<IO>, AcceptError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let begun = Instant::now();
        let accepted = tokio::select! {
            biased;
            accepted = self.negotiate(io, peer) => accepted,
            () = displaced => Err(AcceptError(Cause::Displaced)),
        };
        let event = match &accepted {
            Ok((_, facts)) => ServerEvent::ConnectionOpened {
                connection: facts.id(),
                resumed: facts.is_resumed(),
                h2: facts.alpn() == Some(b"h2"),
                took: begun.elapsed(),
            },
            Err(error) => ServerEvent::HandshakeFailed { kind: error.kind() },
        };
        report(self.observer.as_deref(), &event);
        accepted
    }

    async fn negotiate<IO>(
        &self,
        io: IO,
        peer: Option<SocketAddr>,
    ) -> Result<Accepted<IO>, AcceptError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let replacements = self.tls.replacements();
        let accept = TlsAcceptor::from(self.tls.load().config.clone()).accept(io);
        let stream = timeout(self.handshake_timeout, tls::handshake(accept))
            .await
            .map_err(|_| AcceptError(Cause::TimedOut(self.handshake_timeout)))?
            .map_err(|error| AcceptError(Cause::Handshake(error)))?;
        let facts = self.facts(stream.get_ref().1, replacements, peer)?;
        Ok((stream, Arc::new(facts)))
    }

    /// Reads the facts from a connection whose handshake is complete (EX-3).
    fn facts(
        &self,
        connection: &ServerConnection,
        replacements: u64,
        peer: Option<SocketAddr>,
    ) -> Result<ConnectionFacts, AcceptError> {
        let resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
        let chain = connection.peer_certificates().unwrap_or_default();
        let certificate =
            ClientCertificate::verified(chain, self.tls.clone(), replacements, &self.clock)
                .transpose()
                .map_err(|error| AcceptError(Cause::ClientKey(error)))?;
        // RS-1: rustls takes the certificate chain of a resumed session from the ticket and does
        // not verify it again. It may have expired or lost its trust since.
        // Upstream: no issue; request 17 in `docs/src/upstream.md`.
        // And the roots may have been replaced during the handshake.
        if let Some(certificate) = &certificate {
            let verified = match resumed {
                true => certificate.verify_again(),
                false => certificate.verify_if_replaced(),
            };
            verified.map_err(|error| AcceptError(Cause::ResumedCertificate(error)))?;
        }
        let certificate = certificate.map(Arc::new);
        let exporter = ExporterValue::derive(connection)
            .map_err(|error| AcceptError(Cause::Exporter(error)))?;
        let id = ConnectionId::next();
        Ok(ConnectionFacts {
            id,
            exporter,
            certificate,
            resumed,
            tls_version: connection
                .protocol_version()
                .unwrap_or(ProtocolVersion::Unknown(0)),
            alpn: connection.alpn_protocol().map(<[u8]>::to_vec),
            handshake_at: self.clock.now(),
            peer,
            proofs: ProofCache::new(),
            drain: tokio::sync::Notify::new(),
            close_report: CloseReport::new(id, self.observer.clone()),
        })
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor")
            .field("tls", &self.tls.load())
            .field("handshake_timeout", &self.handshake_timeout)
            .finish_non_exhaustive()
    }
}
