//! Interception and tunnels, as `bowline run` sets them up.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use axum::routing::get;
use bytes::Bytes;
use http_body::Frame;
use http_body_util::StreamBody;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::streams::within;
use crate::agents::{self, Running, World};

/// Takes any certificate, as an agent that was told to verify none: the proxy must not rely on it.
#[derive(Debug)]
struct Careless;

impl ServerCertVerifier for Careless {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

fn builder() -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
}

/// A client that trusts the local authority and no other.
pub(super) fn careful(root: &Path) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(root).expect("a file") {
        roots.add(root.expect("PEM")).expect("a root");
    }
    builder()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

pub(super) fn careless(has_sni: bool) -> ClientConfig {
    let mut config = builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Careless))
        .with_no_client_auth();
    config.enable_sni = has_sni;
    config
}

/// A `CONNECT` as `requests` sends it: HTTP/1.0, no `Host`.
pub(super) async fn connect(proxy: &str, target: &str) -> (u16, TcpStream) {
    let mut socket = TcpStream::connect(proxy).await.expect("the proxy");
    let request = format!("CONNECT {target} HTTP/1.0\r\n\r\n");
    socket.write_all(request.as_bytes()).await.expect("written");
    let head = read_head(&mut socket).await;
    let status = head.split(' ').nth(1).expect("a status line");
    (status.parse().expect("a status"), socket)
}

pub(super) async fn read_head(io: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(io.read_u8().await.expect("a head"));
    }
    String::from_utf8(head).expect("UTF-8")
}

pub(super) async fn tls(
    proxy: &str,
    target: &str,
    config: ClientConfig,
    sni: &str,
) -> TlsStream<TcpStream> {
    let (status, socket) = connect(proxy, target).await;
    assert_eq!(status, 200, "{target}");
    let name = ServerName::try_from(sni.to_owned()).expect("a name");
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect(name, socket).await.expect("a handshake")
}

/// The answer's head to a request in an intercepted connection.
async fn ask(proxy: &str, target: &str, config: ClientConfig, sni: &str, request: &str) -> String {
    let mut stream = tls(proxy, target, config, sni).await;
    stream.write_all(request.as_bytes()).await.expect("written");
    read_head(&mut stream).await
}

/// As an agent asks that trusts the local authority.
async fn ask_carefully(running: &Running, host: &str, request: &str) -> String {
    let config = careful(&running.root);
    ask(&running.proxy, host, config, "localhost", request).await
}

fn authority(world: &World) -> String {
    agents::authority(&world.server.origin())
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_disagree_are_421_and_reach_no_origin() {
    let world = World::new("egress-names");
    let other = World::new("egress-names-other");
    let mut command = world.bowline("run");
    command.args([
        "--allow",
        &world.server.origin(),
        "--allow",
        &other.server.origin(),
    ]);
    let running = Running::start(command.arg("--")).await;
    let (here, there) = (authority(&world), authority(&other));
    let mut counts = std::collections::BTreeMap::new();
    let token = world.token();
    for (sni, has_sni) in [
        ("localhost", true),
        ("other.example", true),
        ("localhost", false),
    ] {
        for (target, host) in [
            ("/".to_owned(), here.clone()),
            ("/".to_owned(), here.to_uppercase()),
            ("/".to_owned(), there.clone()),
            ("/".to_owned(), "localhost".to_owned()),
            ("/".to_owned(), "other.example".to_owned()),
            (format!("https://{here}/"), here.clone()),
            (format!("https://{there}/"), here.clone()),
            (format!("https://{there}/"), there.clone()),
            (format!("http://{here}/"), here.clone()),
        ] {
            let request = format!(
                "GET {target} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n"
            );
            let head = ask(&running.proxy, &here, careless(has_sni), sni, &request).await;
            let status: u16 = head[9..12].parse().expect("a status");
            let agrees = sni == "localhost"
                && has_sni
                && host.eq_ignore_ascii_case(&here)
                && !target.contains(&there)
                && !target.starts_with("http:");
            assert_eq!(
                status,
                if agrees { 200 } else { 421 },
                "{sni} {has_sni} {target} {host}"
            );
            *counts.entry(status).or_insert(0) += 1;
        }
    }
    assert_eq!(
        counts.into_iter().collect::<Vec<_>>(),
        [(200, 3), (421, 24)]
    );
    assert_eq!(world.server.counts().requests, 3);
    assert_eq!(other.server.counts().requests, 0);
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_come_from_a_caller_is_refused() {
    let world = World::new("egress-refused");
    let running = Running::start(&mut world.run(&[])).await;
    let host = authority(&world);
    for (field, status) in [
        ("Session-Binding-Proof: x", "400"),
        ("session_binding_receipt: x", "400"),
        ("Client-Cert: :AA==:", "400"),
        ("TLS-Exporter: x", "400"),
        ("Connection: upgrade\r\nUpgrade: websocket", "501"),
        ("Connection: upgrade\r\nUpgrade: h2c", "200"),
        ("Host: other.example", "400"),
    ] {
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n{field}\r\n\r\n");
        let head = ask_carefully(&running, &host, &request).await;
        assert_eq!(&head[9..12], status, "{field}: {head}");
    }
    let nested = format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let head = ask_carefully(&running, &host, &nested).await;
    assert_eq!(&head[9..12], "501", "{head}");
    assert_eq!(world.server.counts().requests, 1);
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_of_one_connection_stay_on_it() {
    let world = World::new("egress-fields");
    let running = Running::start(&mut world.run(&[])).await;
    let host = authority(&world);
    let request = format!(
        "GET /a%2Fb?c=%20 HTTP/1.1\r\nHost: {host}\r\nConnection: X-Mine\r\nX-Mine: 1\r\n\
         Proxy-Authorization: Basic eA==\r\nKeep-Alive: timeout=5\r\nX-Kept: 1\r\n\r\n"
    );
    let head = ask_carefully(&running, &host, &request).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.contains("x-path: /a%2Fb\r\n"), "{head}");
    assert!(head.contains("x-got-x-kept: 1"), "{head}");
    for gone in [
        "x-got-x-mine",
        "x-got-proxy-authorization",
        "x-got-keep-alive",
        "alt-svc",
    ] {
        assert!(!head.contains(gone), "{gone}: {head}");
    }
    running.end().await;
}

/// Only a proxy may ask so: the agent would show the origin what is for its proxy.
#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_asks_for_the_password_of_a_proxy_is_a_502() {
    let asking = async || {
        let field = ("proxy-authenticate", "Basic realm=\"origin\"");
        (http::StatusCode::PROXY_AUTHENTICATION_REQUIRED, [field])
    };
    let world = World::with_routes("egress-407", Router::new().route("/407", get(asking)));
    let running = Running::start(&mut world.run(&[])).await;
    let host = authority(&world);
    let request = format!("GET /407 HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let head = ask_carefully(&running, &host, &request).await;
    assert!(head.starts_with("HTTP/1.1 502"), "{head}");
    assert!(!head.contains("proxy-authenticate"), "{head}");
    assert_eq!(world.server.counts().requests, 1);
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absolute_target_leaves_as_https_with_a_proof() {
    let world = World::new("egress-absolute");
    let running = Running::start(&mut world.run(&[])).await;
    let (host, token) = (authority(&world), world.token());
    for number in 1..=3 {
        let request = format!(
            "GET http://{host}/x HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\
             Connection: close\r\n\r\n"
        );
        let answer = running.say(&request).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert_eq!(world.seen.proofs(), (1, number));
    }
    // A web page, or a request for another origin.
    for (target, named, status) in [
        ("/x", "rebound.example", "421"),
        ("/x", &*host, "421"),
        ("http://other.example/x", "other.example", "403"),
        ("http://localhost/x", "localhost", "403"),
    ] {
        let request =
            format!("GET {target} HTTP/1.1\r\nHost: {named}\r\nConnection: close\r\n\r\n");
        let answer = running.say(&request).await;
        assert_eq!(&answer[9..12], status, "{target} {named}: {answer}");
    }
    assert_eq!(world.server.counts().requests, 3);
    let told = running.end().await;
    assert!(told.contains("1 connections out, 1 signatures"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tunnels_never_lead_here_nor_to_metadata() {
    let world = World::new("egress-tunnels");
    let running = Running::start(&mut world.run(&[])).await;
    let port = running.proxy.rsplit(':').next().expect("a port").to_owned();
    for target in [
        "127.0.0.1:443",
        "localhost:443",
        "[::1]:443",
        "[::ffff:127.0.0.1]:443",
        "169.254.169.254:80",
        "[fd00:ec2::254]:80",
        "100.100.100.200:80",
        "0.0.0.0:443",
        &format!("127.0.0.1:{port}"),
        &format!("localhost:{port}"),
    ] {
        assert_eq!(connect(&running.proxy, target).await.0, 403, "{target}");
    }
    for target in [
        "2130706433:443",
        "0x7f.1:443",
        "u@localhost:443",
        "localhost",
    ] {
        assert_eq!(connect(&running.proxy, target).await.0, 400, "{target}");
    }
    let told = running.end().await;
    assert!(
        told.contains("0 tunnels without a proof, 14 requests refused"),
        "{told}"
    );

    let running = Running::start(&mut world.run(&["--others", "refuse"])).await;
    let answer = running.say("CONNECT other.example:443 HTTP/1.0\r\n\r\n");
    let answer = answer.await;
    assert!(answer.starts_with("HTTP/1.0 403"), "{answer}");
    assert!(answer.contains("--allow https://other.example"), "{answer}");
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_cannot_be_verified_is_never_heard() {
    let world = World::new("egress-verify");
    let stranger = World::new("egress-stranger");
    let mut command = world.bowline("run");
    let running = Running::start(command.args(["--allow", &stranger.server.origin(), "--"])).await;
    let host = authority(&stranger);
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let head = ask_carefully(&running, &host, &request).await;
    assert!(head.starts_with("HTTP/1.1 502"), "{head}");
    assert_eq!(stranger.server.counts().requests, 0);
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_that_is_no_http_ends() {
    let world = World::new("egress-no-http");
    let running = Running::start(&mut world.run(&[])).await;
    let host = authority(&world);
    let mut stream = tls(&running.proxy, &host, careful(&running.root), "localhost").await;
    stream
        .write_all(b"\x00\x01\x02 no HTTP \r\n\r\n")
        .await
        .expect("written");
    let mut answer = Vec::new();
    // An answer 400 or none, and the end.
    let _ = stream.read_to_end(&mut answer).await;
    assert!(
        answer.is_empty() || answer.starts_with(b"HTTP/1.1 400"),
        "{answer:?}"
    );
    // Bytes that are no TLS, and a tunnel that is not used at all.
    let (_, mut socket) = connect(&running.proxy, &host).await;
    socket
        .write_all(b"GET / HTTP/1.1\r\n\r\n")
        .await
        .expect("written");
    let _ = socket.read_to_end(&mut answer).await;
    let unused = connect(&running.proxy, &host).await;
    assert_eq!(world.server.counts().requests, 0);
    running.end().await;
    drop(unused);
}

/// Says when it is dropped: the origin's stream was cancelled.
struct Dropped(mpsc::UnboundedSender<()>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_passed_on_at_once_and_a_dropped_stream_is_cancelled() {
    let (cancelled, mut cancellations) = mpsc::unbounded_channel();
    let stream = move || {
        let guard = Dropped(cancelled.clone());
        async move {
            let first = Frame::data(Bytes::from_static(b"data: 1\n\n"));
            let frames =
                futures_util::stream::unfold((Some(first), guard), |(frame, guard)| async {
                    match frame {
                        Some(frame) => Some((Ok::<_, Infallible>(frame), (None, guard))),
                        None => std::future::pending().await,
                    }
                });
            Response::builder()
                .header("content-type", "text/event-stream")
                .body(Body::new(StreamBody::new(frames)))
                .expect("a response")
        }
    };
    let world = World::with_routes("egress-events", Router::new().route("/events", get(stream)));
    let running = Running::start(&mut world.run(&[])).await;
    let host = authority(&world);
    let mut stream = tls(&running.proxy, &host, careful(&running.root), "localhost").await;
    let request = format!("GET /events HTTP/1.1\r\nHost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("written");
    within(read_head(&mut stream)).await;
    let mut event = Vec::new();
    while !event.ends_with(b"data: 1\n\n\r\n") {
        event.push(within(stream.read_u8()).await.expect("an event"));
    }
    drop(stream);
    let cancelled = within(cancellations.recv()).await;
    cancelled.expect("the origin's stream was cancelled");
    // The connection to the origin lives on: another request goes over it.
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let head = ask_carefully(&running, &host, &request).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(world.server.counts().opened, 1);
    running.end().await;
}
