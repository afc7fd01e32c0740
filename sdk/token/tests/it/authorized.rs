//! A client and a source together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::routing::any;
use bowline_http_client::bind::TokenSourceId;
use bowline_http_client::{AccessToken, NoRetryOn401};
use bowline_testkit::authority::InjectedFault;
use bowline_testkit::peers::CyclingServer;
use bowline_token::{Authorized, Error, ErrorKind, Fixed, Token, TokenSource, is_invalid_token};
use futures_util::future::{BoxFuture, join_all, ready};
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{Full, StreamBody};
use tower_service::Service;

use crate::fixture::{Fixture, get_request, ok, text};

/// Refuses tokens that begin with `stale`, and accepts all others.
async fn refuse_stale(
    headers: HeaderMap,
) -> (
    StatusCode,
    [(header::HeaderName, &'static str); 1],
    &'static str,
) {
    let token = headers
        .get(header::AUTHORIZATION)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    if token.starts_with("Bearer stale") {
        (
            StatusCode::UNAUTHORIZED,
            [(header::WWW_AUTHENTICATE, r#"Bearer error="invalid_token""#)],
            "refused",
        )
    } else {
        (StatusCode::OK, [(header::SERVER, "stale-checker")], "ok")
    }
}

/// Gives `stale-0` until it is refused, then `next`.
struct Scripted {
    next: &'static str,
    refusals: AtomicU64,
    asked: AtomicU64,
}

impl Scripted {
    fn new(next: &'static str) -> Arc<Self> {
        Arc::new(Self {
            next,
            refusals: AtomicU64::new(0),
            asked: AtomicU64::new(0),
        })
    }
}

impl TokenSource for Scripted {
    fn id(&self) -> TokenSourceId {
        TokenSourceId(7)
    }

    fn token(&self) -> BoxFuture<'_, Result<Token, Error>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let token = match self.refusals.load(Ordering::SeqCst) {
            0 => "stale-0",
            _ => self.next,
        };
        let token = Token::new(AccessToken::new(token).unwrap(), self.id());
        Box::pin(ready(Ok(token)))
    }

    fn refused(&self, _: &Token) {
        self.refusals.fetch_add(1, Ordering::SeqCst);
    }
}

fn post(url: &str, body: &'static str) -> Request<Full<bytes::Bytes>> {
    Request::post(url).body(Full::from(body)).unwrap()
}

#[tokio::test]
async fn a_request_refused_with_invalid_token_is_sent_once_more_with_another_token() {
    let fixture = Fixture::new();
    let server = fixture.serve(Router::new().fallback(any(refuse_stale)));
    for (next, status, requests) in [("fresh", 200, 2), ("stale-1", 401, 2), ("stale-0", 401, 1)] {
        let (client, source) = (fixture.client(), Scripted::new(next));
        let mut agent = Authorized::new(client.clone(), source.clone(), &server.origin()).unwrap();
        // A POST may be repeated: a server that refuses a request like this has not acted on it.
        let response = agent
            .send(post(&server.origin(), "delete everything"))
            .await
            .unwrap();
        assert_eq!(response.status(), status, "{next}");
        let sent = AccessToken::new(next).unwrap();
        assert_eq!(is_invalid_token(&response, &sent), status == 401);
        text(response).await;
        assert_eq!(
            client.stats().totals.requests,
            requests,
            "{next}: and never a third time"
        );
        assert_eq!(source.asked.load(Ordering::SeqCst), 2);
        let response = agent.call(get_request(&server.origin())).await.unwrap();
        assert_eq!(response.status(), status, "as a tower service");
    }
}

#[tokio::test]
async fn a_body_that_cannot_be_read_twice_is_sent_once_and_the_refusal_is_reported() {
    let fixture = Fixture::new();
    let server = fixture.serve(Router::new().fallback(any(refuse_stale)));
    let source = Scripted::new("fresh");
    let agent = Authorized::new(fixture.client(), source.clone(), &server.origin()).unwrap();
    let request = || {
        let frames = [Ok::<_, std::io::Error>(http_body::Frame::data(
            bytes::Bytes::from_static(b"a"),
        ))];
        Request::post(server.origin())
            .body(StreamBody::new(futures_util::stream::iter(frames)))
            .unwrap()
    };
    assert_eq!(agent.send_once(request()).await.unwrap().status(), 401);
    assert_eq!(source.refusals.load(Ordering::SeqCst), 1);
    assert_eq!(agent.send_once(request()).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_resource_that_refuses_each_of_a_thousand_requests_costs_one_further_token_request() {
    let fixture = Fixture::new();
    let resource = fixture.resource();
    let client = fixture.client();
    // Tokens for another resource: this one refuses each of them.
    let source = fixture.source_for(&client, "https://elsewhere.example");
    let sent = source.token().await.unwrap();
    let agent = Authorized::new(client.clone(), source.clone(), &resource.origin()).unwrap();
    for _ in 0..10 {
        let url = resource.origin();
        let answers = join_all((0..100).map(|_| agent.send(get_request(&url)))).await;
        for answer in answers {
            assert!(
                is_invalid_token(&answer.unwrap(), sent.access_token()),
                "the resource's own answer"
            );
        }
    }
    assert_eq!(fixture.authority.token_requests(), 2);
    assert_eq!(source.counts().refused, 1);
}

#[tokio::test]
async fn without_another_token_the_caller_gets_the_refusal() {
    let fixture = Fixture::new();
    let resource = fixture.resource();
    let client = fixture.client();
    let source = fixture.source_for(&client, "https://elsewhere.example");
    let sent = source.token().await.unwrap();
    fixture.authority.set_fault(InjectedFault::Down);
    let agent = Authorized::new(client, source, &resource.origin()).unwrap();
    let answer = agent.send(get_request(&resource.origin())).await.unwrap();
    assert!(is_invalid_token(&answer, sent.access_token()));
}

#[tokio::test]
async fn no_token_goes_to_another_origin() {
    let fixture = Fixture::new();
    let (mine, other) = (fixture.resource(), fixture.certificate_echo());
    let source = Scripted::new("fresh");
    let agent = Authorized::new(
        fixture.client(),
        source.clone(),
        &format!("{}/mcp", mine.origin()),
    )
    .unwrap();
    for url in [
        other.origin(),
        mine.origin().replace("https", "http"),
        "/relative".into(),
    ] {
        let error = agent.send(get_request(&url)).await.unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::OtherOrigin | ErrorKind::Request),
            "{url}: {error}"
        );
    }
    assert_eq!(
        (source.asked.load(Ordering::SeqCst), other.counts().opened),
        (0, 0)
    );
    assert_eq!(
        Authorized::new(fixture.client(), source, "mcp")
            .unwrap_err()
            .kind(),
        ErrorKind::Configuration
    );
}

#[tokio::test]
async fn a_failed_request_keeps_the_clients_own_error() {
    let fixture = Fixture::new();
    let source = Fixed::new(AccessToken::new("fresh").unwrap());
    let agent = Authorized::new(fixture.client(), source, "https://localhost:1/").unwrap();
    let error = agent
        .send(get_request("https://localhost:1/"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Request);
    assert_eq!(
        error.client().unwrap().kind(),
        bowline_http_client::ErrorKind::Connect
    );
    assert!(error.is_worth_another_try());
}

#[tokio::test]
async fn a_fixed_token_is_returned_until_it_expires() {
    let fixture = Fixture::new();
    let resource = fixture.resource();
    let client = fixture.client();
    let token = fixture
        .source_for(&client, resource.origin())
        .token()
        .await
        .unwrap();
    let fixed = Fixed::new(token.access_token().clone()).clock(fixture.clock.to_clock());
    let agent = Authorized::new(client, fixed.clone(), &resource.origin()).unwrap();
    ok(agent.send(get_request(&resource.origin())).await.unwrap()).await;
    assert_eq!(
        fixed.token().await.unwrap().certificate(),
        Some(fixture.agent.thumbprint())
    );
    fixture.clock.advance(601);
    assert_eq!(fixed.token().await.unwrap_err().kind(), ErrorKind::Expired);
    let opaque = Fixed::new(AccessToken::new("opaque").unwrap()).clock(fixture.clock.to_clock());
    assert_eq!(opaque.token().await.unwrap().expires_at(), None);
}

/// Answers 401 with this challenge until a token other than `stale-0` comes, and counts requests.
fn challenging(fixture: &Fixture, challenge: &'static str) -> CyclingServer {
    fixture.serve(Router::new().fallback(any(async move |headers: HeaderMap| {
        let is_stale = headers[header::AUTHORIZATION]
            .to_str()
            .is_ok_and(|field| field.ends_with(" stale-0"));
        match is_stale {
            true => (
                StatusCode::UNAUTHORIZED,
                [(header::WWW_AUTHENTICATE, challenge)],
            ),
            false => (StatusCode::OK, [(header::SERVER, "challenger")]),
        }
    })))
}

/// Only a challenge of the token's own scheme with exactly `invalid_token` says that the resource
/// refused this token before it acted. Anything else may be the answer of a server behind it.
#[tokio::test]
async fn only_a_challenge_of_the_token_s_scheme_has_a_post_sent_again() {
    let fixture = Fixture::new();
    for (challenge, requests) in [
        (r#"Bearer error="invalid_token""#, 2),
        (r#"bearer realm="a", error="invalid_token""#, 2),
        (r#"Basic realm="a", Bearer error="invalid_token""#, 2),
        (r#"Basic error="invalid_token""#, 1),
        (r#"Upstream error="invalid_token", Bearer realm="a""#, 1),
        (r#"DPoP error="invalid_token""#, 1),
        (r#"Bearer error="INVALID_TOKEN""#, 1),
        (r#"Bearer error="invalid_token_of_the_backend""#, 1),
        (r#"Bearer error_description="invalid_token""#, 1),
        (r#"Bearer error="insufficient_scope""#, 1),
    ] {
        let server = challenging(&fixture, challenge);
        let (client, source) = (fixture.client(), Scripted::new("fresh"));
        let agent = Authorized::new(client.clone(), source.clone(), &server.origin()).unwrap();
        let request = post(&server.origin(), "delete everything");
        text(agent.send(request).await.unwrap()).await;
        assert_eq!(client.stats().totals.requests, requests, "{challenge}");
        let refusals = source.refusals.load(Ordering::SeqCst);
        assert_eq!(refusals, requests - 1, "{challenge}");
    }
}

/// A caller can have a 401 as it is: nothing is sent again, and the source learns of the refusal.
#[tokio::test]
async fn a_request_that_must_not_be_repeated_is_sent_once_and_the_source_learns_of_the_refusal() {
    let fixture = Fixture::new();
    let server = challenging(&fixture, r#"Bearer error="invalid_token""#);
    let (client, source) = (fixture.client(), Scripted::new("fresh"));
    let agent = Authorized::new(client.clone(), source.clone(), &server.origin()).unwrap();
    let once = || {
        let mut request = post(&server.origin(), "delete everything");
        request.extensions_mut().insert(NoRetryOn401);
        request
    };
    let response = agent.send(once()).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    text(response).await;
    assert_eq!(client.stats().totals.requests, 1);
    assert_eq!(source.refusals.load(Ordering::SeqCst), 1);
    let response = agent.send(once()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK, "with the next token");
}
