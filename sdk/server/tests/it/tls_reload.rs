//! Another TLS configuration for an acceptor that is in use (RS-1).

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bowline_proof::ProofClaims;
use bowline_server::{
    AcceptErrorKind, Acceptor, ClientAuth, CloseReason, Listener, PeerFacts, ServerEvent,
    ServerTls, TlsReloader,
};
use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, SignatureScheme};
use rustls_pki_types::UnixTime;
use tower::{Layer, ServiceExt, service_fn};

use crate::fixture::*;
use crate::handshakes::{acceptor, handshake};
use crate::pki::Ca;

fn trusting(fixture: &Fixture, authorities: &[&Ca]) -> ServerTls {
    let mut roots = RootCertStore::empty();
    for ca in authorities {
        roots.add(ca.certificate()).unwrap();
    }
    let auth = ClientAuth::Required(Arc::new(roots).into());
    fixture.tls_with(auth).build().unwrap()
}

#[tokio::test]
async fn rs_1_a_ticket_from_before_the_authority_was_withdrawn_opens_no_connection() {
    let (fixture, other) = (Fixture::new(), Ca::new("other"));
    let newcomer = other.client("newcomer");
    let versions: [&[_]; 2] = [&[&rustls::version::TLS13], &[&rustls::version::TLS12]];
    for versions in versions {
        let acceptor = acceptor(fixture.tls());
        let former = fixture.client_as(Some(&fixture.agent), "h2", versions);
        let later = fixture.client_as(Some(&newcomer), "h2", versions);
        handshake(&acceptor, &former).await.unwrap();
        assert!(handshake(&acceptor, &former).await.unwrap().is_resumed());
        assert!(handshake(&acceptor, &later).await.is_err());

        let reloader = acceptor.reloader();
        // The same roots: the agent is still welcome, with a full handshake.
        reloader.replace(trusting(&fixture, &[&fixture.ca]));
        assert!(!handshake(&acceptor, &former).await.unwrap().is_resumed());
        assert!(handshake(&acceptor, &former).await.unwrap().is_resumed());
        // A clone of the acceptor uses it too, whenever it was made.
        let clone = acceptor.clone();
        reloader.replace(trusting(&fixture, &[&other]));
        for acceptor in [&acceptor, &clone] {
            let refused = handshake(acceptor, &former).await.unwrap_err();
            assert_eq!(refused, AcceptErrorKind::Tls);
            handshake(acceptor, &later).await.unwrap();
        }
    }
}

#[tokio::test]
async fn rs_1_roots_that_are_replaced_during_a_handshake_count_for_it() {
    for versions in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let (fixture, other) = (Fixture::new(), Ca::new("other"));
        let acceptor = acceptor(fixture.tls());
        let replace = Replacing {
            key: Mutex::new(None),
            reloader: acceptor.reloader(),
            by: trusting(&fixture, &[&other]),
            times: AtomicUsize::new(0),
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = provider
            .key_provider
            .load_private_key(fixture.agent.private_key())
            .unwrap();
        let chain = vec![fixture.agent.certificate.clone()];
        *replace.key.lock().unwrap() = Some(Arc::new(CertifiedKey::new(chain, key)));
        let replace = Arc::new(replace);
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[versions])
            .unwrap()
            .with_root_certificates(fixture.ca.roots())
            .with_client_cert_resolver(replace.clone());
        // The server has sent its part by the former configuration, whose roots accept the agent.
        let refused = handshake(&acceptor, &Arc::new(config)).await.unwrap_err();
        assert_eq!(refused, AcceptErrorKind::ResumedCertificate);
        assert_eq!(replace.times.load(Ordering::SeqCst), 1);
    }
}

/// A client that is asked for its certificate, which is in the middle of the handshake.
#[derive(Debug)]
struct Replacing {
    key: Mutex<Option<Arc<CertifiedKey>>>,
    reloader: TlsReloader,
    by: ServerTls,
    times: AtomicUsize,
}

impl ResolvesClientCert for Replacing {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.reloader.replace(self.by.clone());
        self.times.fetch_add(1, Ordering::SeqCst);
        self.key.lock().unwrap().clone()
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn rs_1_a_live_connection_ends_when_its_authority_is_withdrawn_and_the_others_stay() {
    for axum in [false, true] {
        for alpn in ["h2", "http/1.1"] {
            let (fixture, other) = (Fixture::new(), Ca::new("other"));
            let newcomer = other.client("newcomer");
            let closed: Arc<Mutex<Vec<CloseReason>>> = Arc::default();
            let log = closed.clone();
            let tls = trusting(&fixture, &[&fixture.ca, &other]);
            let acceptor = Acceptor::new(tls).observer(move |event: &ServerEvent| {
                if let ServerEvent::ConnectionClosed { reason, .. } = event {
                    log.lock().unwrap().push(*reason);
                }
            });
            let reloader = acceptor.reloader();
            let listener = Listener::bind("127.0.0.1:0", acceptor).await.unwrap();
            let addr = listener.local_addr();
            let router = binding_report().layer(fixture.layer());
            let _server = if axum {
                let app = router.into_make_service_with_connect_info::<PeerFacts>();
                tokio::spawn(axum::serve(listener, app).into_future());
                None
            } else {
                Some(TestServer::start(listener, router, fixture.options()))
            };
            let mut former = HttpConnection::connect(addr, &fixture.client(alpn)).await;
            let config = fixture.client_as(Some(&newcomer), alpn, rustls::ALL_VERSIONS);
            let mut stays = HttpConnection::connect(addr, &config).await;
            // Idle for the rest of the test.
            let idle = HttpConnection::connect(addr, &fixture.client(alpn)).await;
            let token = fixture.token();
            let proof = former.proof(&fixture.agent.proof_key(), &token);
            former.assert_passes(&token, &proof).await;
            let its_token = fixture.authority.session_bound(&newcomer.thumbprint());
            let its_proof = stays.proof(&newcomer.proof_key(), &its_token);
            stays.assert_passes(&its_token, &its_proof).await;

            reloader.replace(trusting(&fixture, &[&other]));
            // A request that comes before it is drained is refused; none passes.
            let request = Request::get("/").header("authorization", token.authorization());
            let request = request
                .header(bowline_proof::PROOF_HEADER, proof.header_value())
                .body(Empty::new())
                .unwrap();
            if let Ok(answer) = former.send(request).await {
                answer.assert_refused("RS-1");
            }
            within(former.ended).await.unwrap();
            within(idle.ended).await.unwrap();
            stays.assert_passes(&its_token, &its_proof).await;
            let all_closed = async {
                while closed.lock().unwrap().len() < 2 {
                    tokio::task::yield_now().await;
                }
            };
            within(all_closed).await;
            let reasons = closed.lock().unwrap().clone();
            assert_eq!(
                reasons,
                [CloseReason::CertificateRefused; 2],
                "{alpn} {axum}"
            );
        }
    }
}

#[tokio::test]
async fn rs_1_no_request_passes_after_the_roots_were_replaced_whatever_serves_the_connection() {
    let (fixture, other) = (Fixture::new(), Ca::new("other"));
    let acceptor = acceptor(fixture.tls());
    let facts = handshake(&acceptor, &fixture.client("h2")).await.unwrap();
    let token = fixture.token();
    let claims = ProofClaims {
        token: token.hash(),
        exporter: facts.exporter(),
        issued_at: UnixTime::now(),
        request: None,
    };
    let proof = fixture.agent.proof_key().mint(&claims).unwrap();
    // Nothing watches this connection: the layer alone decides.
    let inner = service_fn(|_| async { Ok::<_, Infallible>(Response::new(String::new())) });
    let service = fixture.layer().layer(inner);
    let status = async || {
        let request = Request::get("/")
            .extension(facts.clone())
            .header("authorization", token.authorization())
            .header(bowline_proof::PROOF_HEADER, proof.header_value());
        let request = request.body(()).unwrap();
        service.clone().oneshot(request).await.unwrap().status()
    };
    assert_eq!(status().await, StatusCode::OK);
    let reloader = acceptor.reloader();
    reloader.replace(trusting(&fixture, &[&fixture.ca, &other]));
    assert_eq!(status().await, StatusCode::OK);
    reloader.replace(trusting(&fixture, &[&other]));
    assert_eq!(status().await, StatusCode::UNAUTHORIZED);
    // What was refused once is refused for good.
    reloader.replace(trusting(&fixture, &[&fixture.ca]));
    assert_eq!(status().await, StatusCode::UNAUTHORIZED);
}
