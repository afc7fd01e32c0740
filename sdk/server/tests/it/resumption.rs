//! Sessions that are resumed, and for how long they can be (RS-1).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bowline_server::{AcceptErrorKind, ClientAuth};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue,
    Tls13ClientSessionValue,
};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, DistinguishedName, NamedGroup, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex,
};
use tokio_rustls::TlsConnector;

use crate::fixture::*;
use crate::handshakes::{acceptor, handshake, handshake_with};

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

/// EX-3: no ticket allows early data, so that a client that wants to send some cannot.
#[tokio::test]
async fn ex_8_a_resumed_session_carries_no_early_data() {
    let fixture = Fixture::new();
    let acceptor = acceptor(fixture.tls());
    let mut config =
        (*fixture.client_as(Some(&fixture.agent), "h2", &[&rustls::version::TLS13])).clone();
    config.enable_early_data = true;
    let config = Arc::new(config);
    handshake(&acceptor, &config).await.unwrap();
    let (near, far) = duplex(64 * 1024);
    let name = ServerName::try_from("localhost").unwrap();
    let client = async {
        let connector = TlsConnector::from(config.clone());
        let mut stream = connector
            .connect_with(name, near, |connection| {
                assert!(connection.early_data().is_none());
            })
            .await
            .unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), 1);
        assert!(!stream.get_ref().1.is_early_data_accepted());
    };
    let server = async {
        let (mut stream, facts) = acceptor.accept(far).await.unwrap();
        stream.write_u8(1).await.unwrap();
        stream.flush().await.unwrap();
        assert!(facts.is_resumed());
    };
    within(async { tokio::join!(server, client) }).await;
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
pub(crate) struct Revocable {
    pub(crate) trusted: Arc<AtomicBool>,
    pub(crate) roots: Arc<dyn ClientCertVerifier>,
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
