//! Opening a connection: name, socket, TLS, HTTP; each step with a time-out of its own.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bowline_proof::ExporterValue;
use futures_util::future::BoxFuture;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::{ClientConfig, HandshakeKind, ProtocolVersion};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::bind::Bind;
use crate::body::ReplayBody;
use crate::config::{HttpVersions, Timeouts};
use crate::conn::facts::{
    ConnectionFacts, ConnectionId, HttpVersion, Presented, TlsFacts, TlsVersion,
};
use crate::conn::frames::{ASSUMED_STREAMS, FrameObserver, WireState};
use crate::conn::h2_task::{CaptureExecutor, H2Task};
use crate::conn::identities::IdentityConfig;
use crate::conn::live::{Connection, Sender};
use crate::conn::proxy::Proxies;
use crate::conn::stall::SendLimits;
use crate::conn::tls::{
    self, CertificateRequest, LastCertificateRequest, record_certificate_request,
};
use crate::error::{Error, ErrorKind, Step};
use crate::observe::{CloseReason, Observers};
use crate::origin::Origin;

/// Opens connections for every origin of a client.
pub(crate) struct Connector {
    pub(crate) proxies: Proxies,
    /// Where to connect to for an origin, in place of its own host and port; tried in order.
    pub(crate) places: HashMap<Origin, Vec<Origin>>,
    pub(crate) ping: Option<Duration>,
    pub(crate) http: HttpVersions,
    pub(crate) timeouts: Timeouts,
    pub(crate) binding: Arc<dyn Bind>,
    pub(crate) observers: Observers,
}

/// How long the peer may take to answer an h2 PING.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// What an opening needs to know. Connections and session tickets are never shared between
/// destinations (CL-8).
pub(crate) struct Destination {
    pub(crate) origin: Origin,
    pub(crate) identity: Arc<IdentityConfig>,
    /// `None` for plaintext.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    pub(crate) last_request: LastCertificateRequest,
}

/// A connection that is ready for its first request.
pub(crate) struct Opened {
    pub(crate) connection: Arc<Connection>,
    pub(crate) sender: Sender,
    /// Drives the connection; ends when it takes no more requests.
    pub(crate) end: BoxFuture<'static, CloseReason>,
    pub(crate) handshake: Option<Duration>,
}

impl Connector {
    pub(crate) async fn open(&self, destination: &Destination) -> Result<Opened, Error> {
        let socket = self.reach(&destination.origin).await?;
        let peer = socket.peer_addr().ok();
        let Some(config_of_origin) = &destination.tls else {
            let http = match self.http {
                HttpVersions::Http2 => HttpVersion::H2,
                HttpVersions::Auto | HttpVersions::Http1 => HttpVersion::H1,
            };
            return self
                .speak(
                    destination,
                    socket,
                    facts(&destination.origin, peer, http, None),
                    None,
                )
                .await;
        };
        let asked = &destination.last_request;
        let config = match asked.has_varied() {
            false => config_of_origin.clone(),
            true => tls::without_resumption(config_of_origin),
        };
        let mut started = Instant::now();
        let first = self.handshake(&destination.origin, config.clone(), socket);
        let (mut stream, mut certificate_request) = match first.await {
            // A server that restarts resets what waits in its queue, and a balancer in front of it
            // leads to another one: nothing was said on this connection, so nothing is lost.
            Err(error) if ended_early(&error) => {
                tracing::debug!(origin = %destination.origin, %error, "connecting once more");
                let again = self.connect_again(&destination.origin, config);
                let handshake;
                (started, handshake) = again.await.map_err(|_| error)?;
                handshake
            }
            handshake => handshake?,
        };
        if is_resumed(&stream) && asked.has_varied() {
            // Another handshake has had the other answer meanwhile.
            let config = tls::without_resumption(config_of_origin);
            let again = self.connect_again(&destination.origin, config);
            (started, (stream, certificate_request)) = again.await?;
        }
        let took = started.elapsed();
        let resumed = is_resumed(&stream);
        let session = stream.get_ref().1;
        let http = match session.alpn_protocol() {
            Some(b"h2") => HttpVersion::H2,
            _ => HttpVersion::H1,
        };
        // CL-9: a resumed handshake asks nothing; it inherits the answer of the full ones, which are
        // all the same here.
        let certificate_request = if resumed {
            destination.last_request.load()
        } else {
            destination.last_request.store(certificate_request);
            certificate_request
        };
        let tls = TlsFacts {
            // Derived once, here, from the completed handshake (EX-3).
            exporter: ExporterValue::derive(session).map_err(|e| {
                Error::with_source(
                    ErrorKind::TlsHandshake,
                    "no exporter value could be derived",
                    e,
                )
            })?,
            version: match session.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => TlsVersion::Tls12,
                _ => TlsVersion::Tls13,
            },
            resumed,
            presented: match (certificate_request, &destination.identity.identity) {
                (CertificateRequest::Presented, Some(identity)) => {
                    Presented::Certificate(identity.clone())
                }
                (CertificateRequest::No, _) => Presented::NotRequested,
                (CertificateRequest::NothingFits | CertificateRequest::Presented, _) => {
                    Presented::Nothing
                }
            },
        };
        let facts = facts(&destination.origin, peer, http, Some(tls));
        self.speak(destination, stream, facts, Some(took)).await
    }

    /// A socket to the origin, or to the first of the places given for it that can be reached.
    async fn reach(&self, origin: &Origin) -> Result<TcpStream, Error> {
        let own = std::slice::from_ref(origin);
        let (last, others) = match self.places.get(origin).map(Vec::as_slice).unwrap_or(own) {
            [others @ .., last] => (last, others),
            [] => (origin, own),
        };
        for place in others {
            if let Ok(socket) = self.proxies.connect(place, &self.timeouts).await {
                return Ok(socket);
            }
        }
        self.proxies.connect(last, &self.timeouts).await
    }

    /// Another socket, and the handshake on it; when that has begun.
    async fn connect_again(
        &self,
        origin: &Origin,
        config: Arc<ClientConfig>,
    ) -> Result<(Instant, Handshake), Error> {
        let socket = self.reach(origin).await?;
        let started = Instant::now();
        Ok((started, self.handshake(origin, config, socket).await?))
    }

    async fn handshake(
        &self,
        origin: &Origin,
        config: Arc<ClientConfig>,
        socket: TcpStream,
    ) -> Result<Handshake, Error> {
        let name =
            ServerName::try_from(crate::origin::server_name(origin).to_owned()).map_err(|e| {
                Error::with_source(
                    ErrorKind::InvalidRequest,
                    "the URI's host is no valid server name",
                    e,
                )
            })?;
        let limit = self.timeouts.tls_handshake;
        let handshake = TlsConnector::from(config).connect(name, socket);
        match timeout(limit, record_certificate_request(handshake)).await {
            Ok((Ok(stream), certificate_request)) => Ok((stream, certificate_request)),
            Ok((Err(e), _)) => {
                let message = format!("the TLS handshake with {origin} failed");
                Err(Error::with_source(ErrorKind::TlsHandshake, message, e))
            }
            Err(_) => Err(Error::timeout(Step::TlsHandshake, limit)),
        }
    }

    async fn speak<IO>(
        &self,
        destination: &Destination,
        io: IO,
        facts: ConnectionFacts,
        handshake: Option<Duration>,
    ) -> Result<Opened, Error>
    where
        IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let failed = |e| {
            // No request was written (CL-7).
            Error::with_source(
                ErrorKind::ConnectionLost,
                "the HTTP connection could not be set up",
                e,
            )
        };
        let facts = Arc::new(facts);
        let wire = Arc::new(WireState::default());
        let io = FrameObserver::new(io, facts.http, wire.clone());
        let seen = wire.clone();
        let (sender, end): (Sender, BoxFuture<'static, CloseReason>) = match facts.http {
            HttpVersion::H1 => {
                let mut builder = http1::Builder::new();
                // A user agent must read a folded field (RFC 9112 §5.2).
                builder.allow_obsolete_multiline_headers_in_responses(true);
                let handshake = builder.handshake::<_, ReplayBody>(TokioIo::new(io));
                let (sender, connection) = handshake.await.map_err(failed)?;
                let end = async move { reason(connection.await, &seen) };
                (Sender::H1(sender), Box::pin(end))
            }
            HttpVersion::H2 => {
                let executor = CaptureExecutor::default();
                let mut builder = http2::Builder::new(executor.clone());
                builder
                    .timer(TokioTimer::new())
                    .initial_max_send_streams(ASSUMED_STREAMS)
                    .keep_alive_interval(self.ping)
                    .keep_alive_timeout(PING_TIMEOUT)
                    .keep_alive_while_idle(true);
                // Boxed: hyper's futures for a request have the connection's type as one of their
                // variants, and are moved ten times for each request.
                let io = TokioIo::new(Box::new(io));
                let handshake = builder.handshake::<_, ReplayBody>(io);
                let (sender, connection) = handshake.await.map_err(failed)?;
                seen.allow_streams(connection.current_max_send_streams());
                let streams = seen.clone();
                let task = H2Task::new(connection, executor, move |connection| {
                    streams.allow_streams(connection.current_max_send_streams());
                });
                let end = async move { reason(task.await, &seen) };
                (Sender::H2(sender), Box::pin(end))
            }
        };
        let bound = self.binding.open(&facts);
        Ok(Opened {
            connection: Arc::new(Connection::new(
                &destination.origin,
                facts,
                bound,
                wire,
                self.observers.clone(),
                SendLimits::new(self.timeouts.pool, self.timeouts.request_body),
            )),
            sender,
            end,
            handshake,
        })
    }
}

fn facts(
    origin: &Origin,
    peer: Option<SocketAddr>,
    http: HttpVersion,
    tls: Option<TlsFacts>,
) -> ConnectionFacts {
    ConnectionFacts {
        id: ConnectionId::next(),
        origin: origin.clone(),
        peer,
        http,
        tls,
        opened_at: SystemTime::now(),
    }
}

/// A connection after its TLS handshake, and what became of the client certificate in it.
type Handshake = (
    tokio_rustls::client::TlsStream<TcpStream>,
    CertificateRequest,
);

/// Whether the peer has ended the connection within the handshake without an alert, which would say
/// what is wrong.
fn ended_early(error: &Error) -> bool {
    let source = std::error::Error::source(error);
    let error = source.and_then(|source| source.downcast_ref::<io::Error>());
    error.is_some_and(|error| {
        matches!(
            error.kind(),
            io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::BrokenPipe
        )
    })
}

fn is_resumed(stream: &tokio_rustls::client::TlsStream<TcpStream>) -> bool {
    stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed)
}

/// Why a connection ended, as far as the connection itself can tell.
fn reason(ended: hyper::Result<()>, wire: &WireState) -> CloseReason {
    if wire.saw_goaway() {
        return CloseReason::Goaway;
    }
    match ended {
        Ok(()) => CloseReason::PeerClosed,
        Err(e) if is_end_of_file(&e) => CloseReason::PeerClosed,
        Err(_) => CloseReason::Error,
    }
}

/// A peer that closes the socket without TLS's `close_notify`: common, and for an idle connection
/// no error.
fn is_end_of_file(error: &hyper::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(e) = source {
        if let Some(io) = e.downcast_ref::<io::Error>() {
            return io.kind() == io::ErrorKind::UnexpectedEof;
        }
        source = e.source();
    }
    false
}
