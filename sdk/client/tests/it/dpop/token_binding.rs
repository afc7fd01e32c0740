//! Which binding a token goes to, and which tokens go nowhere.

use bowline_http_client::{
    AccessToken, DpopKey, DpopProofRequired, ErrorKind, ProofKind, ProofRequired, ProofScope,
    Scheme,
};
use bowline_proof::PROOF_HEADER;
use bowline_proof::dpop::DPOP_HEADER;
use bowline_testkit::peers::CyclingOptions;
use bowline_testkit::tls::{Alpn, ClientAuth};
use bytes::Bytes;
use http_body_util::Full;
use serde_json::json;

use crate::fixture::dpop::{DpopFixture, class, with_replay_store, without_certificates};
use crate::fixture::{Fixture, fetch, jwt, ok, session_cnf, text};

#[tokio::test]
async fn each_token_is_sent_with_the_binding_that_it_requires() {
    for options in [CyclingOptions::default(), without_certificates(Alpn::Http2)] {
        let fixture = DpopFixture::new();
        let has_certificate = matches!(options.client_auth, ClientAuth::Required);
        let server = fixture.server(options, with_replay_store());
        let client = fixture
            .builder()
            .identity(fixture.base.identity())
            .build()
            .unwrap();
        let url = server.origin();
        for _ in 0..3 {
            assert_eq!(class(&client, &url, &fixture.token("a")).await, "dpop:");
            assert_eq!(class(&client, &url, &jwt("plain", None)).await, "bearer:");
            let session = fetch(&client, &url, &fixture.base.token("b")).await;
            if has_certificate {
                assert_eq!(text(session.unwrap()).await, "session:");
            } else {
                assert_eq!(
                    session.unwrap_err().kind(),
                    ErrorKind::ClientCertificateNotRequested
                );
            }
        }
        let stats = client.stats();
        assert_eq!(stats.connections_opened, 1);
        assert_eq!(stats.totals.minted.get(&ProofKind::Dpop), Some(&3));
        let session_proofs = has_certificate.then_some(&1);
        assert_eq!(
            stats.totals.minted.get(&ProofKind::Connection),
            session_proofs
        );
        for headers in fixture.arrivals.all() {
            let scheme = headers["authorization"]
                .to_str()
                .unwrap()
                .split(' ')
                .next()
                .unwrap()
                .to_owned();
            assert_eq!(scheme == "DPoP", headers.contains_key(DPOP_HEADER));
            assert!(!(headers.contains_key(DPOP_HEADER) && headers.contains_key(PROOF_HEADER)));
        }
    }
}

#[tokio::test]
async fn an_opaque_token_is_recognised_by_its_scheme() {
    let fixture = DpopFixture::new();
    let server = fixture.server(without_certificates(Alpn::Http2), with_replay_store());
    let client = fixture.client();
    let request = http::Request::get(server.origin()).header("authorization", "DPoP opaque-token");
    let response = client
        .send(request.body(Full::default()).unwrap())
        .await
        .unwrap();
    assert_eq!(text(response).await, "dpop:");
    let token = AccessToken::new("opaque-token")
        .unwrap()
        .with_scheme(Scheme::Dpop);
    assert_eq!(class(&client, &server.origin(), &token).await, "dpop:");

    // Without the scheme the client cannot know.
    let refused = fetch(
        &client,
        &server.origin(),
        &AccessToken::new("opaque-token").unwrap(),
    )
    .await
    .unwrap();
    assert_eq!(refused.status(), 401);
    assert_eq!(client.stats().totals.minted, [(ProofKind::Dpop, 2)].into());
}

#[tokio::test]
async fn tokens_that_this_client_cannot_prove_are_not_sent() {
    let fixture = DpopFixture::new();
    let server = fixture.server(CyclingOptions::default(), with_replay_store());
    let (mine, label) = (
        fixture.base.agent.thumbprint(),
        bowline_proof::EXPORTER_LABEL,
    );
    let jkt = fixture.key.thumbprint().to_string();
    let other = DpopKey::generate().unwrap().thumbprint().to_string();
    let cases = [
        (
            jwt("a", Some(json!({ "jkt": other }))),
            ErrorKind::TokenBoundToOtherKey,
        ),
        (
            jwt("a", Some(json!({ "jkt": "short" }))),
            ErrorKind::InvalidToken,
        ),
        // TK-0
        (
            jwt(
                "a",
                Some(json!({ "jkt": jkt, "tls_exp": label, "x5t#S256": mine.to_string() })),
            ),
            ErrorKind::InvalidToken,
        ),
        (
            jwt("a", Some(session_cnf(mine))).with_scheme(Scheme::Dpop),
            ErrorKind::InvalidToken,
        ),
    ];
    let client = fixture
        .builder()
        .identity(fixture.base.identity())
        .build()
        .unwrap();
    for (token, kind) in cases {
        let error = fetch(&client, &server.origin(), &token).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(!error.may_have_been_processed());
        assert!(!error.to_string().contains(token.secret()));
    }

    let without_key = fixture.base.client();
    let error = fetch(&without_key, &server.origin(), &fixture.token("a"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnsupportedBinding);
    assert!(error.to_string().contains("Builder::dpop_key"), "{error}");
    let request = http::Request::post(server.origin()).extension(DpopProofRequired);
    let error = without_key
        .send(request.body(Full::<Bytes>::default()).unwrap())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnsupportedBinding);

    let request = http::Request::get(server.origin()).header("dpop", "mine");
    let error = client
        .send(request.body(Full::<Bytes>::default()).unwrap())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidRequest);
    assert_eq!(server.counts().requests, 0);
}

#[tokio::test]
async fn a_token_bound_to_a_certificate_too_goes_only_where_that_was_presented() {
    let fixture = DpopFixture::new();
    let mut cnf = fixture.cnf();
    cnf["x5t#S256"] = json!(fixture.base.agent.thumbprint().to_string());
    let token = jwt("a", Some(cnf));
    let client = fixture
        .builder()
        .identity(fixture.base.identity())
        .build()
        .unwrap();
    let server = fixture.server(CyclingOptions::default(), with_replay_store());
    assert_eq!(class(&client, &server.origin(), &token).await, "dpop:");

    let other = fixture.server(without_certificates(Alpn::Http2), with_replay_store());
    let error = fetch(&client, &other.origin(), &token).await.unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::TokenBoundToOtherCertificate,
        "{error}"
    );
    assert_eq!(other.counts().requests, 0);
}

/// The settings for session-binding proofs do not apply to DPoP.
#[tokio::test]
async fn settings_for_session_proofs_do_not_apply_to_dpop() {
    let fixture = DpopFixture::new();
    let server = fixture.server(without_certificates(Alpn::Http2), with_replay_store());
    let builder = fixture
        .builder()
        .proof_scope(ProofScope::Request)
        .binding(bowline_http_client::BindingPolicy::Require);
    let client = builder.build().unwrap();
    assert_eq!(
        class(&client, &server.origin(), &fixture.token("a")).await,
        "dpop:"
    );
    let error = fetch(&client, &server.origin(), &jwt("plain", None))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ClientCertificateNotRequested);
}

/// Nor does a requirement of session-binding proofs that the caller has learnt elsewhere.
#[tokio::test]
async fn a_dpop_bound_token_gets_dpop_although_a_session_binding_proof_is_required() {
    let fixture = DpopFixture::new();
    let server = fixture.server(CyclingOptions::default(), with_replay_store());
    let client = fixture
        .builder()
        .identity(fixture.base.identity())
        .build()
        .unwrap();
    let opaque = AccessToken::new("opaque-token")
        .unwrap()
        .with_scheme(Scheme::Dpop);
    for token in [fixture.token("a"), opaque] {
        let request = http::Request::get(server.origin())
            .extension(ProofRequired)
            .extension(token);
        let response = client
            .send(request.body(Full::default()).unwrap())
            .await
            .unwrap();
        assert_eq!(text(response).await, "dpop:");
    }
    let headers = fixture.arrivals.all();
    assert!(
        headers
            .iter()
            .all(|headers| !headers.contains_key(PROOF_HEADER))
    );
    assert_eq!(client.stats().totals.minted, [(ProofKind::Dpop, 2)].into());
}

#[tokio::test]
async fn session_bound_tokens_are_proved_as_before_with_a_dpop_key() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    let client = fixture
        .builder()
        .dpop_key(DpopKey::generate().unwrap())
        .build()
        .unwrap();
    for _ in 0..10 {
        ok(&client, &server.origin(), &fixture.token("a")).await;
    }
    let totals = client.stats().totals;
    assert_eq!((totals.signatures(), totals.reused), (1, 9));
}
