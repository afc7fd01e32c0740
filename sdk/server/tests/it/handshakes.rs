//! Handshakes that succeed, and those that are refused.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bowline_server::{
    AcceptErrorKind, Acceptor, ClientAuth, ConnectionFacts, ConnectionLimits, Listener,
    ServerEvent, ServerIdentity, ServerTlsBuilder, TlsErrorKind,
};
use rcgen::{PKCS_ECDSA_P521_SHA512, date_time_ymd};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue,
    Tls13ClientSessionValue,
};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, NamedGroup, ProtocolVersion,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

use crate::fixture::*;
use crate::pki::Ca;

type Accepted = Result<Arc<ConnectionFacts>, AcceptErrorKind>;

/// Both ends of one handshake, in memory. The client reads one byte, so that it sees tickets.
async fn handshake(acceptor: &Acceptor, config: &Arc<ClientConfig>) -> Accepted {
    handshake_with(acceptor, config, "localhost").await
}

async fn handshake_with(
    acceptor: &Acceptor,
    config: &Arc<ClientConfig>,
    name: &'static str,
) -> Accepted {
    let (near, far) = duplex(64 * 1024);
    let client = async {
        let name = ServerName::try_from(name).unwrap();
        let mut stream = TlsConnector::from(config.clone())
            .connect(name, near)
            .await
            .ok()?;
        stream.read_u8().await.ok()
    };
    let server = async {
        let (mut stream, facts) = acceptor.accept(far).await.map_err(|error| error.kind())?;
        stream.write_u8(1).await.unwrap();
        stream.flush().await.unwrap();
        Ok(facts)
    };
    within(async { tokio::join!(server, client) }).await.0
}

fn handshakes(max: usize) -> ConnectionLimits {
    let mut limits = ConnectionLimits::default();
    limits.max_handshakes = max;
    limits
}

fn acceptor(tls: ServerTlsBuilder) -> Acceptor {
    Acceptor::new(tls.build().unwrap()).handshake_timeout(HANG)
}

#[tokio::test]
async fn the_facts_show_what_was_negotiated() {
    let fixture = Fixture::new();
    let acceptor = acceptor(fixture.tls());
    for (version, named) in [
        (&rustls::version::TLS13, ProtocolVersion::TLSv1_3),
        (&rustls::version::TLS12, ProtocolVersion::TLSv1_2),
    ] {
        let config = fixture.client_as(Some(&fixture.agent), "http/1.1", &[version]);
        let facts = handshake(&acceptor, &config).await.unwrap();
        assert_eq!(facts.tls_version(), named);
        assert_eq!(facts.alpn(), Some(&b"http/1.1"[..]));
        assert!(!facts.is_resumed());
        let certificate = facts.certificate().unwrap();
        assert_eq!(certificate.der(), &fixture.agent.certificate);
        assert_eq!(
            certificate.thumbprint().to_string(),
            fixture.agent.thumbprint()
        );
    }
}

#[tokio::test]
async fn rs_1_certificates_that_do_not_verify_get_no_connection() {
    let fixture = Fixture::new();
    let acceptor = acceptor(fixture.tls());
    let foreign = Ca::new("foreign").client("agent");
    let expired = fixture.ca.client_with(
        "agent",
        |params| params.not_after = date_time_ymd(2021, 1, 1),
        &rcgen::PKCS_ECDSA_P256_SHA256,
    );
    let not_yet = fixture.ca.client_with(
        "agent",
        |params| params.not_before = date_time_ymd(2039, 1, 1),
        &rcgen::PKCS_ECDSA_P256_SHA256,
    );
    let of_a_server = fixture.ca.server();
    for identity in [
        Some(&foreign),
        Some(&expired),
        Some(&not_yet),
        Some(&of_a_server),
        None,
    ] {
        for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
            let config = fixture.client_as(identity, "h2", &[version]);
            assert_eq!(
                handshake(&acceptor, &config).await.unwrap_err(),
                AcceptErrorKind::Tls
            );
        }
    }
}

#[tokio::test]
async fn pr_2_a_certificate_whose_key_cannot_sign_proofs_gets_no_connection() {
    let fixture = Fixture::new();
    let acceptor = acceptor(fixture.tls());
    let agent = fixture
        .ca
        .client_with("agent", |_| {}, &PKCS_ECDSA_P521_SHA512);
    let config = fixture.client_as(Some(&agent), "h2", rustls::ALL_VERSIONS);
    assert_eq!(
        handshake(&acceptor, &config).await.unwrap_err(),
        AcceptErrorKind::ClientKey
    );
}

#[tokio::test]
async fn rs_1_a_resumed_session_whose_certificate_has_expired_since_gets_no_connection() {
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let fixture = Fixture::new();
        let acceptor = acceptor(fixture.tls());
        let config = fixture.client_as(Some(&fixture.agent), "h2", &[version]);
        let facts = handshake(&acceptor, &config).await.unwrap();
        let left =
            facts.certificate().unwrap().not_after().as_secs() - facts.handshake_at().as_secs();

        // Ten minutes before `notAfter` a new session can still be made, and its ticket is valid
        // for an hour.
        fixture.clock.advance(left - 600);
        handshake(&acceptor, &config).await.unwrap();
        assert!(handshake(&acceptor, &config).await.unwrap().is_resumed());
        fixture.clock.advance(601);
        assert_eq!(
            handshake(&acceptor, &config).await.unwrap_err(),
            AcceptErrorKind::ResumedCertificate
        );
    }
}

#[tokio::test]
async fn rs_1_a_resumed_session_whose_certificate_is_no_longer_trusted_gets_no_connection() {
    let fixture = Fixture::new();
    let trusted = Arc::new(AtomicBool::new(true));
    let verifier = Arc::new(Revocable {
        trusted: trusted.clone(),
        roots: WebPkiClientVerifier::builder_with_provider(
            fixture.ca.roots(),
            Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
        )
        .build()
        .unwrap(),
    });
    let acceptor = acceptor(fixture.tls_with(ClientAuth::Custom(verifier)));
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        trusted.store(true, Ordering::SeqCst);
        let config = fixture.client_as(Some(&fixture.agent), "h2", &[version]);
        handshake(&acceptor, &config).await.unwrap();
        assert!(handshake(&acceptor, &config).await.unwrap().is_resumed());
        trusted.store(false, Ordering::SeqCst);
        assert_eq!(
            handshake(&acceptor, &config).await.unwrap_err(),
            AcceptErrorKind::ResumedCertificate
        );
    }
}

#[tokio::test]
async fn a_session_is_not_resumed_after_the_ticket_lifetime_or_where_it_is_switched_off() {
    let fixture = Fixture::new();
    let hour = acceptor(fixture.tls().ticket_lifetime(Duration::from_secs(3600)));
    let never = acceptor(fixture.tls().ticket_lifetime(None));
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let config = fixture.client_as(Some(&fixture.agent), "h2", &[version]);
        handshake(&hour, &config).await.unwrap();
        assert!(handshake(&hour, &config).await.unwrap().is_resumed());
        fixture.clock.advance(3601);
        assert!(!handshake(&hour, &config).await.unwrap().is_resumed());

        let config = fixture.client_as(Some(&fixture.agent), "h2", &[version]);
        handshake(&never, &config).await.unwrap();
        assert!(!handshake(&never, &config).await.unwrap().is_resumed());
    }
}

/// RFC 8446 section 4.6.1: however many tickets succeed one another.
#[tokio::test]
async fn rs_1_a_session_is_resumed_for_its_lifetime_from_the_last_full_handshake_on_and_no_longer()
{
    let fixture = Fixture::new();
    let acceptor = acceptor(fixture.tls().ticket_lifetime(Duration::from_secs(3600)));
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let config = fixture.client_as(Some(&fixture.agent), "h2", &[version]);
        assert!(!handshake(&acceptor, &config).await.unwrap().is_resumed());
        for _ in 0..2 {
            fixture.clock.advance(3000);
            assert!(handshake(&acceptor, &config).await.unwrap().is_resumed());
            fixture.clock.advance(601);
            // Nobody's connection fails for it.
            assert!(!handshake(&acceptor, &config).await.unwrap().is_resumed());
        }
    }
}

#[tokio::test]
async fn rs_1_a_session_that_is_resumed_after_a_hello_retry_request_is_not_older_for_it() {
    let fixture = Fixture::new();
    let acceptor = acceptor(fixture.tls().ticket_lifetime(Duration::from_secs(3600)));
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    // The server does not know the first, for which the client sends a share.
    provider.kx_groups = vec![
        rustls::crypto::aws_lc_rs::kx_group::MLKEM768,
        rustls::crypto::aws_lc_rs::kx_group::X25519,
    ];
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(fixture.ca.roots())
        .with_client_auth_cert(
            vec![fixture.agent.certificate.clone()],
            fixture.agent.private_key(),
        )
        .unwrap();
    config.resumption = Resumption::store(Arc::new(AnyName::default()));
    let config = Arc::new(config);
    let hello = async || {
        let (near, far) = duplex(64 * 1024);
        let name = ServerName::try_from("localhost").unwrap();
        let client = async {
            let mut stream = TlsConnector::from(config.clone())
                .connect(name, near)
                .await
                .unwrap();
            stream.read_u8().await.unwrap();
        };
        let server = async {
            let mut far = Tapped::new(far);
            let (mut stream, facts) = acceptor.accept(&mut far).await.unwrap();
            stream.write_u8(1).await.unwrap();
            stream.flush().await.unwrap();
            drop(stream);
            assert_eq!(far.hello_retry_requests(), 1);
            facts.is_resumed()
        };
        within(async { tokio::join!(server, client) }).await.0
    };
    assert!(!hello().await);
    fixture.clock.advance(3000);
    assert!(hello().await);
    fixture.clock.advance(3000);
    assert!(!hello().await);
    fixture.clock.advance(3000);
    assert!(hello().await);
}

#[tokio::test]
async fn rs_1_a_ticket_that_is_read_and_not_used_does_not_make_the_new_session_older() {
    let fixture = Fixture::new();
    let acceptor = acceptor(fixture.tls().ticket_lifetime(Duration::from_secs(3600)));
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let mut config = (*fixture.client_as(Some(&fixture.agent), "h2", &[version])).clone();
        config.resumption = Resumption::store(Arc::new(AnyName::default()));
        let config = Arc::new(config);
        let connect = async |name| handshake_with(&acceptor, &config, name).await.unwrap();
        assert!(!connect("localhost").await.is_resumed());
        fixture.clock.advance(3000);
        // The session is another name's, so that rustls reads its ticket and does not resume it.
        assert!(!connect("127.0.0.1").await.is_resumed());
        fixture.clock.advance(3000);
        assert!(connect("127.0.0.1").await.is_resumed());
        fixture.clock.advance(601);
        assert!(!connect("127.0.0.1").await.is_resumed());
    }
}

#[tokio::test(start_paused = true)]
async fn the_handshake_of_a_silent_or_slow_peer_ends_after_the_time_limit() {
    let fixture = Fixture::new();
    let acceptor =
        Acceptor::new(fixture.tls().build().unwrap()).handshake_timeout(Duration::from_secs(10));
    for bytes in [&b""[..], b"\x16\x03\x01\x00\xff"] {
        let (mut near, far) = duplex(1024);
        near.write_all(bytes).await.unwrap();
        let begun = tokio::time::Instant::now();
        let error = acceptor.accept(far).await.map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), AcceptErrorKind::TimedOut);
        assert_eq!(begun.elapsed(), Duration::from_secs(10));
    }
}

#[tokio::test]
async fn a_peer_that_disconnects_or_sends_garbage_gives_an_error_of_its_own_kind() {
    let fixture = Fixture::new();
    let acceptor = acceptor(fixture.tls());
    let talk = async |bytes: &'static [u8]| {
        let (mut near, far): (DuplexStream, _) = duplex(1024);
        near.write_all(bytes).await.unwrap();
        drop(near);
        within(acceptor.accept(far))
            .await
            .map(|_| ())
            .unwrap_err()
            .kind()
    };
    assert_eq!(talk(b"").await, AcceptErrorKind::Io);
    assert_eq!(talk(b"\x16\x03\x01\x00\xff\x01").await, AcceptErrorKind::Io);
    assert_eq!(talk(b"GET / HTTP/1.1\r\n\r\n").await, AcceptErrorKind::Tls);
}

#[tokio::test]
async fn silent_peers_do_not_delay_others() {
    let fixture = Fixture::new();
    let server = fixture.start().await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(server.addr).await.unwrap());
    }
    fixture.assert_is_served(&server).await;
    drop(silent);
}

#[tokio::test]
async fn at_the_handshake_limit_only_the_oldest_slow_handshake_is_cancelled() {
    let fixture = Fixture::new();
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (ends, mut ended) = mpsc::unbounded_channel();
    let acceptor = acceptor(fixture.tls()).observer(move |event: &ServerEvent| {
        let _ = ends.send(*event);
    });
    let mut listener = Listener::with_limits(tcp, acceptor, handshakes(4)).unwrap();
    let addr = listener.local_addr();
    let mut silent = Vec::new();
    for _ in 0..6 {
        silent.push(TcpStream::connect(addr).await.unwrap());
    }
    // After all of them.
    let config = fixture.client("h2");
    let honest = tokio::spawn(async move { tls(addr, &config).await.map(|_| ()) });
    let _connection = within(listener.accept()).await;
    honest.await.unwrap().unwrap();
    let mut displaced = 0;
    while let Ok(event) = ended.try_recv() {
        match event {
            ServerEvent::HandshakeFailed { kind } => {
                assert_eq!(kind, AcceptErrorKind::Displaced);
                displaced += 1;
            }
            ServerEvent::ConnectionOpened { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(displaced, 3, "of seven, four may stay");
}

#[tokio::test]
async fn at_the_handshake_limit_peers_wait_for_handshakes_that_are_not_slow() {
    let fixture = Fixture::new();
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut listener = Listener::with_limits(tcp, acceptor(fixture.tls()), handshakes(1)).unwrap();
    let addr = listener.local_addr();
    let clients: Vec<_> = (0..50)
        .map(|_| {
            let config = fixture.client("h2");
            tokio::spawn(async move { tls(addr, &config).await.map(|_| ()) })
        })
        .collect();
    for _ in 0..50 {
        within(listener.accept()).await;
    }
    for client in clients {
        client.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn connections_that_are_not_accepted_yet_do_not_stop_the_listener() {
    let fixture = Fixture::new();
    let mut listener = fixture.listener(fixture.tls()).await;
    let config = fixture.client("h2");
    let mut connections = Vec::new();
    for _ in 0..80 {
        connections.push(tls(listener.local_addr(), &config).await.unwrap());
    }
    let mut ids = std::collections::HashSet::new();
    for _ in 0..80 {
        ids.insert(within(listener.accept()).await.facts().id());
    }
    assert_eq!(ids.len(), 80);
}

#[test]
fn a_key_that_does_not_match_its_certificate_is_refused_and_the_error_names_both_files() {
    let fixture = Fixture::new();
    let folder = Folder::new("mismatch");
    let (one, other) = (fixture.ca.server(), fixture.ca.server());
    let chain = folder.write("one.pem", &one.certificate_pem);
    let key = folder.write("other.key", other.key.serialize_pem());
    let error = ServerIdentity::from_pem_files(&chain, &key).unwrap_err();
    assert_eq!(error.kind(), TlsErrorKind::KeyMismatch);
    assert!(
        error.to_string().contains("one.pem") && error.to_string().contains("other.key"),
        "{error}"
    );

    let fitting = folder.write("one.key", one.key.serialize_pem());
    ServerIdentity::from_pem_files(&chain, fitting).unwrap();
}

#[test]
fn an_error_about_a_wrong_file_names_the_file() {
    let fixture = Fixture::new();
    let folder = Folder::new("files");
    let server = fixture.ca.server();
    let chain = folder.write("chain.pem", &server.certificate_pem);
    let key = folder.write("key.pem", server.key.serialize_pem());
    let empty = folder.write("empty.pem", "");
    let absent = folder.path("absent.pem");
    for (chain, key, kind, named) in [
        (&chain, &empty, TlsErrorKind::PrivateKey, "empty.pem"),
        (&chain, &chain, TlsErrorKind::PrivateKey, "chain.pem"),
        (&empty, &key, TlsErrorKind::Certificate, "empty.pem"),
        (&key, &key, TlsErrorKind::Certificate, "key.pem"),
        (&absent, &key, TlsErrorKind::Unreadable, "absent.pem"),
        (&chain, &absent, TlsErrorKind::Unreadable, "absent.pem"),
    ] {
        let error = ServerIdentity::from_pem_files(chain, key).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(named), "{error}");
    }
    let error = bowline_server::roots_from_pem_file(&empty).unwrap_err();
    assert!(error.to_string().contains("empty.pem"), "{error}");
}

#[test]
fn no_roots_is_a_configuration_error() {
    let fixture = Fixture::new();
    let none = ClientAuth::Required(Arc::new(rustls::RootCertStore::empty()));
    let error: bowline_server::TlsError = fixture.tls_with(none).build().unwrap_err();
    assert_eq!(error.kind(), TlsErrorKind::ClientRoots);
}

#[tokio::test]
async fn nothing_secret_is_in_the_debug_output_of_the_facts() {
    let fixture = Fixture::new();
    let facts = handshake(&acceptor(fixture.tls()), &fixture.client("h2"))
        .await
        .unwrap();
    let shown = format!("{facts:?}");
    assert!(!shown.to_lowercase().contains("exporter"), "{shown}");
}

/// Offers the last session to every server, and knows no server's key exchange groups.
#[derive(Debug)]
struct AnyName(ClientSessionMemoryCache);

impl Default for AnyName {
    fn default() -> Self {
        Self(ClientSessionMemoryCache::new(8))
    }
}

fn any_name() -> ServerName<'static> {
    ServerName::try_from("any.example").unwrap()
}

impl ClientSessionStore for AnyName {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, session: Tls12ClientSessionValue) {
        self.0.set_tls12_session(any_name(), session);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.tls12_session(&any_name())
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.0.remove_tls12_session(&any_name());
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, session: Tls13ClientSessionValue) {
        self.0.insert_tls13_ticket(any_name(), session);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(&any_name())
    }
}

/// Keeps what is written.
struct Tapped {
    io: DuplexStream,
    written: Vec<u8>,
}

impl Tapped {
    fn new(io: DuplexStream) -> Self {
        Self {
            io,
            written: Vec::new(),
        }
    }

    /// A HelloRetryRequest is a ServerHello with this random value (RFC 8446 section 4.1.3).
    fn hello_retry_requests(&self) -> usize {
        const RANDOM: [u8; 8] = [0xCF, 0x21, 0xAD, 0x74, 0xE5, 0x9A, 0x61, 0x11];
        self.written
            .windows(RANDOM.len())
            .filter(|bytes| *bytes == RANDOM)
            .count()
    }
}

impl AsyncRead for Tapped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Tapped {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, buf))?;
        self.written.extend_from_slice(&buf[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Verifies by webpki, unless the test has revoked trust.
#[derive(Debug)]
struct Revocable {
    trusted: Arc<AtomicBool>,
    roots: Arc<dyn ClientCertVerifier>,
}

impl ClientCertVerifier for Revocable {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.roots.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        if self.trusted.load(Ordering::SeqCst) {
            self.roots
                .verify_client_cert(end_entity, intermediates, now)
        } else {
            let revoked = rustls::CertificateError::Revoked;
            Err(rustls::Error::InvalidCertificate(revoked))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.roots.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.roots.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.roots.supported_verify_schemes()
    }
}
