//! RFC 9728: the URL in every challenge, and the document at a public path.

use std::sync::atomic::Ordering;

use axum::Router;
use axum::body::Body;
use axum::routing::any;
use bowline_proof::Check;
use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::fixture::*;
use crate::{
    AcceptPolicy, Dpop, DpopNonces, MemoryReplayStore, RequireRequestBound, RequiredScope,
    ResourceMetadata,
};

fn metadata() -> ResourceMetadata {
    ResourceMetadata::new(format!("{ORIGIN}/mcp")).unwrap()
}

const URL: &str = "https://api.example.com/.well-known/oauth-protected-resource/mcp";

/// What is wrong with a request.
type Spoil = fn(&mut Fixture);

#[tokio::test]
async fn rs_10_names_the_resource_metadata_in_every_challenge() {
    let cases: [(&str, Spoil); 12] = [
        ("RS-1", |fixture| {
            fixture.now.store(2_300_000_000, Ordering::SeqCst)
        }),
        ("RS-2", |fixture| fixture.token = "stranger".to_owned()),
        ("RS-3", |fixture| {
            fixture.facts = Some(connection(Some(&OTHER_CLIENT), EXPORTER))
        }),
        ("RS-4", |fixture| fixture.proofs = Some(vec![])),
        ("RS-5", |fixture| fixture.signer = &OTHER_CLIENT),
        ("RS-6", |fixture| {
            fixture.facts = Some(connection(Some(&CLIENT), [8; 32]))
        }),
        ("RS-10", |fixture| fixture.authorization = Some(vec![])),
        ("RS-12", |fixture| {
            fixture.configure(|layer| layer.require_request_bound(RequireRequestBound::Always))
        }),
        ("RS-13", |fixture| {
            fixture.use_token(json!({}));
            fixture.configure(|layer| layer.policy(AcceptPolicy::RequireBound));
        }),
        ("scope", |fixture| {
            let scope = RequiredScope::Always("read".parse().unwrap());
            fixture.configure(|layer| layer.required_scope(scope));
        }),
        ("DP-13", |fixture| {
            fixture.use_token(json!({ "cnf": { "jkt": CLIENT.jkt() } }));
            fixture.authorization = Some(vec![format!("DPoP {}", fixture.token)]);
            fixture.proofs = Some(vec![]);
        }),
        ("scope, with DPoP", |fixture| {
            fixture.authorization = Some(vec![format!("DPoP {}", fixture.token)]);
        }),
    ];
    for (name, spoil) in cases {
        for with_dpop in [false, true] {
            let mut fixture = Fixture::default();
            fixture.configure(|layer| layer.resource(&metadata()));
            if with_dpop {
                let nonces = DpopNonces::random(std::time::Duration::from_secs(60));
                fixture.configure(|layer| {
                    layer.dpop(Dpop::new(MemoryReplayStore::new(10)).nonces(nonces))
                });
            }
            spoil(&mut fixture);
            let outcome = fixture.send().await;
            assert!(!outcome.reached, "{name}");
            let challenges = outcome.challenges();
            assert!(!challenges.is_empty(), "{name}");
            for challenge in challenges {
                assert_eq!(
                    challenge.param("resource_metadata"),
                    Some(URL),
                    "{name}: {challenge:?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn the_document_is_public_and_no_other_path_is() {
    let mut fixture = Fixture::default();
    let metadata = metadata().authorization_servers(["https://as.example.com"]);
    fixture.configure(|layer| {
        layer
            .policy(AcceptPolicy::RequireSession)
            .public_paths(["/health"])
            .resource(&metadata)
    });
    let router = Router::new()
        .route("/health", any(async || "well"))
        .route("/mcp", any(async || "secret"))
        .route(
            "/.well-known/oauth-protected-resource",
            any(async || "secret"),
        )
        .route_service(metadata.path(), metadata.service())
        .layer(fixture.layer.clone());
    let send = async |method: &str, path: &str| {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .body(Body::empty())
            .unwrap();
        let (mut parts, body) = request.into_parts();
        parts.extensions.insert(fixture.facts.clone().unwrap());
        router
            .clone()
            .oneshot(Request::from_parts(parts, body))
            .await
            .unwrap()
    };
    let response = send("GET", metadata.path()).await;
    assert_eq!(
        (
            response.status().as_u16(),
            &response.headers()["content-type"]
        ),
        (200, &"application/json".parse().unwrap())
    );
    let document: Value =
        serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!(document["resource"], format!("{ORIGIN}/mcp"));
    assert_eq!(
        document["authorization_servers"],
        json!(["https://as.example.com"])
    );
    assert_eq!(send("HEAD", metadata.path()).await.status(), 200);
    let refused = send("POST", metadata.path()).await;
    assert_eq!(
        (refused.status().as_u16(), &refused.headers()["allow"]),
        (405, &"GET, HEAD".parse().unwrap())
    );
    assert_eq!(send("GET", "/health").await.status(), 200);
    for path in [
        "/mcp",
        "/.well-known/oauth-protected-resource",
        "/.well-known/oauth-protected-resource/mcp/",
    ] {
        let response = send("GET", path).await;
        assert_eq!(response.status(), 401, "{path}");
        assert_eq!(response.extensions().get(), Some(&Check::NoToken));
    }
}
