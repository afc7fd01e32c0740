//! Certificates of live connections are verified again, and the whole chain counts (RS-1).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bowline_proof::PROOF_HEADER;
use bowline_server::{
    Acceptor, ClientAuth, CloseReason, ConnectionLimits, Listener, PeerFacts, ServerEvent,
};
use http::{Request, StatusCode};
use http_body_util::Empty;
use rcgen::date_time_ymd;
use rustls::ClientConfig;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use tokio::net::TcpListener;

use crate::fixture::*;
use crate::pki::{Ca, Identity};
use crate::resumption::Revocable;

struct Scene {
    fixture: Fixture,
    addr: std::net::SocketAddr,
    closed: Arc<Mutex<Vec<CloseReason>>>,
    _server: Option<TestServer>,
}

impl Scene {
    /// A server under which nothing but the certificate ends a connection.
    async fn start(fixture: Fixture, auth: ClientAuth, axum: bool) -> Self {
        let closed: Arc<Mutex<Vec<_>>> = Arc::default();
        let log = closed.clone();
        let acceptor = Acceptor::new(fixture.tls_with(auth).build().unwrap()).observer(
            move |event: &ServerEvent| {
                if let ServerEvent::ConnectionClosed { reason, .. } = event {
                    log.lock().unwrap().push(*reason);
                }
            },
        );
        let mut limits = ConnectionLimits::default();
        limits.first_request_timeout = Duration::from_secs(1 << 30);
        limits.idle_timeout = Duration::from_secs(1 << 30);
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listener = Listener::with_limits(tcp, acceptor, limits).unwrap();
        let addr = listener.local_addr();
        let router = binding_report().layer(fixture.layer());
        let server = if axum {
            let app = router.into_make_service_with_connect_info::<PeerFacts>();
            tokio::spawn(axum::serve(listener, app).into_future());
            None
        } else {
            Some(TestServer::start(listener, router, fixture.options()))
        };
        Self {
            fixture,
            addr,
            closed,
            _server: server,
        }
    }

    async fn has_closed(&self) {
        let closed = async {
            while self.closed.lock().unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        within(closed).await;
    }
}

/// Lets this time pass, without waiting for it.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn rs_1_a_certificate_that_loses_its_trust_loses_its_live_connection_within_five_minutes() {
    for axum in [false, true] {
        for alpn in ["h2", "http/1.1"] {
            let fixture = Fixture::new();
            let trusted = Arc::new(AtomicBool::new(true));
            let verifier = Revocable {
                trusted: trusted.clone(),
                roots: verifier(&fixture),
            };
            let custom = ClientAuth::Custom(Arc::new(verifier));
            let scene = Scene::start(fixture, custom, axum).await;
            let (token, key) = (scene.fixture.token(), scene.fixture.agent.proof_key());
            let mut one = HttpConnection::connect(scene.addr, &scene.fixture.client(alpn)).await;
            let proof = one.proof(&key, &token);
            // It is not cut while it is trusted. The requests carry the answers to PINGs along.
            for _ in 0..72 {
                one.assert_passes(&token, &proof).await;
                pass(Duration::from_secs(50)).await;
            }
            trusted.store(false, Ordering::SeqCst);
            let mut passed = 0;
            loop {
                let request = Request::get("/")
                    .header("authorization", token.authorization())
                    .header(PROOF_HEADER, proof.header_value());
                match one.send(request.body(Empty::new()).unwrap()).await {
                    Ok(answer) if answer.status == StatusCode::OK => passed += 1,
                    Ok(answer) => {
                        answer.assert_refused("RS-1");
                        break;
                    }
                    // It was drained before the request came.
                    Err(_) => break,
                }
                assert!(passed <= 6, "five minutes have passed");
                pass(Duration::from_secs(50)).await;
            }
            // Under `axum::serve` it is closed after a second without a request.
            pass(Duration::from_secs(2)).await;
            within(one.ended).await.unwrap();
            scene.has_closed().await;
            let closed = scene.closed.lock().unwrap();
            assert_eq!(*closed, [CloseReason::CertificateRefused], "{alpn} {axum}");
        }
    }
}

#[tokio::test]
async fn rs_1_a_connection_ends_with_the_intermediate_of_its_certificate() {
    let fixture = Fixture::new();
    let until = |year| {
        move |params: &mut rcgen::CertificateParams| {
            params.not_after = date_time_ymd(year, 1, 1);
        }
    };
    let intermediate = fixture.ca.intermediate("intermediate", until(2035));
    let agent = intermediate.client("agent");
    // Clients send such ones too. It has ended already, and the path does not need it.
    let superfluous = Ca::new("old root").intermediate("intermediate", until(2024));
    let config = client(&fixture, &agent, &[&intermediate, &superfluous]);
    let roots = ClientAuth::Required(fixture.ca.roots().into());
    let scene = Scene::start(fixture, roots, false).await;
    let token = scene.fixture.authority.session_bound(&agent.thumbprint());
    let mut one = HttpConnection::connect(scene.addr, &config).await;
    let proof = one.proof(&agent.proof_key(), &token);
    one.assert_passes(&token, &proof).await;
    // To 2036: the agent's own certificate is valid until 2040.
    scene.fixture.clock.advance(9 * 366 * 24 * 60 * 60);
    one.assert_refused(&token, Some(&proof), "RS-1").await;
    within(one.ended).await.unwrap();
}

fn verifier(fixture: &Fixture) -> Arc<dyn ClientCertVerifier> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    WebPkiClientVerifier::builder_with_provider(fixture.ca.roots(), provider)
        .build()
        .unwrap()
}

fn client(fixture: &Fixture, agent: &Identity, with: &[&Ca]) -> Arc<ClientConfig> {
    let mut chain = vec![agent.certificate.clone()];
    chain.extend(with.iter().map(|ca| ca.certificate()));
    let mut config = ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_root_certificates(fixture.ca.roots())
    .with_client_auth_cert(chain, agent.private_key())
    .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}
