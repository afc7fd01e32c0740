//! Proofs: how many are signed, why, and on which connection they are sent.

use std::collections::HashMap;

use crate::fixture::{Fixture, calls_while, fetch, jwt, ok, post, session_cnf, text};
use bowline_http_client::{
    AccessToken, BindingPolicy, Cause, Client, CloseReason, ErrorKind, HttpVersions, ProofKind,
    ProofRequired, ProofScope,
};
use bowline_testkit::peers::{Cycle, CyclingOptions};
use bowline_testkit::pki::KeyKind;
use bowline_testkit::tls::{Alpn, ClientAuth};
use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::Full;

fn h1() -> CyclingOptions {
    CyclingOptions::alpn(Alpn::Http1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_proof_is_signed_for_a_thousand_concurrent_first_requests_over_h2() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    let (client, token, url) = (fixture.client(), fixture.token("a"), server.origin());

    join_all((0..1000).map(|_| ok(&client, &url, &token))).await;

    let stats = client.stats();
    assert_eq!(server.counts().opened, 1);
    assert_eq!(stats.connections_opened, 1);
    assert_eq!(stats.totals.signatures(), 1);
    assert_eq!(stats.totals.causes, [(Cause::First, 1)].into());
    assert_eq!(
        (
            stats.totals.requests,
            stats.totals.with_proof,
            stats.totals.reused
        ),
        (1000, 1000, 999)
    );
    assert_eq!(fixture.requests.proofs().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_tokens_on_one_connection_cost_a_hundred_signatures_and_then_none() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    let (client, url) = (fixture.client(), server.origin());
    let tokens: Vec<_> = (0..100).map(|n| fixture.token(&n.to_string())).collect();

    for _ in 0..3 {
        join_all(tokens.iter().map(|token| ok(&client, &url, token))).await;
        assert_eq!(client.stats().totals.signatures(), 100);
    }
    assert_eq!(server.counts().opened, 1);
    assert_eq!(fixture.requests.proofs().len(), 100);
}

#[tokio::test]
async fn every_kind_of_key_makes_proofs_that_the_server_accepts() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    for kind in [
        KeyKind::P256,
        KeyKind::P384,
        KeyKind::Ed25519,
        KeyKind::Rsa2048,
    ] {
        let leaf = fixture.pki.client("agent", kind);
        let client = fixture
            .builder()
            .identity(crate::fixture::identity(&leaf))
            .build()
            .unwrap();
        let token = jwt("a", Some(session_cnf(leaf.thumbprint())));
        ok(&client, &server.origin(), &token).await;
        assert_eq!(client.stats().totals.signatures(), 1, "{kind:?}");
    }
}

#[tokio::test]
async fn a_proof_for_each_request_is_never_used_twice() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    let client = fixture
        .builder()
        .proof_scope(ProofScope::Request)
        .build()
        .unwrap();
    let (token, url) = (
        fixture.token("a"),
        format!("{}/some/path?query=1", server.origin()),
    );

    join_all((0..20).map(|_| ok(&client, &url, &token))).await;

    let totals = client.stats().totals;
    assert_eq!(totals.minted, [(ProofKind::Request, 20)].into());
    assert_eq!(
        totals.causes,
        [(Cause::First, 1), (Cause::Scope, 19)].into()
    );
    assert_eq!((totals.request_bound, totals.reused), (20, 0));
    assert_eq!(fixture.requests.proofs().len(), 20);
}

#[tokio::test]
async fn an_origin_can_have_a_proof_scope_of_its_own() {
    let fixture = Fixture::new();
    let [plain, strict] = [(), ()].map(|()| fixture.server(CyclingOptions::default()));
    let origin = strict.origin().parse().unwrap();
    let client = fixture
        .builder()
        .proof_scope_for(origin, ProofScope::Request)
        .build()
        .unwrap();
    let token = fixture.token("a");
    for _ in 0..5 {
        ok(&client, &plain.origin(), &token).await;
        ok(&client, &strict.origin(), &token).await;
    }
    let totals = client.stats().totals;
    let expected = [(ProofKind::Connection, 1), (ProofKind::Request, 5)];
    assert_eq!(totals.minted, expected.into());
    assert_eq!((totals.request_bound, totals.reused), (5, 4));
}

#[tokio::test]
async fn a_connection_is_replaced_before_its_servers_proof_limit() {
    let fixture = Fixture::new();
    for alpn in [Alpn::Http1, Alpn::Http2] {
        let options = CyclingOptions::alpn(alpn);
        let server = fixture.server_with(options, |layer| layer.jti_quota(40));
        let client = fixture
            .builder()
            .proof_scope(ProofScope::Request)
            .build()
            .unwrap();
        for _ in 0..200 {
            ok(&client, &server.origin(), &fixture.token("a")).await;
        }
        let totals = client.stats().totals;
        assert_eq!((totals.answered, totals.refused), (200, 0), "{alpn:?}");
        assert!(
            server.counts().opened >= 5,
            "{alpn:?}: {:?}",
            server.counts()
        );
    }
}

#[tokio::test]
async fn one_response_per_connection_costs_one_signature_per_request() {
    let fixture = Fixture::new();
    for (alpn, reason) in [
        (Alpn::Http1, CloseReason::ConnectionClose),
        (Alpn::Http2, CloseReason::Goaway),
    ] {
        let cycle = Cycle::max_responses(1);
        let server = fixture.server(CyclingOptions {
            cycle,
            alpn,
            ..CyclingOptions::default()
        });
        let (client, token) = (fixture.client_that_waits(), fixture.token("a"));
        for n in 1..=10 {
            ok(&client, &server.origin(), &token).await;
            // The next request must find the connection closed, not race with its end.
            server.closed(n).await;
        }
        let stats = client.stats();
        assert_eq!(stats.totals.signatures(), 10, "{alpn:?}");
        assert_eq!(
            stats.totals.causes,
            [(Cause::First, 1), (Cause::Reconnect, 9)].into(),
            "{alpn:?}"
        );
        assert_eq!(stats.totals.after, [(reason, 9)].into(), "{alpn:?}");
        assert!(stats.connections_resumed >= 8, "{alpn:?}: {stats:?}");
        assert!(stats.totals.reproof_ratio() > 0.89);
    }
    each_proof_travelled_on_one_connection(&fixture);
}

/// CL-2, in the requests that the server received.
fn each_proof_travelled_on_one_connection(fixture: &Fixture) {
    let mut connections = HashMap::new();
    for seen in fixture.requests.all() {
        for proof in seen.proofs {
            assert_eq!(
                *connections.entry(proof).or_insert(seen.connection),
                seen.connection
            );
        }
    }
}

#[tokio::test]
async fn proofs_stay_on_their_connections_while_connections_are_cut_under_load() {
    let fixture = Fixture::new();
    for alpn in [Alpn::Http1, Alpn::Http2] {
        let server = fixture.server(CyclingOptions::alpn(alpn));
        let (client, url) = (fixture.client(), server.origin());
        let tokens: Vec<_> = (0..4).map(|n| fixture.token(&n.to_string())).collect();
        for round in 0..30 {
            let cut = || {
                if round % 2 == 0 {
                    server.cut_all();
                } else {
                    server.retire_all();
                }
            };
            for response in calls_while(cut, &client, &url, &tokens).await {
                let _ = http_body_util::BodyExt::collect(response.into_body()).await;
            }
        }
        let totals = client.stats().totals;
        assert_eq!(totals.requests, 480);
        assert_eq!(
            totals.answered + totals.failed + totals.may_have_been_processed,
            480
        );
        assert_eq!(totals.refused, 0);
    }
    each_proof_travelled_on_one_connection(&fixture);
}

#[tokio::test]
async fn an_unbound_token_is_sent_as_a_bearer_token_unless_a_proof_is_required() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    let token = jwt("plain", None);

    let auto = fixture.client();
    ok(&auto, &server.origin(), &token).await;
    assert_eq!(
        (auto.stats().totals.with_proof, auto.stats().totals.requests),
        (0, 1)
    );

    let require = fixture
        .builder()
        .binding(BindingPolicy::Require)
        .build()
        .unwrap();
    ok(&require, &server.origin(), &token).await;
    assert_eq!(require.stats().totals.with_proof, 1);
}

#[tokio::test]
async fn an_opaque_token_is_proved_once_the_server_has_required_it() {
    let fixture = Fixture::new();
    for options in [h1(), CyclingOptions::default()] {
        let server = fixture.server(options);
        let (client, token) = (
            fixture.client(),
            bowline_http_client::AccessToken::new("opaque-token").unwrap(),
        );

        let response = post(&client, &server.origin(), &token, "once more")
            .await
            .unwrap();
        assert_eq!(
            text(response).await,
            "ok:once more",
            "the same request was sent again, with its body"
        );
        ok(&client, &server.origin(), &token).await;

        let totals = client.stats().totals;
        assert_eq!(
            (totals.requests, totals.signatures(), totals.refused),
            (2, 1, 0)
        );
        assert_eq!(server.counts().requests, 3);
        assert_eq!(
            server.counts().opened,
            1,
            "the refusal's body was drained, so the connection stayed usable"
        );
    }
}

#[tokio::test]
async fn an_opaque_token_whose_binding_the_caller_knows_is_proved_at_once() {
    let fixture = Fixture::new();
    for options in [h1(), CyclingOptions::default()] {
        let server = fixture.server(options);
        let (client, token) = (fixture.client(), AccessToken::new("opaque-token").unwrap());
        for _ in 0..10 {
            assert_eq!(
                proved(&client, &server.origin(), Some(&token)).await,
                Ok("ok:".to_owned())
            );
        }
        let totals = client.stats().totals;
        assert_eq!(
            (totals.requests, totals.with_proof, totals.signatures()),
            (10, 10, 1)
        );
        assert_eq!(server.counts().requests, 10, "nothing was refused first");
    }
}

/// RS-4.
#[tokio::test]
async fn a_proof_that_no_token_requires_is_verified_all_the_same() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    let (client, token) = (fixture.client(), jwt("plain", None));
    assert_eq!(
        proved(&client, &server.origin(), Some(&token)).await,
        Ok("ok:".to_owned())
    );
    assert_eq!(fixture.requests.all()[0].proofs.len(), 1);

    // The extension applies to one request only.
    ok(&client, &server.origin(), &token).await;
    assert_eq!(fixture.requests.all()[1].proofs.len(), 0);
    assert_eq!(client.stats().totals.with_proof, 1);
}

#[tokio::test]
async fn a_required_proof_applies_to_tokens_only_and_is_not_omitted_where_it_cannot_be_made() {
    let fixture = Fixture::new();
    let without = CyclingOptions {
        client_auth: ClientAuth::None,
        ..CyclingOptions::default()
    };
    let server = fixture.unprotected(without);
    let client = fixture.client();
    assert_eq!(
        proved(&client, &server.origin(), None).await,
        Ok("ok:".to_owned())
    );
    let token = AccessToken::new("opaque-token").unwrap();
    let refused = proved(&client, &server.origin(), Some(&token)).await;
    assert_eq!(refused, Err(ErrorKind::ClientCertificateNotRequested));
    assert_eq!(
        server.counts().requests,
        1,
        "the token did not go without a proof"
    );
}

/// A GET whose token, if it has one, must be sent with a proof.
async fn proved(
    client: &Client,
    url: &str,
    token: Option<&AccessToken>,
) -> Result<String, ErrorKind> {
    let mut request = http::Request::get(url).extension(ProofRequired);
    if let Some(token) = token {
        request = request.extension(token.clone());
    }
    let request = request.body(Full::<Bytes>::default()).unwrap();
    Ok(text(client.send(request).await.map_err(|e| e.kind())?).await)
}

#[tokio::test]
async fn tokens_that_cannot_be_proved_are_not_sent() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    let mine = fixture.agent.thumbprint().to_string();
    let other = fixture.pki.client("other", KeyKind::P256).thumbprint();
    let label = bowline_proof::EXPORTER_LABEL;
    let cases = [
        (
            serde_json::json!({"x5t#S256": mine, "tls_exp": "EXPORTER-other"}),
            ErrorKind::InvalidToken,
        ),
        (
            serde_json::json!({"x5t#S256": mine, "tls_exp": label, "jkt": "x"}),
            ErrorKind::InvalidToken,
        ),
        (
            serde_json::json!({"x5t#S256": "short", "tls_exp": label}),
            ErrorKind::InvalidToken,
        ),
        (serde_json::json!("no object"), ErrorKind::InvalidToken),
        (
            serde_json::json!({"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}),
            ErrorKind::UnsupportedBinding,
        ),
        (session_cnf(other), ErrorKind::TokenBoundToOtherCertificate),
        (
            serde_json::json!({"x5t#S256": other.to_string()}),
            ErrorKind::TokenBoundToOtherCertificate,
        ),
    ];
    let client = fixture.client();
    for (cnf, kind) in cases {
        let error = fetch(&client, &server.origin(), &jwt("a", Some(cnf.clone())))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), kind, "{cnf}: {error}");
        assert!(!error.may_have_been_processed());
    }
    assert_eq!(server.counts().requests, 0);
    assert_eq!(client.stats().totals.failed, 7);
}

#[tokio::test]
async fn a_server_that_asks_for_no_certificate_gets_no_session_bound_token() {
    let fixture = Fixture::new();
    let server = fixture.unprotected(CyclingOptions {
        client_auth: ClientAuth::None,
        cycle: Cycle::max_responses(1),
        alpn: Alpn::Http1,
        ..CyclingOptions::default()
    });
    let client = fixture.client();
    for n in 1..=3 {
        // The second and third connection are resumed, so the first one's handshake counts (CL-9).
        let error = fetch(&client, &server.origin(), &fixture.token("a"))
            .await
            .unwrap_err();
        assert_eq!(
            error.kind(),
            ErrorKind::ClientCertificateNotRequested,
            "{error}"
        );
        ok(&client, &server.origin(), &jwt("plain", None)).await;
        server.closed(n).await;
    }
    assert!(
        fixture
            .requests
            .all()
            .iter()
            .all(|seen| seen.proofs.is_empty())
    );
    assert!(
        fixture.requests.all().iter().any(|seen| seen.resumed),
        "no session was resumed: the test shows nothing"
    );
    assert_eq!(server.counts().requests, 3);
}

#[tokio::test]
async fn a_client_without_an_identity_says_so() {
    let fixture = Fixture::new();
    let server = fixture.unprotected(CyclingOptions {
        client_auth: ClientAuth::Optional,
        ..CyclingOptions::default()
    });
    let client = bowline_http_client::Client::builder()
        .trust(fixture.trust())
        .build()
        .unwrap();
    let error = fetch(&client, &server.origin(), &fixture.token("a"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoIdentity, "{error}");
    assert_eq!(server.counts().requests, 0);
}

#[tokio::test]
async fn an_event_stream_beside_calls_costs_a_parallel_proof_on_h1_and_none_on_h2() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    for (http, causes, connections) in [
        (
            HttpVersions::Http1,
            vec![(Cause::First, 1), (Cause::Parallel, 1)],
            2,
        ),
        (HttpVersions::Http2, vec![(Cause::First, 1)], 1),
    ] {
        let client = fixture.builder().http_versions(http).build().unwrap();
        let token = fixture.token("a");
        let stream = fetch(&client, &format!("{}/stream", server.origin()), &token)
            .await
            .unwrap();
        for _ in 0..10 {
            ok(&client, &server.origin(), &token).await;
        }
        let stats = client.stats();
        assert_eq!(stats.totals.causes, causes.into_iter().collect());
        assert_eq!(stats.connections_opened, connections);
        drop(stream);
    }
}

#[tokio::test]
async fn a_callers_own_proof_header_is_an_error() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    let request = http::Request::get(server.origin())
        .header("session-binding-proof", "mine")
        .body(http_body_util::Empty::new())
        .unwrap();
    let error = fixture.client().send(request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidRequest);
    assert!(!error.to_string().contains("mine"));
    assert_eq!(server.counts().requests, 0);
}
