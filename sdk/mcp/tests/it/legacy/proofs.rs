//! Token and proof, on the stream and on the messages.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::routing::any;
use bowline_client::{AccessToken, Cause, HttpVersions};
use bowline_mcp::operation::MCP_SSE;
use bowline_mcp::{ErrorKind, LegacySse as Transport, operation};
use bowline_server::{AcceptPolicy, BindingLayer, Jwks, JwtValidator};
use bowline_testkit::authority::{Authority, AuthorityOptions, TokenRequest};
use bowline_testkit::peers::{CyclingOptions, CyclingServer, LegacySse, legacy_sse};
use bowline_testkit::pki::{KeyKind, Pki};
use bowline_token::{
    AuthorizationServer, ClientAuthentication, Clock, Fixed, OAuth, RequiredBinding,
};

use super::{agent, refusal, says};
use crate::house::client;
use crate::scripted::{respond, soon};

/// A legacy server behind `BindingLayer`.
struct Bolted {
    pki: Pki,
    authority: Authority,
    server: CyclingServer,
    legacy: LegacySse,
}

impl Bolted {
    fn open(options: AuthorityOptions) -> Self {
        let pki = Pki::new();
        let audience = options.audience.clone();
        let authority = Authority::start(&pki, options);
        let jwks = Jwks::document(authority.jwks().to_string()).unwrap();
        let validator = JwtValidator::builder(authority.issuer(), audience, jwks).build();
        let legacy = LegacySse::greeting(|_, message| legacy_sse::echo(message), super::hurried);
        // Answers come before their POST is accepted.
        let late = from_fn(async |request: Request, next: Next| {
            let response = next.run(request).await;
            tokio::time::sleep(Duration::from_millis(2)).await;
            response
        });
        let binding = BindingLayer::new(validator).policy(AcceptPolicy::Require);
        let router: Router = legacy.router().layer(late).layer(binding);
        Self {
            server: CyclingServer::start(&pki, CyclingOptions::default(), router),
            pki,
            authority,
            legacy,
        }
    }

    fn uri(&self) -> String {
        format!("{}/sse", self.server.origin())
    }
}

#[tokio::test]
async fn stream_and_messages_carry_the_token_and_the_proof_of_their_connection() {
    for (http, connections) in [(HttpVersions::Http2, 1), (HttpVersions::Http1, 2)] {
        let house = Bolted::open(AuthorityOptions::default());
        let leaf = house.pki.client("agent", KeyKind::P256);
        let client = client(&house.pki, &leaf, http);
        let token = house
            .authority
            .issue(&TokenRequest::session_bound("agent", leaf.thumbprint()));
        let transport = Transport::new(client.clone()).token(AccessToken::new(token).unwrap());
        let agent = agent(transport, &house.uri()).await;
        for _ in 0..100 {
            says(&agent, "ahoy").await;
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
        assert_eq!(house.server.counts().connections.len() as u64, connections);
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
                .all(|operation| operation.protocol() == MCP_SSE)
        );
        let calls = operation::legacy(operation::of_method("tools/call"));
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
    let house = Bolted::open(AuthorityOptions::default());
    let leaf = house.pki.client("agent", KeyKind::P256);
    let client = client(&house.pki, &leaf, HttpVersions::Http2);
    let token = house
        .authority
        .issue(&TokenRequest::session_bound("agent", leaf.thumbprint()));
    let transport = Transport::new(client.clone()).token(AccessToken::new(token).unwrap());
    let agent = agent(transport, &house.uri()).await;
    says(&agent, "ahoy").await;
    house.server.cut_all();
    soon(house.legacy.has_received(1, "notifications/initialized")).await;
    says(&agent, "ahoy again").await;
    let totals = client.stats().totals;
    assert_eq!(totals.signatures(), 2);
    assert_eq!(
        totals.causes.into_iter().collect::<Vec<_>>(),
        [(Cause::First, 1), (Cause::Reconnect, 1)]
    );
    assert_eq!(totals.refused, 0);
}

#[tokio::test]
async fn a_token_that_is_not_taken_is_a_precise_error_and_asked_with_once() {
    let house = Bolted::open(AuthorityOptions::default());
    let leaf = house.pki.client("agent", KeyKind::P256);
    let client = client(&house.pki, &leaf, HttpVersions::Auto);
    let token = AccessToken::new(house.authority.issue(&TokenRequest::bearer("agent"))).unwrap();
    let error = refusal(Transport::new(client.clone()).token(token), &house.uri()).await;
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
    // Takes no token twice: the second one that comes is the first it takes.
    let seen = Arc::new(Mutex::new(Vec::<http::HeaderValue>::new()));
    let picky = {
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
                match is_first {
                    true => respond(
                        401,
                        &[("www-authenticate", "Bearer error=\"invalid_token\"")],
                        "",
                    ),
                    false => next.run(request).await,
                }
            }
        })
    };
    let legacy = LegacySse::greeting(|_, message| legacy_sse::echo(message), super::hurried);
    let server = CyclingServer::start(
        &pki,
        CyclingOptions::default(),
        legacy.router().layer(picky),
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
    says(&agent, "ahoy").await;
    assert_eq!(source.counts().requested, 2);
    assert_eq!(seen.lock().unwrap().len(), 2);
    assert_eq!(legacy.received().len(), 3, "nothing was processed twice");
}

#[tokio::test]
async fn a_401_that_never_ends_is_asked_for_twice_and_no_more() {
    let pki = Pki::new();
    let authority = Authority::start(&pki, AuthorityOptions::default());
    let refusing = Router::new().fallback(any(async || {
        respond(
            401,
            &[("www-authenticate", "Bearer error=\"invalid_token\"")],
            "",
        )
    }));
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
    let house = Bolted::open(AuthorityOptions::default());
    let leaf = house.pki.client("agent", KeyKind::P256);
    let client = client(&house.pki, &leaf, HttpVersions::Http2);
    let token = house
        .authority
        .issue(&TokenRequest::session_bound("agent", leaf.thumbprint()));
    let is_late = Arc::new(AtomicBool::new(false));
    let late = is_late.clone();
    let clock = Clock::from_fn(move || match late.load(Ordering::Relaxed) {
        false => SystemTime::now(),
        true => SystemTime::now() + Duration::from_secs(24 * 3600),
    });
    let source = Fixed::new(AccessToken::new(token).unwrap()).clock(clock);
    let agent = agent(Transport::new(client).source(source), &house.uri()).await;
    says(&agent, "ahoy").await;
    is_late.store(true, Ordering::Relaxed);
    house.server.cut_all();
    soon(agent.waiting()).await.unwrap();
    assert_eq!(
        house.legacy.sessions(),
        1,
        "an expired token is not even sent"
    );
}
