//! Nonces: learnt from any response, kept per origin, requested twice at most.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::response::IntoResponse;
use bowline_http_client::{Cause, DpopProofRequired};
use bowline_server::{Clock, DpopNonces};
use bowline_testkit::tls::Alpn;
use bytes::Bytes;
use http::StatusCode;
use http_body_util::Full;
use rustls_pki_types::UnixTime;
use serde_json::json;

use super::refusals::answering;
use crate::fixture::dpop::{DpopFixture, class, with_replay_store, without_certificates};
use crate::fixture::{post, text};

#[tokio::test]
async fn a_nonce_is_learnt_from_a_challenge_and_used_from_then_on() {
    for alpn in [Alpn::Http1, Alpn::Http2] {
        let fixture = DpopFixture::new();
        let nonces = DpopNonces::random(Duration::from_secs(3600));
        let server = fixture.server(
            without_certificates(alpn),
            with_replay_store().nonces(nonces),
        );
        let (client, token, url) = (fixture.client(), fixture.token("a"), server.origin());
        let response = post(&client, &url, &token, "the whole body").await.unwrap();
        assert_eq!(
            text(response).await,
            "dpop:the whole body",
            "sent again, with its body"
        );
        for _ in 0..5 {
            assert_eq!(class(&client, &url, &token).await, "dpop:");
        }
        let totals = client.stats().totals;
        assert_eq!(
            totals.causes,
            [(Cause::First, 1), (Cause::Challenge, 1), (Cause::Scope, 5)].into()
        );
        assert_eq!((totals.requests, totals.refused), (6, 1));
        let claims = fixture.arrivals.claims();
        assert_eq!(claims[0].get("nonce"), None);
        let nonce = &claims[1]["nonce"];
        assert!(nonce.is_string() && claims[1..].iter().all(|claims| claims["nonce"] == *nonce));
        assert_ne!(claims[0]["jti"], claims[1]["jti"]);
        assert_eq!(
            server.counts().opened,
            1,
            "the refusal's body was drained, so the connection stayed usable"
        );

        // Another connection to the same origin already knows the nonce.
        server.cut_all();
        server.closed(1).await;
        assert_eq!(class(&client, &url, &token).await, "dpop:");
        assert_eq!(client.stats().totals.refused, 1);
    }
}

#[tokio::test]
async fn a_newer_nonce_on_a_good_answer_is_used_next() {
    let fixture = DpopFixture::new();
    let ahead = Arc::new(AtomicU64::new(0));
    let clock = {
        let ahead = ahead.clone();
        Clock::from_fn(move || {
            let seconds = UnixTime::now().as_secs() + ahead.load(Ordering::SeqCst);
            UnixTime::since_unix_epoch(Duration::from_secs(seconds))
        })
    };
    // The nonces change six times within the window of `iat`.
    let dpop = with_replay_store().nonces(DpopNonces::random(Duration::from_secs(40)));
    let server = fixture.server_with(without_certificates(Alpn::Http2), |layer| {
        layer.dpop(dpop).clock(clock)
    });
    let (client, token, url) = (fixture.client(), fixture.token("a"), server.origin());
    for _ in 0..6 {
        assert_eq!(class(&client, &url, &token).await, "dpop:");
        ahead.fetch_add(40, Ordering::SeqCst);
    }
    let totals = client.stats().totals;
    assert_eq!(totals.refused, 1, "only the first came with a refusal");
    let nonces: HashSet<_> = fixture.arrivals.claims()[1..]
        .iter()
        .map(|c| c["nonce"].to_string())
        .collect();
    assert!(nonces.len() >= 4, "{nonces:?}");
}

#[tokio::test]
async fn nonces_do_not_cross_origins() {
    let fixture = DpopFixture::new();
    let with_nonces = || with_replay_store().nonces(DpopNonces::random(Duration::from_secs(3600)));
    let one = fixture.server(without_certificates(Alpn::Http2), with_nonces());
    let two = fixture.server(without_certificates(Alpn::Http2), with_nonces());
    let (client, token) = (fixture.client(), fixture.token("a"));
    for server in [&one, &two, &one, &two] {
        assert_eq!(class(&client, &server.origin(), &token).await, "dpop:");
    }
    assert_eq!(client.stats().totals.refused, 2);
    let claims = fixture.arrivals.claims();
    assert_eq!(
        claims[2].get("nonce"),
        None,
        "the other origin's was not sent"
    );
}

#[tokio::test]
async fn a_token_request_is_proved_without_a_token_and_repeated_with_the_required_nonce() {
    let fixture = DpopFixture::new();
    let server = answering(&fixture, |n| match n {
        0 => {
            let body = r#"{"error":"use_dpop_nonce"}"#;
            (StatusCode::BAD_REQUEST, [("dpop-nonce", "n-1")], body).into_response()
        }
        1 => "a token".into_response(),
        // No new nonce: the body reports another error.
        _ => (StatusCode::BAD_REQUEST, [("dpop-nonce", "n-1")], "no").into_response(),
    });
    let client = fixture.client();
    let send = async || {
        let request =
            http::Request::post(format!("{}/token", server.origin())).extension(DpopProofRequired);
        let body = Full::new(Bytes::from_static(b"grant_type=client_credentials"));
        client.send(request.body(body).unwrap()).await.unwrap()
    };
    assert_eq!(text(send().await).await, "a token");
    assert_eq!(send().await.status(), 400);
    assert_eq!(server.counts().requests, 3);
    assert_eq!(
        client.stats().totals.refused,
        1,
        "the other error is not about the proof"
    );
    let claims = fixture.arrivals.claims();
    assert_eq!(claims.len(), 3);
    for claims in &claims {
        assert_eq!((claims.get("ath"), &claims["htm"]), (None, &json!("POST")));
        assert_eq!(claims["htu"], format!("{}/token", server.origin()));
    }
    assert_eq!(
        (claims[0].get("nonce"), &claims[1]["nonce"]),
        (None, &json!("n-1"))
    );
    assert!(
        fixture
            .arrivals
            .all()
            .iter()
            .all(|headers| !headers.contains_key("authorization"))
    );

    // A request that does not ask for it has none.
    let request = http::Request::get(server.origin())
        .body(Full::<Bytes>::default())
        .unwrap();
    client.send(request).await.unwrap();
    assert_eq!(fixture.arrivals.proofs().len(), 3);
}
