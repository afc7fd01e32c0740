//! Access tokens from a source: replaced in time, and after `invalid_token`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bowline_http_client::bind::TokenSourceId;
use bowline_http_client::{AccessToken, Cause, Client, HttpVersions, ProofKind};
use bowline_mcp::{ErrorKind, StreamableHttp, operation};
use bowline_token::{
    AuthorizationServer, ClientAuthentication, Clock, Error, OAuth, Token, TokenFile, TokenSource,
};
use futures_util::future::{BoxFuture, join_all, ready};
use http::StatusCode;
use rmcp::service::RunningService;
use rmcp::transport::streamable_http_client::{StreamableHttpClient, StreamableHttpError};
use rmcp::{RoleClient, ServiceExt};

use crate::fixture::{Fixture, echo};
use crate::scripted::{
    DONE, EVENTS, JSON, Scripted, chunks, own, ping, ping_over, plaintext_client, respond, soon,
};

/// A clock that the test moves.
#[derive(Clone, Default)]
struct TestClock(Arc<AtomicU64>);

impl TestClock {
    fn clock(&self) -> Clock {
        let clock = self.0.clone();
        Clock::from_fn(move || {
            SystemTime::now() + Duration::from_secs(clock.load(Ordering::SeqCst))
        })
    }

    fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

fn source(fixture: &Fixture, client: &Client, clock: &TestClock) -> OAuth {
    let server = AuthorizationServer::issuer(fixture.authority.issuer());
    OAuth::builder(client.clone(), server, ClientAuthentication::tls("agent"))
        .clock(clock.clock())
        .build()
        .unwrap()
}

/// An agent with the tokens of this source.
async fn agent(
    fixture: &Fixture,
    client: &Client,
    source: &OAuth,
) -> RunningService<RoleClient, ()> {
    let http = StreamableHttp::new(client.clone()).source(source.clone());
    soon(().serve(http.transport(fixture.uri()))).await.unwrap()
}

/// Waits until the source has replaced this token.
async fn successor(source: &OAuth, of: &Token) {
    soon(async {
        while source.token().await.unwrap() == *of {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
#[allow(
    clippy::print_stdout,
    reason = "figures to be read: cargo test -p bowline-mcp thousand -- --nocapture"
)]
async fn a_token_rotated_during_a_thousand_calls_costs_one_request_and_a_signature_per_connection_and_no_call()
 {
    for (http, causes) in [
        (
            HttpVersions::Http2,
            vec![(Cause::Token, 1), (Cause::First, 1)],
        ),
        // The event stream has a connection of its own, and keeps the token that it was opened
        // with.
        (
            HttpVersions::Http1,
            vec![(Cause::Token, 1), (Cause::First, 1), (Cause::Parallel, 1)],
        ),
    ] {
        let fixture = Fixture::open();
        let client = fixture.client(http);
        let clock = TestClock::default();
        let source = source(&fixture, &client, &clock);
        let agent = agent(&fixture, &client, &source).await;
        soon(async {
            while !client
                .stats()
                .operations
                .contains_key(&operation::EVENT_STREAM)
            {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let first = source.token().await.unwrap();
        for call in 0..1000 {
            match call {
                500 => clock.advance(481), // a fifth of ten minutes ahead of its end
                900 => successor(&source, &first).await,
                _ => {}
            }
            let result = soon(agent.call_tool(echo(&call.to_string())))
                .await
                .unwrap();
            assert_eq!(result.content[0].as_text().unwrap().text, call.to_string());
        }
        let stats = client.stats();
        let signatures = causes.iter().map(|(_, count)| count).sum();
        assert_eq!(
            stats.operations[&operation::for_method("tools/call")].answered,
            1000
        );
        assert_eq!(
            fixture.authority.token_requests(),
            2,
            "one, and one refresh"
        );
        assert_eq!(
            stats.totals.causes,
            causes.into_iter().collect(),
            "{http:?}"
        );
        assert_eq!(
            stats.totals.minted,
            [(ProofKind::Connection, signatures)].into()
        );
        let totals = stats.totals;
        assert_eq!(
            (
                totals.failed,
                totals.may_have_been_processed,
                totals.refused
            ),
            (0, 0, 0)
        );
        println!(
            "{http:?}: 1,000 calls, {} token requests, {} connections, {signatures} signatures",
            fixture.authority.token_requests(),
            fixture.server.counts().opened
        );
    }
}

#[tokio::test]
async fn a_token_rotated_among_concurrent_calls_fails_none_and_is_signed_for_once() {
    let fixture = Fixture::open();
    let client = fixture.client(HttpVersions::Http2);
    let clock = TestClock::default();
    let source = source(&fixture, &client, &clock);
    let agent = agent(&fixture, &client, &source).await;
    let first = source.token().await.unwrap();
    for batch in 0..20 {
        match batch {
            10 => clock.advance(481),
            19 => successor(&source, &first).await,
            _ => {}
        }
        soon(join_all((0..50).map(|_| async {
            agent.call_tool(echo("ahoy")).await.unwrap()
        })))
        .await;
    }
    assert_eq!(fixture.authority.token_requests(), 2);
    assert_eq!(client.stats().totals.signatures(), 2);
    assert_eq!(fixture.server.counts().opened, 1);
}

/// Gives `stale-0` until that is refused, then `next`.
struct Successors {
    next: &'static str,
    refusals: AtomicU64,
}

impl TokenSource for Successors {
    fn id(&self) -> TokenSourceId {
        TokenSourceId(7)
    }

    fn token(&self) -> BoxFuture<'_, Result<Token, Error>> {
        let token = match self.refusals.load(Ordering::SeqCst) {
            0 => "stale-0",
            _ => self.next,
        };
        Box::pin(ready(Ok(Token::new(
            AccessToken::new(token).unwrap(),
            self.id(),
        ))))
    }

    fn refused(&self, _: &Token) {
        self.refusals.fetch_add(1, Ordering::SeqCst);
    }
}

fn successors(next: &'static str) -> Successors {
    Successors {
        next,
        refusals: AtomicU64::new(0),
    }
}

const INVALID: (&str, &str) = ("www-authenticate", r#"Bearer error="invalid_token""#);

/// A server that refuses stale tokens. The bodies of its refusals never end.
async fn refusing_stale_tokens() -> Scripted {
    Scripted::start(|seen| {
        let token = seen.header("authorization").unwrap_or_default();
        match (token.starts_with("Bearer stale"), seen.method.as_str()) {
            (true, _) => respond(401, &[INVALID], chunks(["refused"], true)),
            (false, "POST") => respond(200, &[JSON], DONE),
            (false, "GET") => respond(200, &[EVENTS], ""),
            _ => respond(200, &[], ""),
        }
    })
    .await
}

#[tokio::test]
async fn a_request_refused_with_invalid_token_is_sent_again_once_for_every_method() {
    let headers = HashMap::new;
    for method in ["POST", "GET", "DELETE"] {
        let server = refusing_stale_tokens().await;
        let http = StreamableHttp::new(plaintext_client()).source(successors("fresh"));
        let address = server.uri.clone();
        match method {
            "POST" => drop(
                soon(http.post_message(address, ping(), None, None, headers()))
                    .await
                    .unwrap(),
            ),
            "GET" => drop(
                soon(http.get_stream(address, None, None, None, headers()))
                    .await
                    .unwrap(),
            ),
            _ => soon(http.delete_session(address, "session".into(), None, headers()))
                .await
                .unwrap(),
        }
        let tokens: Vec<_> = server
            .seen()
            .iter()
            .map(|seen| seen.header("authorization").unwrap().to_owned())
            .collect();
        assert_eq!(tokens, ["Bearer stale-0", "Bearer fresh"], "{method}");
    }
}

#[tokio::test]
async fn a_repeated_401_is_retried_once_and_then_reported_to_rmcp() {
    for (next, requests) in [("stale-1", 2), ("stale-0", 1)] {
        let server = refusing_stale_tokens().await;
        let http = StreamableHttp::new(plaintext_client()).source(successors(next));
        let posted = ping_over(&http, &server.uri, None).await;
        match posted {
            Err(StreamableHttpError::AuthRequired(e)) => {
                assert_eq!(e.www_authenticate_header, INVALID.1)
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(server.seen().len(), requests);
    }
}

#[tokio::test]
async fn a_source_that_has_no_token_is_a_precise_error_and_nothing_is_sent() {
    let server = refusing_stale_tokens().await;
    let file = TokenFile::new("/nowhere/token");
    let http = StreamableHttp::new(plaintext_client()).source(file);
    let posted = ping_over(&http, &server.uri, None).await;
    let error = own(posted);
    assert_eq!(
        error.kind(),
        ErrorKind::Token(bowline_token::ErrorKind::File)
    );
    assert_eq!(error.to_string(), error.token().unwrap().to_string());
    assert!(!error.may_have_been_processed());
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn a_source_s_tokens_go_to_one_origin() {
    let (one, another) = (refusing_stale_tokens().await, refusing_stale_tokens().await);
    let http = StreamableHttp::new(plaintext_client()).source(successors("fresh"));
    let post = |server: &Scripted| {
        http.post_message(server.uri.clone(), ping(), None, None, HashMap::new())
    };
    soon(post(&one)).await.unwrap();
    let error = own(soon(post(&another)).await);
    assert_eq!(
        error.kind(),
        ErrorKind::Token(bowline_token::ErrorKind::OtherOrigin)
    );
    soon(post(&one)).await.unwrap();
    assert!(another.seen().is_empty());
}

#[tokio::test]
async fn an_error_of_the_client_keeps_its_kind_with_a_source() {
    let http = StreamableHttp::new(plaintext_client()).source(successors("fresh"));
    let uri: Arc<str> = "http://mcp.example.com/mcp".into();
    let error = own(ping_over(&http, &uri, None).await);
    assert_eq!(
        error.kind(),
        ErrorKind::Client(bowline_http_client::ErrorKind::PlaintextRefused)
    );
    let uri: Arc<str> = "not a uri".into();
    let error = own(ping_over(&http, &uri, None).await);
    assert_eq!(error.kind(), ErrorKind::InvalidEndpoint);
}

#[tokio::test]
async fn a_source_and_rmcp_s_own_credentials_are_an_error() {
    let server = Scripted::answering(StatusCode::OK.as_u16(), &[JSON], DONE).await;
    let http = StreamableHttp::new(plaintext_client()).source(successors("fresh"));
    let posted = ping_over(&http, &server.uri, Some("another")).await;
    assert_eq!(own(posted).kind(), ErrorKind::TwoTokens);
    let authorization = HashMap::from([(http::header::AUTHORIZATION, "Bearer x".parse().unwrap())]);
    let posted =
        soon(http.post_message(server.uri.clone(), ping(), None, None, authorization)).await;
    assert!(
        matches!(posted, Err(StreamableHttpError::ReservedHeaderConflict(_))),
        "{posted:?}"
    );
    assert!(server.seen().is_empty());
}
