//! Handshakes that succeed, and those that are refused.

use std::sync::Arc;
use std::time::Duration;

use bowline_server::{
    AcceptErrorKind, Acceptor, ClientAuth, ConnectionFacts, ConnectionLimits, Identity, Limit,
    Listener, ServerEvent, ServerTlsBuilder, TlsErrorKind,
};
use rcgen::{PKCS_ECDSA_P521_SHA512, date_time_ymd};
use rustls::{ClientConfig, ProtocolVersion};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

use crate::fixture::*;
use crate::pki::Ca;

pub(crate) type Accepted = Result<Arc<ConnectionFacts>, AcceptErrorKind>;

/// Both ends of one handshake, in memory. The client reads one byte, so that it sees tickets.
pub(crate) async fn handshake(acceptor: &Acceptor, config: &Arc<ClientConfig>) -> Accepted {
    handshake_with(acceptor, config, "localhost").await
}

pub(crate) async fn handshake_with(
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

pub(crate) fn acceptor(tls: ServerTlsBuilder) -> Acceptor {
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

/// A ClientHello of TLS 1.2 with one cipher suite, in its record. No library at hand leaves
/// extended master secret (RFC 7627) out.
fn client_hello(is_extended: bool) -> Vec<u8> {
    fn with_length(bytes: usize, content: &[u8]) -> Vec<u8> {
        let length = (content.len() as u64).to_be_bytes();
        [&length[8 - bytes..], content].concat()
    }
    let mut extensions = [
        // supported_groups: x25519, secp256r1; signature_algorithms: ECDSA, RSA-PSS and RSA with
        // SHA-256; ec_point_formats: uncompressed; renegotiation_info, empty.
        &[0x00, 0x0a, 0, 6, 0, 4, 0x00, 0x1d, 0x00, 0x17][..],
        &[0x00, 0x0d, 0, 8, 0, 6, 0x04, 0x03, 0x08, 0x04, 0x04, 0x01],
        &[0x00, 0x0b, 0, 2, 1, 0],
        &[0xff, 0x01, 0, 1, 0],
    ]
    .concat();
    if is_extended {
        extensions.extend([0x00, 0x17, 0, 0]);
    }
    let extensions = with_length(2, &extensions);
    let suites = [0, 4, 0xc0, 0x2b, 0xc0, 0x2f];
    let hello = [
        &[0x03, 0x03][..],
        &[7; 32],
        &[0],
        &suites,
        &[1, 0],
        &extensions,
    ]
    .concat();
    let message = [&[1][..], &with_length(3, &hello)].concat();
    [&[22, 0x03, 0x01][..], &with_length(2, &message)].concat()
}

#[tokio::test]
async fn ex_2_tls_1_2_without_extended_master_secret_is_refused() {
    const HANDSHAKE: u8 = 22;
    const HANDSHAKE_FAILURE: &[u8] = &[21, 3, 3, 0, 2, 2, 40];
    let fixture = Fixture::new();
    let acceptor = acceptor(fixture.tls());
    for is_extended in [false, true] {
        let (mut near, far) = duplex(64 * 1024);
        near.write_all(&client_hello(is_extended)).await.unwrap();
        near.shutdown().await.unwrap();
        let error = within(acceptor.accept(far)).await.unwrap_err();
        let mut answer = Vec::new();
        near.read_to_end(&mut answer).await.unwrap();
        if is_extended {
            // It goes on with its ServerHello, and the client has nothing to say to that.
            assert_eq!(error.kind(), AcceptErrorKind::Io, "{error}");
            assert_eq!(answer.first(), Some(&HANDSHAKE), "{answer:?}");
        } else {
            assert_eq!(error.kind(), AcceptErrorKind::Tls, "{error}");
            assert_eq!(answer, HANDSHAKE_FAILURE);
        }
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
            ServerEvent::LimitReached { limit, .. } => assert_eq!(limit, Limit::Handshakes),
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
    let error = Identity::from_pem_files(&chain, &key).unwrap_err();
    assert_eq!(error.kind(), TlsErrorKind::KeyMismatch);
    assert!(
        error.to_string().contains("one.pem") && error.to_string().contains("other.key"),
        "{error}"
    );

    let fitting = folder.write("one.key", one.key.serialize_pem());
    Identity::from_pem_files(&chain, fitting).unwrap();
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
        let error = Identity::from_pem_files(chain, key).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(named), "{error}");
    }
    let error = bowline_server::Trust::from_pem_file(&empty).unwrap_err();
    assert!(error.to_string().contains("empty.pem"), "{error}");
}

#[test]
fn no_roots_is_a_configuration_error() {
    let fixture = Fixture::new();
    let none = ClientAuth::Required(Arc::new(rustls::RootCertStore::empty()).into());
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
