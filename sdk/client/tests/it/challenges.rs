//! Refused proofs (CL-5): a proof is replaced once however many requests were refused with it, and
//! the client gives up after a second refusal.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::fixture::{Fixture, fetch, jwt, ok, post, text};
use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bowline_http_client::bind::{BindingRefusal, TokenSourceId};
use bowline_http_client::{AccessToken, Cause, NoRetryOn401, ProofScope};
use bowline_proof::PROOF_HEADER;
use bowline_server::AcceptPolicy;
use bowline_testkit::peers::{Cycle, CyclingOptions, CyclingServer};
use bowline_testkit::tls::Alpn;
use bytes::Bytes;
use futures_util::future::join_all;
use http::StatusCode;
use http_body_util::{BodyExt, StreamBody};
use tokio::sync::Barrier;

/// A server that accepts or refuses by the proof alone.
fn server_accepting(
    fixture: &Fixture,
    alpn: Alpn,
    accepts: impl Fn(&str) -> bool + Clone + Send + Sync + 'static,
) -> CyclingServer {
    let handler = move |request: Request| {
        let proof = request
            .headers()
            .get(PROOF_HEADER)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default();
        let accepted = accepts(proof);
        async move {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            if accepted {
                body.into_response()
            } else {
                refuse()
            }
        }
    };
    let options = CyclingOptions::alpn(alpn);
    CyclingServer::start(&fixture.pki, options, Router::new().fallback(handler))
}

fn refuse() -> Response {
    let hour_ago = std::time::SystemTime::now() - Duration::from_secs(3600);
    let headers = [
        (
            "www-authenticate",
            r#"Bearer error="invalid_proof", error_description="RS-8: iat""#.to_owned(),
        ),
        ("date", httpdate::fmt_http_date(hour_ago)),
    ];
    (StatusCode::UNAUTHORIZED, headers, "no").into_response()
}

/// Refuses the first proof that it receives, every time.
#[derive(Clone, Default)]
struct FirstIsStale(Arc<Mutex<Option<String>>>);

impl FirstIsStale {
    fn accepts(&self, proof: &str) -> bool {
        let mut first = self.0.lock().unwrap();
        *first.get_or_insert_with(|| proof.to_owned()) != proof
    }
}

#[tokio::test]
async fn a_thousand_requests_refused_with_one_stale_proof_cost_one_new_signature() {
    let fixture = Fixture::new();
    let (client, token) = (fixture.client(), fixture.token("a"));
    let first = FirstIsStale::default();
    let server = {
        // Answers the refused ones together, so that all are refused before any is sent again.
        let all = Arc::new(Barrier::new(1000));
        let handler = move |request: Request| {
            let (first, all) = (first.clone(), all.clone());
            async move {
                let proof = request.headers()[PROOF_HEADER].to_str().unwrap().to_owned();
                if first.accepts(&proof) {
                    "ok".into_response()
                } else {
                    all.wait().await;
                    refuse()
                }
            }
        };
        CyclingServer::start(
            &fixture.pki,
            CyclingOptions::default(),
            Router::new().fallback(handler),
        )
    };
    let url = server.origin();

    let answers = join_all((0..1000).map(|_| fetch(&client, &url, &token))).await;
    assert!(
        answers
            .into_iter()
            .all(|answer| answer.unwrap().status() == 200)
    );

    let totals = client.stats().totals;
    assert_eq!(
        totals.causes,
        [(Cause::First, 1), (Cause::Challenge, 1)].into()
    );
    assert_eq!((totals.refused, totals.requests), (1000, 1000));
}

#[tokio::test]
async fn a_body_is_sent_again_with_the_new_proof() {
    let fixture = Fixture::new();
    for (alpn, proof_scope) in [
        (Alpn::Http1, ProofScope::Connection),
        (Alpn::Http2, ProofScope::Request),
    ] {
        let first = FirstIsStale::default();
        let server = server_accepting(&fixture, alpn, move |proof| first.accepts(proof));
        let client = fixture.builder().proof_scope(proof_scope).build().unwrap();
        let response = post(
            &client,
            &server.origin(),
            &fixture.token("a"),
            "the whole body",
        )
        .await
        .unwrap();
        assert_eq!(text(response).await, "the whole body");
        let stats = client.stats();
        assert_eq!(
            stats.totals.causes,
            [(Cause::First, 1), (Cause::Challenge, 1)].into(),
            "{alpn:?}"
        );
        assert_eq!(stats.connections_opened, 1);
    }
}

#[tokio::test]
async fn a_body_that_cannot_be_sent_again_is_not_but_the_next_request_has_the_new_proof() {
    let fixture = Fixture::new();
    let first = FirstIsStale::default();
    let server = server_accepting(&fixture, Alpn::Http2, move |proof| first.accepts(proof));
    let client = fixture.builder().replay_limit(4).build().unwrap();
    let token = fixture.token("a");

    let frame = http_body::Frame::data(Bytes::from_static(b"longer than four"));
    let body = StreamBody::new(futures_util::stream::iter([Ok::<_, std::io::Error>(frame)]));
    let request = http::Request::post(server.origin())
        .extension(token.clone())
        .body(body)
        .unwrap();
    let refused = client.send(request).await.unwrap();
    assert_eq!(refused.status(), 401);
    assert_eq!(server.counts().requests, 1);

    let response = fetch(&client, &server.origin(), &token).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(client.stats().totals.signatures(), 2);
}

#[tokio::test]
async fn a_second_refused_proof_is_final_and_reports_the_clock_difference() {
    let fixture = Fixture::new();
    for proof_scope in [ProofScope::Connection, ProofScope::Request] {
        let server = server_accepting(&fixture, Alpn::Http2, |_| false);
        let client = fixture.builder().proof_scope(proof_scope).build().unwrap();
        let (token, url) = (fixture.token("a"), server.origin());

        let refused = fetch(&client, &url, &token).await.unwrap();
        assert_eq!(refused.status(), 401);
        let refusal = refused
            .extensions()
            .get::<BindingRefusal>()
            .expect("a report");
        assert_eq!(refusal.error, "invalid_proof");
        assert_eq!(refusal.certificate, Some(fixture.agent.thumbprint()));
        let difference = refusal.clock_difference.expect("there was a Date");
        assert!((-3700..=-3590).contains(&difference), "{difference}");
        assert_eq!(client.stats().totals.signatures(), 2);

        for _ in 0..10 {
            let refused = fetch(&client, &url, &token).await.unwrap();
            assert_eq!(refused.status(), 401);
            assert!(refused.extensions().get::<BindingRefusal>().is_some());
        }
        // `Request` makes one proof per request; nothing is sent twice.
        let expected = if proof_scope == ProofScope::Request {
            12
        } else {
            2
        };
        assert_eq!(
            client.stats().totals.signatures(),
            expected,
            "{proof_scope:?}"
        );
        assert_eq!(server.counts().requests, 12, "{proof_scope:?}");
    }
}

#[tokio::test]
async fn another_401_is_not_about_the_binding() {
    let fixture = Fixture::new();
    let answer = || async {
        (
            StatusCode::UNAUTHORIZED,
            [("www-authenticate", "Bearer error=\"invalid_token\"")],
        )
    };
    let server = CyclingServer::start(
        &fixture.pki,
        CyclingOptions::default(),
        Router::new().fallback(answer),
    );
    let client = fixture.client();
    for token in [fixture.token("a"), AccessToken::new("opaque").unwrap()] {
        let refused = fetch(&client, &server.origin(), &token).await.unwrap();
        assert_eq!(refused.status(), 401);
        assert!(refused.extensions().get::<BindingRefusal>().is_none());
    }
    assert_eq!(
        (server.counts().requests, client.stats().totals.signatures()),
        (2, 1)
    );
}

#[tokio::test]
async fn an_old_proof_is_replaced_where_the_policy_says_so() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    let client = fixture
        .builder()
        .max_proof_age(Duration::ZERO)
        .build()
        .unwrap();
    for _ in 0..3 {
        ok(&client, &server.origin(), &fixture.token("a")).await;
    }
    assert_eq!(
        client.stats().totals.causes,
        [(Cause::First, 1), (Cause::Age, 2)].into()
    );
}

/// A server that refuses each request without a proof by this challenge.
fn demanding(fixture: &Fixture, challenge: &'static str) -> CyclingServer {
    let handler = move |request: Request| async move {
        match request.headers().contains_key(PROOF_HEADER) {
            true => "ok:".into_response(),
            false => {
                let headers = [("www-authenticate", challenge)];
                (StatusCode::UNAUTHORIZED, headers, "").into_response()
            }
        }
    };
    let router = Router::new().fallback(handler);
    CyclingServer::start(&fixture.pki, CyclingOptions::default(), router)
}

/// Bound to the agent's certificate, without `tls_exp`.
fn certificate_bound(fixture: &Fixture, name: &str) -> AccessToken {
    let cnf = serde_json::json!({ "x5t#S256": fixture.agent.thumbprint().to_string() });
    jwt(name, Some(cnf))
}

/// B1: what another scheme means by `error` is unknown, and a 401 with it may be one that a gateway
/// passes on after it acted.
#[tokio::test]
async fn only_a_bearer_challenge_has_a_request_sent_again_with_a_proof() {
    let fixture = Fixture::new();
    for (challenge, requests) in [
        (r#"Bearer error="use_session_binding""#, 2),
        (r#"bearer realm="a", error="use_session_binding""#, 2),
        (r#"DPoP error="use_session_binding""#, 1),
        (r#"Basic error="use_session_binding""#, 1),
        (
            r#"Upstream error="use_session_binding", Bearer realm="a""#,
            1,
        ),
        (r#"Bearer error="USE_SESSION_BINDING""#, 1),
    ] {
        let server = demanding(&fixture, challenge);
        let client = fixture.client();
        let token = certificate_bound(&fixture, "a");
        let response = post(&client, &server.origin(), &token, "pay")
            .await
            .unwrap();
        text(response).await;
        assert_eq!(server.counts().requests, requests, "{challenge}");
    }
}

/// B1: a caller can forbid it for one request, and the client learns from the 401 all the same.
#[tokio::test]
async fn a_request_that_must_not_be_repeated_is_answered_401() {
    let fixture = Fixture::new();
    let server = demanding(&fixture, r#"Bearer error="use_session_binding""#);
    let client = fixture.client();
    let send = async || {
        let request = http::Request::post(server.origin())
            .extension(certificate_bound(&fixture, "a"))
            .extension(NoRetryOn401)
            .body(http_body_util::Full::new(Bytes::from_static(b"pay")))
            .unwrap();
        let response = client.send(request).await.unwrap();
        let status = response.status().as_u16();
        text(response).await;
        status
    };
    assert_eq!((send().await, server.counts().requests), (401, 1));
    assert_eq!((send().await, server.counts().requests), (200, 2));
}

/// CL-5: what a server asks of a certificate-bound token holds for the successors that the same
/// source gives.
#[tokio::test]
async fn successors_of_a_challenged_token_are_proved_from_their_first_request_on() {
    let fixture = Fixture::new();
    let server = demanding(&fixture, r#"Bearer error="use_session_binding""#);
    let client = fixture.client();
    let requests = async |token: AccessToken, source: Option<u64>| {
        let before = server.counts().requests;
        let mut request = http::Request::get(server.origin()).extension(token);
        if let Some(source) = source {
            request = request.extension(TokenSourceId(source));
        }
        let body = http_body_util::Full::new(Bytes::new());
        let response = client.send(request.body(body).unwrap()).await.unwrap();
        text(response).await;
        server.counts().requests - before
    };
    let bound = |name| certificate_bound(&fixture, name);
    assert_eq!(requests(bound("a"), Some(1)).await, 2);
    assert_eq!(requests(bound("b"), Some(1)).await, 1, "its successor");
    assert_eq!(requests(bound("c"), Some(2)).await, 2, "another source");
    assert_eq!(requests(bound("d"), None).await, 2, "no source");
    assert_eq!(
        requests(jwt("e", None), Some(1)).await,
        2,
        "a bearer token stays one until the server asks"
    );
    let elsewhere = demanding(&fixture, r#"Bearer error="use_session_binding""#);
    let request = http::Request::get(elsewhere.origin())
        .extension(bound("f"))
        .extension(TokenSourceId(1))
        .body(http_body_util::Full::new(Bytes::new()))
        .unwrap();
    text(client.send(request).await.unwrap()).await;
    assert_eq!(elsewhere.counts().requests, 2, "another origin");
}

/// RS-13 `RequireProof`, for tokens of today's authorization servers: the client needs nothing but
/// the challenge.
#[tokio::test]
async fn cl_5_a_certificate_bound_token_is_proved_once_per_connection_from_the_challenge_on() {
    for alpn in [Alpn::Http1, Alpn::Http2] {
        let fixture = Fixture::new();
        let options = CyclingOptions {
            cycle: Cycle::max_responses(3),
            ..CyclingOptions::alpn(alpn)
        };
        let server = fixture.server_with(options, |layer| layer.policy(AcceptPolicy::RequireProof));
        let client = fixture.client_that_waits();
        let cnf = serde_json::json!({ "x5t#S256": fixture.agent.thumbprint().to_string() });
        let token = jwt("a", Some(cnf));
        for _ in 0..8 {
            ok(&client, &server.origin(), &token).await;
        }
        let seen = fixture.requests.all();
        assert_eq!(seen.len(), 1 + 8, "{alpn:?}");
        let (challenged, proved) = seen.split_first().unwrap();
        assert!(challenged.proofs.is_empty());
        assert!(proved.iter().all(|request| request.proofs.len() == 1));
        let connections: HashSet<_> = proved.iter().map(|request| request.connection).collect();
        assert_eq!(connections.len(), 3);
        assert_eq!(fixture.requests.proofs().len(), 3);
        assert_eq!(
            client.stats().totals.causes,
            [(Cause::First, 1), (Cause::Reconnect, 2)].into()
        );
    }
}
