//! A transport over a client with a token source.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::post;
use bowline_http_client::bind::TokenSourceId;
use bowline_http_client::{AccessToken, Fault};
use bowline_reqwest::{Authorized, ErrorKind, TokenErrorKind, Transport};
use bowline_testkit::peers::{CyclingOptions, CyclingServer};
use bowline_token::{Error, Fixed, Token, TokenSource};
use futures_util::future::{BoxFuture, ready};
use reqwest_middleware::ClientBuilder;

use crate::fixture::{Fixture, upload};

/// Gives `stale` until it is refused, then `fresh`.
#[derive(Default)]
struct Renewed(AtomicU64);

impl TokenSource for Renewed {
    fn id(&self) -> TokenSourceId {
        TokenSourceId(7)
    }

    fn token(&self) -> BoxFuture<'_, Result<Token, Error>> {
        let token = match self.0.load(Ordering::SeqCst) {
            0 => "stale",
            _ => "fresh",
        };
        let token = AccessToken::new(token).expect("a token");
        Box::pin(ready(Ok(Token::new(token, self.id()))))
    }

    fn refused(&self, _: &Token) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// What the server received: token and body.
type Received = Arc<Mutex<Vec<(String, String)>>>;

/// Refuses `stale`.
async fn accept_fresh(
    State(received): State<Received>,
    headers: HeaderMap,
    body: String,
) -> (StatusCode, [(header::HeaderName, &'static str); 1]) {
    let token = headers[header::AUTHORIZATION].to_str().unwrap().to_owned();
    let is_stale = token == "Bearer stale";
    received.lock().unwrap().push((token, body));
    if is_stale {
        let challenge = r#"Bearer error="invalid_token""#;
        (
            StatusCode::UNAUTHORIZED,
            [(header::WWW_AUTHENTICATE, challenge)],
        )
    } else {
        (StatusCode::OK, [(header::SERVER, "it")])
    }
}

fn server(fixture: &Fixture, received: &Received) -> CyclingServer {
    let router = Router::new().fallback(post(accept_fresh).with_state(received.clone()));
    CyclingServer::start(&fixture.pki, CyclingOptions::default(), router)
}

fn pair(token: &str, body: &str) -> (String, String) {
    (format!("Bearer {token}"), body.to_owned())
}

#[tokio::test]
async fn requests_of_a_middleware_stack_carry_tokens_of_the_source_and_a_refused_one_is_replaced() {
    let (fixture, received) = (Fixture::new(), Received::default());
    let server = server(&fixture, &received);
    let agent = Authorized::new(fixture.client(), Renewed::default(), &server.origin()).unwrap();
    let http = ClientBuilder::new(reqwest::Client::new())
        .with(Transport::new(agent))
        .build();

    for body in ["one", "two"] {
        let request = http.post(format!("{}/things", server.origin())).body(body);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
    }
    assert_eq!(
        *received.lock().unwrap(),
        [
            pair("stale", "one"),
            pair("fresh", "one"),
            pair("fresh", "two")
        ]
    );
}

#[tokio::test]
async fn a_stream_is_sent_once_and_its_refusal_leads_to_another_token_for_the_next_request() {
    let (fixture, received) = (Fixture::new(), Received::default());
    let server = server(&fixture, &received);
    let agent = Authorized::new(fixture.client(), Renewed::default(), &server.origin()).unwrap();
    let transport = Transport::new(agent);

    for (token, status) in [
        ("stale", StatusCode::UNAUTHORIZED),
        ("fresh", StatusCode::OK),
    ] {
        let (chunks, body) = upload();
        chunks.send(Ok("streamed".to_owned())).unwrap();
        drop(chunks);
        let request = reqwest::Client::new().post(server.origin()).body(body);
        let response = transport.execute(request.build().unwrap()).await.unwrap();
        assert_eq!(response.status(), status);
        assert_eq!(
            received.lock().unwrap().last(),
            Some(&pair(token, "streamed"))
        );
    }
    assert_eq!(received.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn no_token_of_the_source_goes_to_another_origin() {
    let (fixture, received) = (Fixture::new(), Received::default());
    let server = server(&fixture, &received);
    let source = Fixed::new(fixture.token("a"));
    let agent = Authorized::new(fixture.client(), source, "https://api.example.com").unwrap();

    let request = reqwest::Client::new().post(server.origin());
    let error = Transport::new(agent)
        .execute(request.build().unwrap())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Token(TokenErrorKind::OtherOrigin));
    assert_eq!(error.fault(), Fault::Caller);
    assert!(error.token().is_some() && error.client().is_none());
    assert!(!error.may_have_been_processed() && !error.is_worth_another_try());
    assert!(received.lock().unwrap().is_empty());
}
