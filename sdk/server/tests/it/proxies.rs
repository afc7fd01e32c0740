//! GW-3 over real connections: a client, a proxy that terminates its TLS, and this server behind
//! it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bowline_proof::{EXPORTER_LABEL, ExporterValue, PROOF_HEADER, Proof};
use bowline_server::{AcceptPolicy, MemoryReplayStore, TrustedProxies};
use http::Request;
use http_body_util::Empty;
use rcgen::{PKCS_ECDSA_P256_SHA256, SanType};
use rustls_pki_types::ServerName;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::fixture::*;
use crate::log::Log;
use crate::pki::Identity;

/// The client's connection to the proxy: the value at its own end, and what the proxy writes into
/// the two fields.
async fn to_the_proxy(
    fixture: &Fixture,
    client: &Identity,
) -> (ExporterValue, [(&'static str, String); 2]) {
    let server = fixture.ca.server();
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
        fixture.ca.roots(),
        provider.clone(),
    );
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(vec![server.certificate.clone()], server.private_key())
        .unwrap();
    let (near, far) = tokio::io::duplex(64 * 1024);
    let name = ServerName::try_from("localhost").unwrap();
    let mut own = (*fixture.client_as(Some(client), "http/1.1", rustls::ALL_VERSIONS)).clone();
    own.alpn_protocols.clear();
    let (near, far) = tokio::join!(
        TlsConnector::from(std::sync::Arc::new(own)).connect(name, near),
        TlsAcceptor::from(std::sync::Arc::new(config)).accept(far),
    );
    let (near, far) = (near.unwrap(), far.unwrap());
    let seen = far.get_ref().1;
    let label = EXPORTER_LABEL.as_bytes();
    let exported = seen
        .export_keying_material([0; 32], label, Some(&[]))
        .unwrap();
    let field = |bytes: &[u8]| format!(":{}:", STANDARD.encode(bytes));
    let fields = [
        ("client-cert", field(&seen.peer_certificates().unwrap()[0])),
        ("tls-exporter", field(&exported)),
    ];
    (ExporterValue::derive(near.get_ref().1).unwrap(), fields)
}

#[tokio::test]
async fn gw_3_a_named_proxy_is_trusted_and_a_client_that_poses_as_a_proxy_is_not() {
    let log = Log::of_the_process();
    let fixture = Fixture::new();
    let id = "spiffe://example.org/gateway";
    let name_it = |params: &mut rcgen::CertificateParams| {
        params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
    };
    let proxy = fixture
        .ca
        .client_with("gateway", name_it, &PKCS_ECDSA_P256_SHA256);
    let layer = fixture
        .layer()
        .policy(AcceptPolicy::RequireSession)
        .accept_proxy_attested(true)
        .trusted_proxies(TrustedProxies::new(MemoryReplayStore::default()).spiffe_id(id));
    let listener = fixture.listener(fixture.tls()).await;
    let server = TestServer::start(listener, binding_report().layer(layer), fixture.options());

    let token = fixture.token();
    let (exporter, fields) = to_the_proxy(&fixture, &fixture.agent).await;
    let claims = bowline_proof::ProofClaims {
        token: token.hash(),
        exporter: &exporter,
        issued_at: rustls_pki_types::UnixTime::now(),
        request: None,
    };
    let proof: Proof = fixture.agent.proof_key().mint(&claims).unwrap();
    let request = |fields: &[(&str, String)]| {
        let mut request = Request::get("/")
            .header("authorization", token.authorization())
            .header(PROOF_HEADER, proof.header_value());
        for (name, value) in fields {
            request = request.header(*name, value);
        }
        request.body(Empty::new()).unwrap()
    };
    for alpn in ["h2", "http/1.1"] {
        let config = fixture.client_as(Some(&proxy), alpn, rustls::ALL_VERSIONS);
        let mut connection = HttpConnection::connect(server.addr, &config).await;
        for _ in 0..2 {
            let answer = connection.send(request(&fields)).await.unwrap();
            answer.assert_passed("proxy_attested");
        }
        // The client's other connection to the same proxy (T1), and another client's (T2).
        let (_, other_connection) = to_the_proxy(&fixture, &fixture.agent).await;
        connection
            .send(request(&other_connection))
            .await
            .unwrap()
            .assert_refused("RS-6");
        let (_, other_client) = to_the_proxy(&fixture, &fixture.ca.client("thief")).await;
        connection
            .send(request(&other_client))
            .await
            .unwrap()
            .assert_refused("RS-3");

        let thief = fixture.client_as(
            Some(&fixture.ca.client("thief")),
            alpn,
            rustls::ALL_VERSIONS,
        );
        let mut connection = HttpConnection::connect(server.addr, &thief).await;
        connection
            .send(request(&fields))
            .await
            .unwrap()
            .assert_refused("RS-3");
    }
    // EX-7
    let logged = log.text();
    assert!(
        logged.contains("RS-6"),
        "the log is the one that is searched"
    );
    let exported = fields[1].1.trim_matches(':');
    assert!(!logged.contains(exported), "an exporter value was logged");
}

#[tokio::test]
async fn a_handler_learns_who_the_client_is() {
    use axum::extract::Extension;
    use axum::routing::any;
    use bowline_server::VerifiedBinding;
    let fixture = Fixture::new();
    let id = "spiffe://example.org/agent";
    let name_it = |params: &mut rcgen::CertificateParams| {
        params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
    };
    let agent = fixture
        .ca
        .client_with("agent", name_it, &PKCS_ECDSA_P256_SHA256);
    let who = |Extension(binding): Extension<VerifiedBinding>| async move {
        axum::Json(serde_json::json!({
            "class": binding.class().name(),
            "thumbprint": binding.thumbprint().unwrap().to_string(),
            "subject": binding.subject(),
            "spiffe_id": binding.spiffe_id(),
        }))
    };
    let router = axum::Router::new()
        .route("/", any(who))
        .layer(fixture.layer());
    let server = TestServer::start(
        fixture.listener(fixture.tls()).await,
        router,
        fixture.options(),
    );
    let token = fixture.authority.session_bound(&agent.thumbprint());
    let config = fixture.client_as(Some(&agent), "h2", rustls::ALL_VERSIONS);
    let mut connection = HttpConnection::connect(server.addr, &config).await;
    let proof = connection.proof(&agent.proof_key(), &token);
    let answer = connection.get("/", &token, Some(&proof)).await;
    answer.assert_passed("session");
    assert_eq!(answer.body["thumbprint"], agent.thumbprint());
    assert_eq!(answer.body["subject"], "CN=agent");
    assert_eq!(answer.body["spiffe_id"], id);
}
