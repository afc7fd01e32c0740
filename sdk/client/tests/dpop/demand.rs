//! Which binding a token goes to, and which tokens go nowhere.

use bowline_client::{
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

use crate::scene::{Scene, class, remembering, without_certificates};
use crate::support::{Lab, fetch, jwt, ok, session_cnf, text};

#[tokio::test]
async fn each_token_goes_to_the_binding_that_it_asks_for() {
    for options in [CyclingOptions::default(), without_certificates(Alpn::Http2)] {
        let scene = Scene::new();
        let has_certificate = matches!(options.client_auth, ClientAuth::Required);
        let server = scene.server(options, remembering());
        let client = scene
            .builder()
            .identity(scene.lab.identity())
            .build()
            .unwrap();
        let url = server.origin();
        for _ in 0..3 {
            assert_eq!(class(&client, &url, &scene.token("a")).await, "dpop:");
            assert_eq!(class(&client, &url, &jwt("plain", None)).await, "bearer:");
            let session = fetch(&client, &url, &scene.lab.token("b")).await;
            match has_certificate {
                true => assert_eq!(text(session.unwrap()).await, "session:"),
                false => assert_eq!(
                    session.unwrap_err().kind(),
                    ErrorKind::ClientCertificateNotRequested
                ),
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
        for headers in scene.arrivals.all() {
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
async fn an_opaque_token_is_known_by_the_scheme_that_it_comes_with() {
    let scene = Scene::new();
    let server = scene.server(without_certificates(Alpn::Http2), remembering());
    let client = scene.client();
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

    // Without that, nothing tells.
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
    let scene = Scene::new();
    let server = scene.server(CyclingOptions::default(), remembering());
    let (mine, label) = (scene.lab.agent.thumbprint(), bowline_proof::EXPORTER_LABEL);
    let jkt = scene.key.thumbprint().to_string();
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
    let client = scene
        .builder()
        .identity(scene.lab.identity())
        .build()
        .unwrap();
    for (token, kind) in cases {
        let error = fetch(&client, &server.origin(), &token).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(!error.may_have_been_processed());
        assert!(!error.to_string().contains(token.secret()));
    }

    let without_key = scene.lab.client();
    let error = fetch(&without_key, &server.origin(), &scene.token("a"))
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
    let scene = Scene::new();
    let mut cnf = scene.cnf();
    cnf["x5t#S256"] = json!(scene.lab.agent.thumbprint().to_string());
    let token = jwt("a", Some(cnf));
    let client = scene
        .builder()
        .identity(scene.lab.identity())
        .build()
        .unwrap();
    let server = scene.server(CyclingOptions::default(), remembering());
    assert_eq!(class(&client, &server.origin(), &token).await, "dpop:");

    let other = scene.server(without_certificates(Alpn::Http2), remembering());
    let error = fetch(&client, &other.origin(), &token).await.unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::TokenBoundToOtherCertificate,
        "{error}"
    );
    assert_eq!(other.counts().requests, 0);
}

/// The policies of session-binding proofs have nothing to say about DPoP.
#[tokio::test]
async fn policies_for_session_proofs_leave_dpop_alone() {
    let scene = Scene::new();
    let server = scene.server(without_certificates(Alpn::Http2), remembering());
    let builder = scene
        .builder()
        .proof_scope(ProofScope::Request)
        .binding(bowline_client::BindingPolicy::Require);
    let client = builder.build().unwrap();
    assert_eq!(
        class(&client, &server.origin(), &scene.token("a")).await,
        "dpop:"
    );
    let error = fetch(&client, &server.origin(), &jwt("plain", None))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ClientCertificateNotRequested);
}

/// Neither has a demand for session-binding proofs that somebody heard of from elsewhere.
#[tokio::test]
async fn a_token_that_asks_for_dpop_gets_dpop_though_a_session_binding_proof_is_required() {
    let scene = Scene::new();
    let server = scene.server(CyclingOptions::default(), remembering());
    let client = scene
        .builder()
        .identity(scene.lab.identity())
        .build()
        .unwrap();
    let opaque = AccessToken::new("opaque-token")
        .unwrap()
        .with_scheme(Scheme::Dpop);
    for token in [scene.token("a"), opaque] {
        let request = http::Request::get(server.origin())
            .extension(ProofRequired)
            .extension(token);
        let response = client
            .send(request.body(Full::default()).unwrap())
            .await
            .unwrap();
        assert_eq!(text(response).await, "dpop:");
    }
    let headers = scene.arrivals.all();
    assert!(
        headers
            .iter()
            .all(|headers| !headers.contains_key(PROOF_HEADER))
    );
    assert_eq!(client.stats().totals.minted, [(ProofKind::Dpop, 2)].into());
}

/// What `ok` of the other tests asks for still holds with a DPoP key in the client.
#[tokio::test]
async fn session_bound_tokens_are_none_the_worse_for_a_dpop_key() {
    let lab = Lab::new();
    let server = lab.server(CyclingOptions::default());
    let client = lab
        .builder()
        .dpop_key(DpopKey::generate().unwrap())
        .build()
        .unwrap();
    for _ in 0..10 {
        ok(&client, &server.origin(), &lab.token("a")).await;
    }
    let totals = client.stats().totals;
    assert_eq!((totals.signatures(), totals.reused), (1, 9));
}
