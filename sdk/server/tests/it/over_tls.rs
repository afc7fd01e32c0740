//! Binding over real connections.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bowline_proof::AccessToken;
use bowline_server::{
    AcceptPolicy, BindingLayer, ClientAuth, ExpectedClaims, Jwks, JwtValidator, PeerFacts,
    UpstreamValidates,
};
use rcgen::{PKCS_ECDSA_P384_SHA384, PKCS_ED25519};

use crate::authority::{AUDIENCE, ISSUER, jwks};
use crate::fixture::*;
use crate::log::Log;

#[tokio::test]
async fn a_session_bound_token_passes_on_h1_and_h2_with_tls_1_3_and_1_2() {
    let fixture = Fixture::new();
    let server = fixture.start().await;
    let (token, key) = (fixture.token(), fixture.agent.proof_key());
    for alpn in ["h2", "http/1.1"] {
        for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
            let config = fixture.client_as(Some(&fixture.agent), alpn, &[version]);
            let mut connection = HttpConnection::connect(server.addr, &config).await;
            let proof = connection.proof(&key, &token);
            for _ in 0..3 {
                connection.assert_passes(&token, &proof).await;
            }
        }
    }
}

#[tokio::test]
async fn every_supported_kind_of_client_key_passes() {
    let fixture = Fixture::new();
    let server = fixture.start().await;
    for algorithm in [&PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
        let agent = fixture.ca.client_with("agent", |_| {}, algorithm);
        let token = fixture.authority.session_bound(&agent.thumbprint());
        let config = fixture.client_as(Some(&agent), "h2", rustls::ALL_VERSIONS);
        let mut connection = HttpConnection::connect(server.addr, &config).await;
        let proof = connection.proof(&agent.proof_key(), &token);
        connection.assert_passes(&token, &proof).await;
    }
}

#[tokio::test]
async fn t1_a_stolen_proof_is_refused_on_a_second_connection_with_the_same_certificate() {
    let fixture = Fixture::new();
    let server = fixture.start().await;
    let (token, key) = (fixture.token(), fixture.agent.proof_key());
    for alpn in ["h2", "http/1.1"] {
        let config = fixture.client(alpn);
        let mut first = HttpConnection::connect(server.addr, &config).await;
        let proof = first.proof(&key, &token);
        first.assert_passes(&token, &proof).await;

        let mut second = HttpConnection::connect(server.addr, &config).await;
        second.assert_refused(&token, Some(&proof), "RS-6").await;
        // Neither connection is harmed by the refusal.
        first.assert_passes(&token, &proof).await;
        let proof = second.proof(&key, &token);
        second.assert_passes(&token, &proof).await;
    }
}

#[tokio::test]
async fn t2_t3_t4_a_stolen_token_is_refused_with_another_certificate() {
    let fixture = Fixture::new();
    let server = fixture.start().await;
    let thief = fixture.ca.client("thief");
    let (token, key) = (fixture.token(), fixture.agent.proof_key());
    let victim = HttpConnection::connect(server.addr, &fixture.client("h2")).await;
    let stolen = victim.proof(&key, &token);

    let config = fixture.client_as(Some(&thief), "h2", rustls::ALL_VERSIONS);
    let mut connection = HttpConnection::connect(server.addr, &config).await;
    connection
        .assert_refused(&token, Some(&stolen), "RS-3")
        .await;
    let own = connection.proof(&thief.proof_key(), &token);
    connection.assert_refused(&token, Some(&own), "RS-3").await;
    connection.assert_refused(&token, None, "RS-3").await;
}

#[tokio::test]
async fn ex_5_a_resumed_session_has_another_exporter_and_needs_another_proof() {
    let fixture = Fixture::new();
    let server = fixture.start().await;
    let (token, key) = (fixture.token(), fixture.agent.proof_key());
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let config = fixture.client_as(Some(&fixture.agent), "h2", &[version]);
        let mut full = HttpConnection::connect(server.addr, &config).await;
        let proof = full.proof(&key, &token);
        let answer = full.get("/", &token, Some(&proof)).await;
        answer.assert_passed("session");
        assert_eq!(answer.body["resumed"], false);

        let mut resumed = HttpConnection::connect(server.addr, &config).await;
        assert!(resumed.resumed);
        assert!(!resumed.exporter.matches(&full.exporter));
        resumed.assert_refused(&token, Some(&proof), "RS-6").await;
        let proof = resumed.proof(&key, &token);
        let answer = resumed.get("/", &token, Some(&proof)).await;
        answer.assert_passed("session");
        assert_eq!(answer.body["resumed"], true);
    }
}

#[tokio::test]
async fn t7_a_stolen_ticket_and_token_without_the_key_are_refused() {
    let fixture = Fixture::new();
    let server = fixture.start().await;
    let token = fixture.token();
    let config = fixture.client("h2");
    // The same configuration holds the ticket; the thief cannot sign with the victim's key.
    let mut victim = HttpConnection::connect(server.addr, &config).await;
    let proof = victim.proof(&fixture.agent.proof_key(), &token);
    victim.assert_passes(&token, &proof).await;
    let mut thief = HttpConnection::connect(server.addr, &config).await;
    assert!(thief.resumed);
    thief.assert_refused(&token, None, "RS-4").await;
    thief.assert_refused(&token, Some(&proof), "RS-6").await;
}

#[tokio::test]
async fn gw_4_in_front_of_an_upstream_that_validates_a_thief_is_refused_and_an_opaque_token_is_too()
{
    let fixture = Fixture::new();
    let layer = BindingLayer::new(UpstreamValidates).policy(AcceptPolicy::RequireSession);
    let listener = fixture.listener(fixture.tls()).await;
    let server = TestServer::start(listener, binding_report().layer(layer), fixture.options());
    let (token, key) = (fixture.token(), fixture.agent.proof_key());
    let mut victim = HttpConnection::connect(server.addr, &fixture.client("h2")).await;
    let proof = victim.proof(&key, &token);
    victim.assert_passes(&token, &proof).await;
    victim.assert_refused(&token, None, "RS-4").await;

    let thief = fixture.ca.client("thief");
    let config = fixture.client_as(Some(&thief), "h2", rustls::ALL_VERSIONS);
    let mut connection = HttpConnection::connect(server.addr, &config).await;
    let own = connection.proof(&thief.proof_key(), &token);
    connection.assert_refused(&token, Some(&own), "RS-3").await;
    // Nothing says to whom an opaque token is bound, so anybody's proof would match.
    let opaque = AccessToken::new("2YotnFZFEjr1zCsicMWpAA").unwrap();
    let own = connection.proof(&thief.proof_key(), &opaque);
    connection.assert_refused(&opaque, Some(&own), "RS-2").await;
    // A token that the thief forges for their own certificate passes here; the upstream must refuse
    // it.
    let forged = crate::authority::Authority::new("k1").session_bound(&thief.thumbprint());
    let own = connection.proof(&thief.proof_key(), &forged);
    connection.assert_passes(&forged, &own).await;
}

#[tokio::test]
async fn several_tokens_share_a_connection_each_with_its_own_proof() {
    let fixture = Fixture::new();
    let server = fixture.start().await;
    let key = fixture.agent.proof_key();
    let mut connection = HttpConnection::connect(server.addr, &fixture.client("h2")).await;
    let mut claims = crate::authority::Authority::claims();
    claims["cnf"] = serde_json::json!({ "x5t#S256": fixture.agent.thumbprint(), "tls_exp": bowline_proof::EXPORTER_LABEL });
    claims["sub"] = "another".into();
    let (one, two) = (
        fixture.token(),
        fixture.authority.sign(&fixture.authority.header(), &claims),
    );
    let (proof_one, proof_two) = (connection.proof(&key, &one), connection.proof(&key, &two));
    connection.assert_passes(&one, &proof_one).await;
    connection.assert_passes(&two, &proof_two).await;
    connection
        .assert_refused(&two, Some(&proof_one), "RS-7")
        .await;
}

#[tokio::test]
async fn if_certificates_are_optional_only_unbound_tokens_pass_without_one() {
    let fixture = Fixture::new();
    let listener = fixture
        .listener(fixture.tls_with(ClientAuth::Optional(fixture.ca.roots().into())))
        .await;
    let router = binding_report().layer(fixture.layer().policy(AcceptPolicy::Follow));
    let server = TestServer::start(listener, router, fixture.options());
    let config = fixture.client_as(None, "h2", rustls::ALL_VERSIONS);
    let mut connection = HttpConnection::connect(server.addr, &config).await;
    connection
        .get("/", &fixture.authority.bearer(), None)
        .await
        .assert_passed("bearer");
    connection
        .assert_refused(&fixture.token(), None, "RS-3")
        .await;

    let mut connection = HttpConnection::connect(server.addr, &fixture.client("h2")).await;
    let proof = connection.proof(&fixture.agent.proof_key(), &fixture.token());
    connection.assert_passes(&fixture.token(), &proof).await;
}

#[tokio::test]
async fn the_layer_finds_the_facts_under_axum_serve() {
    let fixture = Fixture::new();
    let listener = fixture.listener(fixture.tls()).await;
    let addr = listener.local_addr();
    let router = binding_report().layer(fixture.layer());
    tokio::spawn(
        axum::serve(
            listener,
            router.into_make_service_with_connect_info::<PeerFacts>(),
        )
        .into_future(),
    );

    let (token, key) = (fixture.token(), fixture.agent.proof_key());
    for alpn in ["h2", "http/1.1"] {
        let mut connection = HttpConnection::connect(addr, &fixture.client(alpn)).await;
        let proof = connection.proof(&key, &token);
        connection.assert_passes(&token, &proof).await;
        connection.assert_refused(&token, None, "RS-4").await;
    }
}

#[tokio::test]
async fn under_axum_serve_without_connect_info_nothing_passes() {
    let fixture = Fixture::new();
    let listener = fixture.listener(fixture.tls()).await;
    let addr = listener.local_addr();
    tokio::spawn(axum::serve(listener, binding_report().layer(fixture.layer())).into_future());
    let mut connection = HttpConnection::connect(addr, &fixture.client("h2")).await;
    let token = fixture.token();
    let proof = connection.proof(&fixture.agent.proof_key(), &token);
    assert_eq!(connection.get("/", &token, Some(&proof)).await.status, 500);
}

#[tokio::test]
async fn an_htu_is_compared_with_the_configured_origin_over_h1_and_h2() {
    let fixture = Fixture::new();
    let listener = fixture.listener(fixture.tls()).await;
    let keys = Jwks::document(jwks(&[&fixture.authority])).unwrap();
    let layer = BindingLayer::new(
        JwtValidator::builder(ExpectedClaims::new(AUDIENCE).issuer(ISSUER), keys).build(),
    )
    .origins(["https://api.example.com".parse().unwrap()]);
    let server = TestServer::start(listener, binding_report().layer(layer), fixture.options());
    let (token, key) = (fixture.token(), fixture.agent.proof_key());
    for alpn in ["h2", "http/1.1"] {
        let mut connection = HttpConnection::connect(server.addr, &fixture.client(alpn)).await;
        for (uri, passes) in [
            ("https://api.example.com/", true),
            ("https://localhost/", false),
        ] {
            let proof = connection.proof_for(&key, &token, uri);
            let answer = connection.get("/", &token, Some(&proof)).await;
            if passes {
                answer.assert_passed("session");
            }
            // Already used, or never valid.
            connection
                .assert_refused(&token, Some(&proof), "RS-9")
                .await;
        }
    }
}

#[tokio::test]
async fn ex_7_nothing_secret_is_logged_even_at_trace() {
    let log = Log::of_the_process();
    let fixture = Fixture::new();
    let server = fixture.start().await;
    let (token, key) = (fixture.token(), fixture.agent.proof_key());
    for alpn in ["h2", "http/1.1"] {
        let mut connection = HttpConnection::connect(server.addr, &fixture.client(alpn)).await;
        let proof = connection.proof(&key, &token);
        connection.assert_passes(&token, &proof).await;
        let mut other = HttpConnection::connect(server.addr, &fixture.client(alpn)).await;
        other.assert_refused(&token, Some(&proof), "RS-6").await;

        let logged = log.text();
        assert!(
            logged.contains("RS-6"),
            "the log is the one that is searched"
        );
        let payload = proof.as_str().split('.').nth(1).unwrap();
        let claims: serde_json::Value =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
        let claimed = ["ekm", "ath"].map(|name| claims[name].as_str().unwrap());
        let parts = token.secret().split('.').chain(proof.as_str().split('.'));
        for secret in parts.chain(claimed) {
            assert!(!logged.contains(secret), "{alpn}: a secret was logged");
        }
    }
}
