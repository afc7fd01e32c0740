//! What one client can make this server ask (E2 of the security review): nothing without the proof
//! that the policy demands, and only so many made-up tokens without one.

use std::sync::{Arc, Mutex};

use bowline_server::{AcceptPolicy, BindingLayer, Limit, ServerEvent};
use http::StatusCode;
use serde_json::json;

use super::{Introspector, active, opaque};
use crate::fixture::*;

type Events = Arc<Mutex<Vec<ServerEvent>>>;

async fn server(
    fixture: &Fixture,
    authority: &Introspector,
    policy: AcceptPolicy,
) -> (TestServer, Events) {
    let events = Events::default();
    let seen = events.clone();
    let layer = BindingLayer::new(authority.builder(fixture).build())
        .policy(policy)
        .observer(move |event: &ServerEvent| seen.lock().unwrap().push(*event));
    let listener = fixture.listener(fixture.tls()).await;
    let router = binding_report().layer(layer);
    let server = TestServer::start(listener, router, fixture.options());
    (server, events)
}

#[tokio::test]
async fn made_up_tokens_without_a_proof_are_asked_about_never_where_one_is_required() {
    let fixture = Fixture::new();
    let authority = Introspector::start(&fixture, json!({ "active": false })).await;
    for policy in [AcceptPolicy::RequireProof, AcceptPolicy::RequireSession] {
        let (server, _) = server(&fixture, &authority, policy).await;
        let mut connection = HttpConnection::connect(server.addr, &fixture.client("h2")).await;
        for number in 0..100 {
            let token = opaque(&format!("made-up-{number}"));
            let answer = connection.get("/", &token, None).await;
            answer.assert_refused("RS-4");
        }
    }
    assert_eq!(authority.request_count(), 0);
}

/// RS-13: a request that is only observed passes without a proof, so its token must be validated.
/// The quota for tokens that are not active bounds what a client can make this server ask.
#[tokio::test]
async fn where_the_policy_is_only_observed_made_up_tokens_are_asked_about_within_the_quota() {
    let fixture = Fixture::new();
    let authority = Introspector::start(&fixture, json!({ "active": false })).await;
    let layer = BindingLayer::new(authority.builder(&fixture).build())
        .policy(AcceptPolicy::RequireProof)
        .observe(true);
    let listener = fixture.listener(fixture.tls()).await;
    let router = binding_report().layer(layer);
    let server = TestServer::start(listener, router, fixture.options());
    let mut connection = HttpConnection::connect(server.addr, &fixture.client("h2")).await;
    let mut asked = 0;
    loop {
        let token = opaque(&format!("made-up-{asked}"));
        let answer = connection.get("/", &token, None).await;
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            break;
        }
        answer.assert_refused("RS-2");
        asked += 1;
        assert!(asked < 10_000, "is never limited");
    }
    assert_eq!(authority.request_count(), asked);
}

#[tokio::test]
async fn a_client_with_many_made_up_tokens_is_answered_429_and_others_are_served() {
    let fixture = Fixture::new();
    let authority = Introspector::start(&fixture, json!({ "active": false })).await;
    let (server, events) = server(&fixture, &authority, AcceptPolicy::Follow).await;
    let mut connection = HttpConnection::connect(server.addr, &fixture.client("h2")).await;
    let mut refused = 0;
    loop {
        let token = opaque(&format!("made-up-{refused}"));
        let answer = connection.get("/", &token, None).await;
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            break;
        }
        answer.assert_refused("RS-2");
        refused += 1;
        assert!(refused < 10_000, "is never limited");
    }
    assert!(refused >= 50, "after {refused}");
    // Not for every 429 is there a question.
    assert_eq!(authority.request_count(), refused);
    let limited = |event: &ServerEvent| {
        matches!(
            event,
            ServerEvent::LimitReached {
                limit: Limit::InactiveTokens,
                ..
            }
        )
    };
    assert_eq!(
        events
            .lock()
            .unwrap()
            .iter()
            .filter(|event| limited(event))
            .count(),
        1
    );
    // Another connection of the same client has the same bucket; another client has its own.
    authority.respond_with(active());
    let other = fixture.ca.client("other");
    let config = fixture.client_as(Some(&other), "h2", rustls::ALL_VERSIONS);
    let mut connection = HttpConnection::connect(server.addr, &config).await;
    let answer = connection.get("/", &opaque("good"), None).await;
    answer.assert_passed("bearer");
}

/// A fleet that shares one identity starts at once.
#[tokio::test]
async fn good_tokens_are_never_refused_however_many_are_new() {
    let fixture = Fixture::new();
    let authority = Introspector::start(&fixture, active()).await;
    let (server, _) = server(&fixture, &authority, AcceptPolicy::Follow).await;
    let config = fixture.client("h2");
    let clients = (0..10).map(|client| {
        let (config, addr) = (config.clone(), server.addr);
        async move {
            let mut connection = HttpConnection::connect(addr, &config).await;
            for number in 0..50 {
                let token = opaque(&format!("good-{client}-{number}"));
                connection
                    .get("/", &token, None)
                    .await
                    .assert_passed("bearer");
            }
        }
    });
    futures_util::future::join_all(clients).await;
    assert_eq!(authority.request_count(), 500);
}
