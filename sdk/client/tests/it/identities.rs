//! Several certificates (CL-8), the adaptive proof scope, and proofs for one chosen request.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::fixture::{Fixture, fetch, identity, jwt, ok, session_cnf, text};
use bowline_http_client::{
    AccessToken, Cause, ErrorKind, ProofKind, ProofScope, RequestBoundProof, WithCertificate,
};
use bowline_testkit::peers::{Cycle, CyclingOptions};
use bowline_testkit::pki::{KeyKind, LeafSpec};
use bowline_testkit::tls::Alpn;
use futures_util::future::join_all;
use http_body_util::Empty;

#[tokio::test]
async fn a_replaced_certificate_serves_its_own_tokens_and_nothing_else() {
    let fixture = Fixture::new();
    for alpn in [Alpn::Http1, Alpn::Http2] {
        let server = fixture.server(CyclingOptions::alpn(alpn));
        let (client, url) = (fixture.client(), server.origin());
        let next = fixture.pki.client("agent", KeyKind::P256);
        let (old_token, new_token) = (
            fixture.token("old"),
            jwt("new", Some(session_cnf(next.thumbprint()))),
        );
        let plain = jwt("plain", None);
        ok(&client, &url, &old_token).await;
        let early = fetch(&client, &url, &new_token).await.unwrap_err();
        assert_eq!(
            early.kind(),
            ErrorKind::TokenBoundToOtherCertificate,
            "{early}"
        );

        client.replace_identity(identity(&next)).unwrap();
        assert_eq!(client.identity().unwrap().thumbprint(), next.thumbprint());
        for _ in 0..3 {
            join_all([&old_token, &new_token, &plain].map(|token| ok(&client, &url, token))).await;
        }
        // The old connection ends: its token gets another one, with the old certificate.
        server.retire_all();
        server.closed(1).await;
        join_all([&old_token, &new_token].map(|token| ok(&client, &url, token))).await;
        assert_eq!(client.stats().totals.failed, 1);
        assert_eq!(client.stats().totals.refused, 0);
    }
}

/// A token source needs this: the next certificate before it is the current one, and the old one
/// for an opaque token.
#[tokio::test]
async fn a_request_can_ask_for_a_certificate_that_is_not_the_current_one() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    let (client, url) = (fixture.client(), server.origin());
    let next = fixture.pki.client("agent", KeyKind::P256);
    // To the server an opaque token is bound to the agent's first certificate.
    let opaque = AccessToken::new("opaque").unwrap();
    let with = |certificate| {
        let request = http::Request::get(&url)
            .extension(opaque.clone())
            .extension(WithCertificate(certificate));
        client.send(request.body(Empty::new()).unwrap())
    };
    let unknown = with(next.thumbprint()).await.unwrap_err();
    assert_eq!(
        unknown.kind(),
        ErrorKind::TokenBoundToOtherCertificate,
        "{unknown}"
    );

    client.hold_identity(identity(&next)).unwrap();
    client.hold_identity(identity(&next)).unwrap();
    assert_eq!(
        client.identity().unwrap().thumbprint(),
        fixture.agent.thumbprint()
    );
    assert_eq!(with(next.thumbprint()).await.unwrap().status(), 401, "RS-3");
    assert_eq!(
        with(fixture.agent.thumbprint()).await.unwrap().status(),
        200
    );

    client.replace_identity(identity(&next)).unwrap();
    assert_eq!(
        with(fixture.agent.thumbprint()).await.unwrap().status(),
        200
    );
    assert_eq!(
        fetch(&client, &url, &opaque).await.unwrap().status(),
        401,
        "RS-3"
    );
}

#[tokio::test]
async fn no_session_is_resumed_across_certificates() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions {
        cycle: Cycle::max_responses(1),
        alpn: Alpn::Http1,
        ..CyclingOptions::default()
    });
    let (client, url) = (fixture.client(), server.origin());
    for n in 1..=2 {
        ok(&client, &url, &fixture.token("old")).await;
        server.closed(n).await;
    }
    assert_eq!(server.counts().resumed, 1, "sessions do resume");
    let next = fixture.pki.client("agent", KeyKind::P256);
    client.replace_identity(identity(&next)).unwrap();
    ok(
        &client,
        &url,
        &jwt("new", Some(session_cnf(next.thumbprint()))),
    )
    .await;
    assert_eq!(server.counts().resumed, 1);
}

#[tokio::test]
async fn a_retired_certificate_is_used_until_it_expires() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    let retired = fixture.pki.client("agent", KeyKind::P384);
    let expired = fixture.pki.issue(&LeafSpec::client("agent").expired());
    let client = fixture
        .builder()
        .retired_identity(identity(&retired))
        .retired_identity(identity(&expired))
        .build()
        .unwrap();
    ok(
        &client,
        &server.origin(),
        &jwt("a", Some(session_cnf(retired.thumbprint()))),
    )
    .await;
    let token = jwt("b", Some(session_cnf(expired.thumbprint())));
    let error = fetch(&client, &server.origin(), &token).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TokenBoundToOtherCertificate);
    assert!(error.to_string().contains("expired"), "{error}");
    assert_eq!(server.counts().opened, 1);
}

#[tokio::test]
async fn a_connection_takes_no_more_requests_once_its_certificate_has_expired() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    let soon = SystemTime::now() + Duration::from_secs(2);
    let leaf = fixture
        .pki
        .issue(&LeafSpec::client("agent").not_after(soon));
    let client = fixture.builder().identity(identity(&leaf)).build().unwrap();
    ok(
        &client,
        &server.origin(),
        &jwt("a", Some(session_cnf(leaf.thumbprint()))),
    )
    .await;
    // Closed by the client at its `notAfter`, though it could be idle for much longer.
    server.closed(1).await;
}

#[tokio::test]
async fn adaptive_scope_costs_at_most_two_signatures_however_many_come_at_once() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    let client = fixture
        .builder()
        .proof_scope(ProofScope::Adaptive)
        .build()
        .unwrap();
    let (token, url) = (fixture.token("a"), server.origin());
    ok(&client, &url, &token).await;
    assert_eq!(
        client.stats().totals.minted,
        [(ProofKind::Request, 1)].into(),
        "a request alone is bound as with `Request`"
    );
    join_all((0..100).map(|_| ok(&client, &url, &token))).await;

    let crowd = fixture
        .builder()
        .proof_scope(ProofScope::Adaptive)
        .build()
        .unwrap();
    join_all((0..100).map(|_| ok(&crowd, &url, &token))).await;
    for (client, requests) in [(&client, 101), (&crowd, 100)] {
        let totals = client.stats().totals;
        assert_eq!(
            totals.minted,
            [(ProofKind::Connection, 1), (ProofKind::Request, 1)].into()
        );
        assert_eq!(totals.causes, [(Cause::Scope, 1), (Cause::First, 1)].into());
        assert_eq!((totals.requests, totals.request_bound), (requests, 1));
    }
}

#[tokio::test]
async fn adaptive_scope_gives_every_request_alone_on_its_connection_its_own_claims() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions {
        cycle: Cycle::max_responses(1),
        alpn: Alpn::Http1,
        ..CyclingOptions::default()
    });
    let client = fixture
        .builder()
        .proof_scope(ProofScope::Adaptive)
        .build()
        .unwrap();
    for n in 1..=10 {
        ok(&client, &server.origin(), &fixture.token("a")).await;
        server.closed(n).await;
    }
    let totals = client.stats().totals;
    assert_eq!((totals.signatures(), totals.request_bound), (10, 10));
}

#[tokio::test]
async fn one_chosen_request_has_its_own_proof() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    let client = fixture.client();
    let (token, url) = (fixture.token("a"), server.origin());
    ok(&client, &url, &token).await;
    let request = http::Request::delete(format!("{url}/account"))
        .extension(token.clone())
        .extension(RequestBoundProof)
        .body(Empty::new())
        .unwrap();
    assert_eq!(text(client.send(request).await.unwrap()).await, "ok:");
    ok(&client, &url, &token).await;
    let totals = client.stats().totals;
    assert_eq!(
        totals.minted,
        [(ProofKind::Connection, 1), (ProofKind::Request, 1)].into()
    );
    assert_eq!((totals.request_bound, totals.reused), (1, 1));
}

#[tokio::test]
async fn tokens_keep_working_while_the_certificate_is_replaced_under_load() {
    let fixture = Arc::new(Fixture::new());
    let server = fixture.server(CyclingOptions::default());
    let (client, url) = (fixture.client(), server.origin());
    let mut tokens = vec![fixture.token("first")];
    for round in 0..5 {
        let next = fixture.pki.client("agent", KeyKind::P256);
        let calls = join_all((0..60).map(|n| ok(&client, &url, &tokens[n % tokens.len()])));
        let replace = async { client.replace_identity(identity(&next)).unwrap() };
        futures_util::future::join(calls, replace).await;
        tokens.push(jwt(
            &round.to_string(),
            Some(session_cnf(next.thumbprint())),
        ));
    }
    join_all(tokens.iter().map(|token| ok(&client, &url, token))).await;
    let totals = client.stats().totals;
    assert_eq!((totals.answered, totals.refused), (306, 0));
    assert_eq!(
        totals.signatures(),
        6,
        "one for each token: its certificate has one connection"
    );
}
