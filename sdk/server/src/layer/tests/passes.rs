//! What passes, and what is known about it then.

use std::sync::atomic::Ordering;

use axum::Router;
use axum::routing::any;
use bowline_proof::Check;
use serde_json::json;
use tower::ServiceExt;

use super::world::*;
use crate::{AcceptPolicy, BindingClass, RequireRequestBound, ServerEvent};

#[tokio::test]
async fn a_session_bound_request_passes_under_every_policy_and_says_what_it_is_bound_to() {
    for policy in [AcceptPolicy::Follow, AcceptPolicy::Require] {
        let mut world = World::default();
        world.configure(|layer| layer.policy(policy));
        let outcome = world.send().await;
        assert!(outcome.has_passed());
        let binding = outcome.binding();
        assert_eq!(binding.class(), BindingClass::Session);
        assert_eq!(
            binding.thumbprint().unwrap().to_string(),
            CLIENT.thumbprint()
        );
        assert_eq!(
            Some(binding.connection()),
            world.facts.as_ref().map(|facts| facts.id())
        );
        assert!(!binding.is_request_bound());
        assert_eq!(binding.claims()["cnf"]["x5t#S256"], CLIENT.thumbprint());
    }
}

#[tokio::test]
async fn under_follow_the_token_decides_what_is_asked_for() {
    let cases = [
        (json!({}), BindingClass::Bearer),
        (json!({ "cnf": {} }), BindingClass::Bearer),
        (
            json!({ "cnf": { "x5t#S256": CLIENT.thumbprint() } }),
            BindingClass::Certificate,
        ),
    ];
    for (claims, class) in cases {
        let mut world = World {
            proofs: Some(vec![]),
            ..World::default()
        };
        world.use_token(claims);
        let outcome = world.send().await;
        assert!(outcome.has_passed());
        assert_eq!(outcome.binding().class(), class);
    }
}

#[tokio::test]
async fn a_bearer_token_passes_without_a_client_certificate() {
    let mut world = World {
        facts: Some(connection(None, EXPORTER)),
        proofs: Some(vec![]),
        ..World::default()
    };
    world.use_token(json!({}));
    assert!(world.send().await.has_passed());
}

#[tokio::test]
async fn a_proof_for_this_request_alone_passes_where_one_is_demanded() {
    let mut world = World::default();
    world.configure(|layer| layer.require_request_bound(RequireRequestBound::Always));
    world.add_request_claims("1");
    let outcome = world.send().await;
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
async fn request_claims_are_demanded_of_the_chosen_requests_only() {
    let mut world = World::default();
    world.configure(|layer| {
        layer.require_request_bound(RequireRequestBound::when(|request| {
            request.uri.path() == "/delete"
        }))
    });
    assert!(world.send().await.has_passed());
    world.uri = "/delete".to_owned();
    assert_eq!(
        world.send().await.check(),
        Some(Check::RequestClaimsRequired)
    );
}

#[tokio::test]
async fn the_drafts_bare_path_is_an_htu() {
    let mut world = World::default();
    world.add_request_claims("1");
    world.proof_claims["htu"] = "/mcp".into();
    assert!(world.send().await.has_passed());
}

#[tokio::test]
async fn rs_8_takes_a_reusable_proof_as_long_as_the_connection_lives() {
    let world = World::default();
    world.now.store(NOW + 7 * 24 * 60 * 60, Ordering::SeqCst);
    let outcome = world.send().await;
    assert!(outcome.has_passed());
    assert!(!outcome.was_cached(), "the signature itself was still good");
}

#[tokio::test]
async fn a_path_is_public_only_if_it_is_the_very_one_that_was_named() {
    let public = "/.well-known/agent-card.json";
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
    let mut world = World {
        authorization: Some(vec![]),
        proofs: Some(vec![]),
        ..World::default()
    };
    world.configure(|layer| layer.policy(AcceptPolicy::Require).public_paths([public]));
    for (path, passes) in [(public, true), ("/.well-known/agent-card.json?v=1", true)]
        .into_iter()
        .chain(others.map(|path| (path, false)))
    {
        world.uri = path.to_owned();
        assert_eq!(world.send().await.reached, passes, "{path}");
    }
}

#[tokio::test]
async fn rs_1_holds_on_public_paths_too() {
    let mut world = World {
        authorization: Some(vec![]),
        proofs: Some(vec![]),
        ..World::default()
    };
    world.configure(|layer| layer.public_paths(["/mcp"]));
    assert!(world.send().await.reached);
    world.now.store(2_300_000_000, Ordering::SeqCst);
    assert_eq!(world.send().await.check(), Some(Check::Certificate));
}

#[tokio::test]
async fn rs_1_tells_whoever_serves_the_connection_to_drain_it() {
    let world = World::default();
    world.now.store(2_300_000_000, Ordering::SeqCst);
    let outcome = world.send().await;
    assert_eq!(outcome.header("connection"), Some("close"));
    let facts = world.facts.as_ref().unwrap();
    tokio::time::timeout(std::time::Duration::from_secs(60), facts.drain_wanted())
        .await
        .expect("the connection was not told");
}

#[tokio::test]
async fn htu_and_public_paths_are_compared_with_the_full_path_under_axums_nest() {
    let mut world = World {
        uri: "/api/mcp".to_owned(),
        ..World::default()
    };
    world.add_request_claims("1");
    world.proof_claims["htu"] = format!("{ORIGIN}/api/mcp").into();
    world.configure(|layer| layer.public_paths(["/mcp"]));
    let inner = Router::new()
        .route("/mcp", any(|| async {}))
        .layer(world.layer.clone());
    let router = Router::new().nest("/api", inner);

    let send = async |world: &World| {
        let request = world.request().map(|()| axum::body::Body::empty());
        router.clone().oneshot(request).await.unwrap().status()
    };
    assert_eq!(send(&world).await, 200);
    world.proof_claims["htu"] = format!("{ORIGIN}/mcp").into();
    world.proof_claims["jti"] = "2".into();
    assert_eq!(send(&world).await, 401);
}
