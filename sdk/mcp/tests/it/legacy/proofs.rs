//! Token and proof, on the stream and on the messages.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::routing::any;
use bowline_http_client::{AccessToken, Cause, Client, HttpVersions};
use bowline_mcp::{ErrorKind, LegacySse as Transport, operation};
use bowline_server::{AcceptPolicy, BindingLayer};
use bowline_testkit::authority::{Authority, AuthorityOptions, TokenRequest};
use bowline_testkit::peers::{CyclingOptions, CyclingServer, LegacySse, legacy_sse};
use bowline_testkit::pki::{KeyKind, Pki};
use bowline_token::{
    AuthorizationServer, ClientAuthentication, Clock, Fixed, OAuth, RequiredBinding,
};

use super::{agent, echoes, refusal};
use crate::fixture::{client, validator};
use crate::scripted::{respond, soon};

const INVALID_TOKEN: (&str, &str) = ("www-authenticate", r#"Bearer error="invalid_token""#);

/// A legacy server behind `BindingLayer`.
struct Fixture {
    pki: Pki,
    authority: Authority,
    server: CyclingServer,
    legacy: LegacySse,
}

impl Fixture {
    fn open() -> Self {
        let pki = Pki::new();
        let authority = Authority::start(&pki, AuthorityOptions::default());
        let legacy =
            LegacySse::with_greeting(|_, message| legacy_sse::echo(message), super::fast_retry);
        // Responses come before their POST is accepted.
        let late = from_fn(async |request: Request, next: Next| {
            let response = next.run(request).await;
            tokio::time::sleep(Duration::from_millis(2)).await;
            response
        });
        let binding = BindingLayer::new(validator(&authority)).policy(AcceptPolicy::RequireSession);
        let router: Router = legacy.router().layer(late).layer(binding);
        Self {
            server: CyclingServer::start(&pki, CyclingOptions::default(), router),
            pki,
            authority,
            legacy,
        }
    }

    /// A client of an agent, and a session-bound token for it.
    fn agent(&self, http: HttpVersions) -> (Client, AccessToken) {
        let leaf = self.pki.client("agent", KeyKind::P256);
        let request = TokenRequest::session_bound("agent", leaf.thumbprint());
        let token = AccessToken::new(self.authority.issue(&request)).unwrap();
        (client(&self.pki, &leaf, http), token)
    }

    fn uri(&self) -> String {
        format!("{}/sse", self.server.origin())
    }
}

#[tokio::test]
async fn stream_and_messages_carry_the_token_and_the_proof_of_their_connection() {
    for (http, connections) in [(HttpVersions::Http2, 1), (HttpVersions::Http1, 2)] {
        let fixture = Fixture::open();
        let (client, token) = fixture.agent(http);
        let transport = Transport::new(client.clone()).token(token);
        let agent = agent(transport, &fixture.uri()).await;
        for _ in 0..100 {
            echoes(&agent, "ahoy").await;
        }
        soon(agent.cancel()).await.unwrap();

        let stats = client.stats();
        assert_eq!(stats.totals.requests, 103, "{http:?}");
        assert_eq!(stats.totals.with_proof, 103);
        assert_eq!(stats.totals.refused, 0);
        assert_eq!(
            stats.totals.signatures(),
            connections,
            "one for each connection (CL-3)"
        );
        assert_eq!(
            fixture.server.counts().connections.len() as u64,
            connections
        );
        let mut expected = vec![(Cause::First, 1)];
        if connections == 2 {
            expected.push((Cause::Parallel, 1));
        }
        assert_eq!(
            stats.totals.causes.into_iter().collect::<Vec<_>>(),
            expected
        );
        assert!(
            stats
                .operations
                .keys()
                .all(|operation| operation.protocol() == operation::MCP_SSE)
        );
        let calls = operation::legacy(operation::for_method("tools/call"));
        assert_eq!(stats.operations[&calls].answered, 100);
        assert!(
            stats
                .operations
                .contains_key(&operation::legacy(operation::EVENT_STREAM))
        );
    }
}

#[tokio::test]
async fn a_new_stream_on_a_new_connection_has_a_new_proof() {
    let fixture = Fixture::open();
    let (client, token) = fixture.agent(HttpVersions::Http2);
    let transport = Transport::new(client.clone()).token(token);
    let agent = agent(transport, &fixture.uri()).await;
    echoes(&agent, "ahoy").await;
    fixture.server.cut_all();
    soon(fixture.legacy.has_received(1, "notifications/initialized")).await;
    echoes(&agent, "ahoy again").await;
    let totals = client.stats().totals;
    assert_eq!(totals.signatures(), 2);
    assert_eq!(
        totals.causes.into_iter().collect::<Vec<_>>(),
        [(Cause::First, 1), (Cause::Reconnect, 1)]
    );
    assert_eq!(totals.refused, 0);
}

#[tokio::test]
async fn a_refused_token_is_a_precise_error_after_one_request() {
    let fixture = Fixture::open();
    let leaf = fixture.pki.client("agent", KeyKind::P256);
    let client = client(&fixture.pki, &leaf, HttpVersions::Auto);
    let token = AccessToken::new(fixture.authority.issue(&TokenRequest::bearer("agent"))).unwrap();
    let error = refusal(Transport::new(client.clone()).token(token), &fixture.uri()).await;
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert!(
        error.to_string().contains("invalid_token") && error.to_string().contains("RS-13"),
        "{error}"
    );
    assert_eq!(client.stats().totals.requests, 1);
}

#[tokio::test]
async fn tokens_come_from_a_source_and_a_refused_one_is_replaced() {
    let pki = Pki::new();
    let authority = Authority::start(&pki, AuthorityOptions::default());
    // Refuses the first token and accepts every other.
    let seen = Arc::new(Mutex::new(Vec::<http::HeaderValue>::new()));
    let refusing_stale_tokens = {
        let seen = seen.clone();
        from_fn(move |request: Request, next: Next| {
            let token = request.headers()[http::header::AUTHORIZATION].clone();
            let mut seen = seen.lock().unwrap();
            if !seen.contains(&token) {
                seen.push(token.clone());
            }
            let is_first = seen[0] == token;
            drop(seen);
            async move {
                if is_first {
                    respond(401, &[INVALID_TOKEN], "")
                } else {
                    next.run(request).await
                }
            }
        })
    };
    let legacy =
        LegacySse::with_greeting(|_, message| legacy_sse::echo(message), super::fast_retry);
    let server = CyclingServer::start(
        &pki,
        CyclingOptions::default(),
        legacy.router().layer(refusing_stale_tokens),
    );
    let leaf = pki.client("agent", KeyKind::P256);
    let client = client(&pki, &leaf, HttpVersions::Auto);
    let at = AuthorizationServer::issuer(authority.issuer());
    let source = OAuth::builder(client.clone(), at, ClientAuthentication::tls("agent"))
        .bound(RequiredBinding::Session)
        .build()
        .unwrap();
    let transport = Transport::new(client).source(source.clone());
    let agent = agent(transport, &format!("{}/sse", server.origin())).await;
    echoes(&agent, "ahoy").await;
    assert_eq!(source.counts().requested, 2);
    assert_eq!(seen.lock().unwrap().len(), 2);
    assert_eq!(legacy.received().len(), 3, "nothing was processed twice");
}

#[tokio::test]
async fn a_repeated_401_is_retried_once() {
    let pki = Pki::new();
    let authority = Authority::start(&pki, AuthorityOptions::default());
    let refusing = Router::new().fallback(any(async || respond(401, &[INVALID_TOKEN], "")));
    let server = CyclingServer::start(&pki, CyclingOptions::default(), refusing);
    let client = client(
        &pki,
        &pki.client("agent", KeyKind::P256),
        HttpVersions::Auto,
    );
    let at = AuthorizationServer::issuer(authority.issuer());
    let source = OAuth::builder(client.clone(), at, ClientAuthentication::tls("agent"))
        .build()
        .unwrap();
    let error = refusal(
        Transport::new(client).source(source.clone()),
        &format!("{}/sse", server.origin()),
    )
    .await;
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert_eq!(source.counts().requested, 2);
    assert_eq!(server.counts().requests, 2);
}

#[tokio::test]
async fn a_session_does_not_begin_again_without_a_token() {
    let fixture = Fixture::open();
    let (client, token) = fixture.agent(HttpVersions::Http2);
    let is_late = Arc::new(AtomicBool::new(false));
    let late = is_late.clone();
    let clock = Clock::from_fn(move || {
        let hours = if late.load(Ordering::Relaxed) { 24 } else { 0 };
        SystemTime::now() + Duration::from_secs(hours * 3600)
    });
    let source = Fixed::new(token).clock(clock);
    let agent = agent(Transport::new(client).source(source), &fixture.uri()).await;
    echoes(&agent, "ahoy").await;
    is_late.store(true, Ordering::Relaxed);
    fixture.server.cut_all();
    soon(agent.waiting()).await.unwrap();
    assert_eq!(
        fixture.legacy.sessions(),
        1,
        "an expired token is not even sent"
    );
}
