//! Servers that refuse a proof: what is tried again, and what is only reported.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bowline_http_client::bind::BindingRefusal;
use bowline_proof::dpop::NONCE_HEADER;
use bowline_testkit::peers::CyclingServer;
use bowline_testkit::tls::Alpn;
use http::StatusCode;
use http_body_util::BodyExt;

use crate::fixture::dpop::{DpopFixture, without_certificates};
use crate::fixture::fetch;

#[tokio::test]
async fn a_server_that_refuses_every_proof_is_tried_twice_and_reported() {
    let fixture = DpopFixture::new();
    type Answer = fn(usize) -> Response;
    let cases: [(Answer, &str, u64); 4] = [
        // Always another nonce.
        (
            |n| refusal("use_dpop_nonce", Some(format!("n-{n}"))),
            "use_dpop_nonce",
            2,
        ),
        // Always the same nonce: one more try.
        (
            |_| refusal("use_dpop_nonce", Some("n".to_owned())),
            "use_dpop_nonce",
            2,
        ),
        // No nonce: another proof would be no better.
        (|_| refusal("use_dpop_nonce", None), "use_dpop_nonce", 1),
        // Nor here: the error is not about the nonce.
        (
            |n| refusal("invalid_dpop_proof", Some(format!("n-{n}"))),
            "invalid_dpop_proof",
            1,
        ),
    ];
    for (answer, error, sendings) in cases {
        let server = answering(&fixture, answer);
        let client = fixture.client();
        let refused = fetch(&client, &server.origin(), &fixture.token("a"))
            .await
            .unwrap();
        assert_eq!(refused.status(), 401);
        let report = refused
            .extensions()
            .get::<BindingRefusal>()
            .expect("a report");
        assert_eq!((report.error.as_str(), report.certificate), (error, None));
        let difference = report.clock_difference.expect("there was a Date");
        assert!((-3700..=-3590).contains(&difference), "{difference}");
        assert_eq!(server.counts().requests, sendings);
        let totals = client.stats().totals;
        assert_eq!((totals.refused, totals.signatures()), (sendings, sendings));
    }
}

#[tokio::test]
async fn another_401_is_not_about_the_binding() {
    let fixture = DpopFixture::new();
    let cases: [fn(usize) -> Response; 3] = [
        |_| refusal("invalid_token", Some("n".to_owned())),
        |_| {
            let challenge = r#"Bearer error="use_dpop_nonce", DPoP algs="ES256""#;
            (
                StatusCode::UNAUTHORIZED,
                [("www-authenticate", challenge), ("dpop-nonce", "n")],
            )
                .into_response()
        },
        |_| (StatusCode::BAD_REQUEST, [("dpop-nonce", "n")]).into_response(),
    ];
    for answer in cases {
        let server = answering(&fixture, answer);
        let client = fixture.client();
        let refused = fetch(&client, &server.origin(), &fixture.token("a"))
            .await
            .unwrap();
        assert!(refused.status().is_client_error());
        assert!(refused.extensions().get::<BindingRefusal>().is_none());
        assert_eq!(
            (server.counts().requests, client.stats().totals.refused),
            (1, 0)
        );
    }
}

/// A server that answers its nth request (from 0) with `answer(n)`.
pub(crate) fn answering(
    fixture: &DpopFixture,
    answer: impl Fn(usize) -> Response + Clone + Send + Sync + 'static,
) -> CyclingServer {
    let count = Arc::new(AtomicU64::new(0));
    let handler = move |request: Request| {
        let (answer, count) = (answer.clone(), count.clone());
        async move {
            let _ = request.into_body().collect().await;
            answer(usize::try_from(count.fetch_add(1, Ordering::SeqCst)).unwrap())
        }
    };
    let router = fixture.arrivals.layer(Router::new().fallback(handler));
    CyclingServer::start(&fixture.base.pki, without_certificates(Alpn::Http2), router)
}

fn refusal(error: &str, nonce: Option<String>) -> Response {
    let hour_ago = std::time::SystemTime::now() - Duration::from_secs(3600);
    let headers = [
        (
            "www-authenticate",
            format!(r#"DPoP algs="ES256", error="{error}""#),
        ),
        ("date", httpdate::fmt_http_date(hour_ago)),
    ];
    let mut response = (StatusCode::UNAUTHORIZED, headers).into_response();
    if let Some(nonce) = nonce {
        response
            .headers_mut()
            .insert(NONCE_HEADER, nonce.parse().unwrap());
    }
    response
}
