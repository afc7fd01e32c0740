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
use bowline_http_client::{AccessToken, Cause, ProofScope};
use bowline_proof::PROOF_HEADER;
use bowline_server::AcceptPolicy;
use bowline_testkit::peers::{Cycle, CyclingOptions, CyclingServer};
use bowline_testkit::tls::Alpn;
use bytes::Bytes;
use futures_util::future::join_all;
use http::StatusCode;
use http_body_util::{BodyExt, Full, StreamBody};
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

/// CL-5: what another scheme means by `error` is unknown, so its challenge replaces no proof.
#[tokio::test]
async fn a_challenge_of_another_scheme_is_not_about_the_proof() {
    let fixture = Fixture::new();
    for challenge in [
        r#"Basic error="invalid_proof""#,
        r#"Negotiate YII=, Digest error="use_session_binding""#,
    ] {
        let handler = move || async move {
            let headers = [("www-authenticate", challenge)];
            (StatusCode::UNAUTHORIZED, headers, "no").into_response()
        };
        let server = CyclingServer::start(
            &fixture.pki,
            CyclingOptions::default(),
            Router::new().fallback(handler),
        );
        let client = fixture.client();
        let response = fetch(&client, &server.origin(), &fixture.token("a"))
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        let totals = client.stats().totals;
        assert_eq!((totals.refused, totals.signatures()), (0, 1), "{challenge}");
    }
}

/// CL-5: a server may ask for a proof of every certificate-bound token. It is asked once for each
/// token source, and not once for each token.
#[tokio::test]
async fn successors_of_a_challenged_token_are_proved_from_their_first_request_on() {
    let fixture = Fixture::new();
    let arrivals = Arc::new(Mutex::new(Vec::new()));
    let server = {
        let arrivals = arrivals.clone();
        let handler = move |request: Request| {
            let is_proved = request.headers().contains_key(PROOF_HEADER);
            arrivals.lock().unwrap().push(is_proved);
            async move {
                if is_proved {
                    return "ok".into_response();
                }
                let challenge = r#"Bearer error="use_session_binding""#;
                (StatusCode::UNAUTHORIZED, [("www-authenticate", challenge)]).into_response()
            }
        };
        CyclingServer::start(
            &fixture.pki,
            CyclingOptions::default(),
            Router::new().fallback(handler),
        )
    };
    let client = fixture.client();
    let certificate = fixture.agent.thumbprint().to_string();
    let bound = |name: &str| jwt(name, Some(serde_json::json!({ "x5t#S256": certificate })));
    let call = async |token: AccessToken, source: Option<TokenSourceId>| {
        let mut request = http::Request::get(server.origin())
            .body(Full::<Bytes>::default())
            .unwrap();
        request.extensions_mut().insert(token);
        source.map(|source| request.extensions_mut().insert(source));
        let response = client.send(request).await.unwrap();
        assert_eq!(text(response).await, "ok");
        std::mem::take(&mut *arrivals.lock().unwrap())
    };
    let source = Some(TokenSourceId(7));
    assert_eq!(call(bound("a"), source).await, [false, true]);
    assert_eq!(call(bound("a"), source).await, [true]);
    assert_eq!(call(bound("b"), source).await, [true], "a successor");
    assert_eq!(call(bound("c"), None).await, [false, true], "of no source");
    let other = Some(TokenSourceId(8));
    assert_eq!(call(bound("d"), other).await, [false, true], "of another");
    // One that is bound to nothing demands a proof of its own accord only.
    assert_eq!(call(jwt("e", None), source).await, [false, true]);
    assert_eq!(call(jwt("f", None), source).await, [false, true]);
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
        let client = fixture.client();
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
