//! Requests that pass, and what the handler learns about them.

use std::sync::atomic::Ordering;

use axum::Router;
use axum::routing::any;
use bowline_proof::Check;
use serde_json::json;
use tower::ServiceExt;

use super::fixture::*;
use crate::{AcceptPolicy, BindingClass, RequireRequestBound, ServerEvent};

#[tokio::test]
async fn a_session_bound_request_passes_under_every_policy_and_says_what_it_is_bound_to() {
    for policy in [AcceptPolicy::Follow, AcceptPolicy::RequireSession] {
        let mut fixture = Fixture::default();
        fixture.configure(|layer| layer.policy(policy));
        let outcome = fixture.send().await;
        assert!(outcome.has_passed());
        let binding = outcome.binding();
        assert_eq!(binding.class(), BindingClass::Session);
        assert_eq!(
            binding.thumbprint().unwrap().to_string(),
            CLIENT.thumbprint()
        );
        assert_eq!(
            Some(binding.connection()),
            fixture.facts.as_ref().map(|facts| facts.id())
        );
        assert!(!binding.is_request_bound());
        assert_eq!(binding.claims()["cnf"]["x5t#S256"], CLIENT.thumbprint());
    }
}

#[tokio::test]
async fn under_follow_the_token_decides_what_is_required() {
    let cases = [
        (json!({}), BindingClass::Bearer),
        (
            json!({ "cnf": { "x5t#S256": CLIENT.thumbprint() } }),
            BindingClass::Certificate,
        ),
    ];
    for (claims, class) in cases {
        let mut fixture = Fixture {
            proofs: Some(vec![]),
            ..Fixture::default()
        };
        fixture.use_token(claims);
        let outcome = fixture.send().await;
        assert!(outcome.has_passed());
        assert_eq!(outcome.binding().class(), class);
    }
}

#[tokio::test]
async fn a_bearer_token_passes_without_a_client_certificate() {
    let mut fixture = Fixture {
        facts: Some(connection(None, EXPORTER)),
        proofs: Some(vec![]),
        ..Fixture::default()
    };
    fixture.use_token(json!({}));
    assert!(fixture.send().await.has_passed());
}

#[tokio::test]
async fn a_request_bound_proof_passes_where_one_is_required() {
    let mut fixture = Fixture::default();
    fixture.configure(|layer| layer.require_request_bound(RequireRequestBound::Always));
    fixture.add_request_claims("1");
    let outcome = fixture.send().await;
    assert!(outcome.has_passed());
    assert!(outcome.binding().is_request_bound());
    assert!(matches!(
        outcome.event,
        Some(ServerEvent::Verified {
            request_bound: true,
            cached: false,
            ..
        })
    ));
}

#[tokio::test]
async fn request_claims_are_required_of_the_chosen_requests_only() {
    let mut fixture = Fixture::default();
    fixture.configure(|layer| {
        layer.require_request_bound(RequireRequestBound::when(|request| {
            request.uri.path() == "/delete"
        }))
    });
    assert!(fixture.send().await.has_passed());
    fixture.uri = "/delete".to_owned();
    assert_eq!(
        fixture.send().await.check(),
        Some(Check::RequestClaimsRequired)
    );
}

#[tokio::test]
async fn the_drafts_bare_path_is_an_htu() {
    let mut fixture = Fixture::default();
    fixture.add_request_claims("1");
    fixture.proof_claims["htu"] = "/mcp".into();
    assert!(fixture.send().await.has_passed());
}

#[tokio::test]
async fn rs_8_accepts_a_reusable_proof_as_long_as_the_connection_lives() {
    let fixture = Fixture::default();
    fixture.now.store(NOW + 7 * 24 * 60 * 60, Ordering::SeqCst);
    let outcome = fixture.send().await;
    assert!(outcome.has_passed());
    assert!(!outcome.was_cached(), "the signature itself was still good");
}

#[tokio::test]
async fn a_path_is_public_only_if_it_equals_a_configured_one() {
    let card = "/.well-known/agent-card.json";
    let others = [
        "/.well-known/agent-card.json/",
        "/.well-known//agent-card.json",
        "/.well-known/./agent-card.json",
        "/x/../.well-known/agent-card.json",
        "/.well-known/agent-card%2ejson",
        "/.well-known/Agent-Card.json",
        "/.well-known/agent-card.json;x",
        "/.well-known",
        "/",
    ];
    let mut fixture = public(&[card]);
    for (path, passes) in [(card, true), ("/.well-known/agent-card.json?v=1", true)]
        .into_iter()
        .chain(others.map(|path| (path, false)))
    {
        fixture.uri = path.to_owned();
        assert_eq!(fixture.send().await.reached, passes, "{path}");
    }
}

#[tokio::test]
async fn rs_1_holds_on_public_paths_too() {
    let mut fixture = Fixture {
        authorization: Some(vec![]),
        proofs: Some(vec![]),
        ..Fixture::default()
    };
    fixture.configure(|layer| layer.public_paths(["/mcp"]));
    assert!(fixture.send().await.reached);
    fixture.now.store(2_300_000_000, Ordering::SeqCst);
    assert_eq!(fixture.send().await.check(), Some(Check::Certificate));
}

#[tokio::test]
async fn rs_1_asks_the_server_to_drain_the_connection() {
    let fixture = Fixture::default();
    fixture.now.store(2_300_000_000, Ordering::SeqCst);
    let outcome = fixture.send().await;
    assert_eq!(outcome.header("connection"), Some("close"));
    let facts = fixture.facts.as_ref().unwrap();
    tokio::time::timeout(std::time::Duration::from_secs(60), facts.drain_wanted())
        .await
        .expect("the connection was not asked to drain");
}

#[tokio::test]
async fn htu_and_public_paths_are_compared_with_the_full_path_under_axums_nest() {
    let mut fixture = Fixture {
        uri: "/api/mcp".to_owned(),
        ..Fixture::default()
    };
    fixture.add_request_claims("1");
    fixture.proof_claims["htu"] = format!("{ORIGIN}/api/mcp").into();
    fixture.configure(|layer| layer.public_paths(["/mcp"]));
    let inner = Router::new()
        .route("/mcp", any(|| async {}))
        .layer(fixture.layer.clone());
    let router = Router::new().nest("/api", inner);

    let send = async |fixture: &Fixture| {
        let request = fixture.request().map(|()| axum::body::Body::empty());
        router.clone().oneshot(request).await.unwrap().status()
    };
    assert_eq!(send(&fixture).await, 200);
    fixture.proof_claims["htu"] = format!("{ORIGIN}/mcp").into();
    fixture.proof_claims["jti"] = "2".into();
    assert_eq!(send(&fixture).await, 401);
}

/// EX-8: what is in early data can be sent again by anybody who saw it. A gateway that takes early
/// data says so with `Early-Data` (RFC 8470 §5.1), of which any value counts as 1.
#[tokio::test]
async fn ex_8_a_proof_in_early_data_is_answered_425() {
    for value in ["1", "0", ""] {
        let mut fixture = Fixture::default();
        fixture.fields.push(("early-data", value.to_owned()));
        let outcome = fixture.send().await;
        assert_eq!(outcome.response.status(), 425, "{value:?}");
        assert!(!outcome.reached);
    }
    // A request without a proof is for the service itself to judge.
    let mut fixture = Fixture::default();
    fixture.fields.push(("early-data", "1".to_owned()));
    fixture.proofs = Some(Vec::new());
    assert_eq!(fixture.send().await.response.status(), 401);
}
