//! Discovery from a resource to the token endpoint: RFC 9728, RFC 8414, and the 401 that names the
//! metadata.

use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::routing::{any, get};
use bowline_testkit::authority::{Authority, InjectedFault};
use bowline_testkit::peers::CyclingServer;
use bowline_token::{
    AuthorizationServer, Authorized, ClientAuthentication, ErrorKind, OAuth, TokenSource,
    resource_metadata,
};
use serde_json::{Value, json};

use crate::fixture::{Fixture, METADATA, bound_to, get_request, ok};

fn source(fixture: &Fixture, server: AuthorizationServer) -> OAuth {
    OAuth::builder(fixture.client(), server, ClientAuthentication::tls("agent"))
        .clock(fixture.clock.to_clock())
        .build()
        .unwrap()
}

#[tokio::test]
async fn the_authorization_server_is_found_through_the_resource_which_is_the_audience() {
    let fixture = Fixture::new();
    let resource = fixture.resource();
    let client = fixture.client();
    let server =
        AuthorizationServer::for_resource(resource.origin()).only([fixture.authority.issuer()]);
    let source = OAuth::builder(client.clone(), server, ClientAuthentication::tls("agent"))
        .build()
        .unwrap();
    let agent = Authorized::new(client, source, &resource.origin()).unwrap();
    // The resource checks the audience (RS-2).
    ok(agent.send(get_request(&resource.origin())).await.unwrap()).await;
}

#[tokio::test]
async fn a_401_names_the_url_of_the_resource_metadata() {
    let fixture = Fixture::new();
    let resource = fixture.resource();
    let client = fixture.client();
    let refused = client.send(get_request(&resource.origin())).await.unwrap();
    let url = resource_metadata(refused.headers()).unwrap();
    assert_eq!(url, format!("{}{METADATA}", resource.origin()));
    let server = AuthorizationServer::for_resource(resource.origin())
        .metadata_at(url)
        .only([fixture.authority.issuer()]);
    source(&fixture, server).token().await.unwrap();
    assert_eq!(resource_metadata(&http::HeaderMap::new()), None);
}

/// A resource that names these issuers, at its well-known place.
fn naming(fixture: &Fixture, issuers: Value) -> CyclingServer {
    CyclingServer::start_with(&fixture.pki, Default::default(), |origin| {
        let metadata = Json(json!({ "resource": origin, "authorization_servers": issuers }));
        Router::new().route(METADATA, get(async || metadata))
    })
}

#[tokio::test]
async fn the_first_authorization_server_that_works_is_used() {
    let fixture = Fixture::new();
    let second = Authority::start(&fixture.pki, Default::default());
    let garbage = fixture.answering("no JSON");
    let named = [
        "https://localhost:1".to_owned(),
        garbage.origin(),
        fixture.authority.issuer().to_owned(),
        second.issuer().to_owned(),
    ];
    let resource = naming(&fixture, json!(named));
    let found = AuthorizationServer::for_resource(resource.origin()).only(named);
    assert_eq!(
        bound_to(&source(&fixture, found.clone()).token().await.unwrap()),
        fixture.agent.thumbprint()
    );
    assert_eq!(
        (fixture.authority.token_requests(), second.token_requests()),
        (1, 0)
    );

    source(
        &fixture,
        AuthorizationServer::for_resource(resource.origin()).only([second.issuer()]),
    )
    .token()
    .await
    .unwrap();
    assert_eq!(
        (fixture.authority.token_requests(), second.token_requests()),
        (1, 1)
    );

    let none =
        AuthorizationServer::for_resource(resource.origin()).only(["https://trusted.example"]);
    let error = source(&fixture, none).token().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Metadata);
    assert!(
        error.to_string().contains("https://localhost:1 and 3 more"),
        "{error}"
    );
}

/// A server that does not answer gets its share of the time, and no more.
#[tokio::test]
async fn a_silent_authorization_server_does_not_prevent_the_use_of_the_next_one() {
    let fixture = Fixture::new();
    let silent = Authority::start(&fixture.pki, Default::default());
    silent.set_fault(InjectedFault::Hold);
    let resource = naming(
        &fixture,
        json!([silent.issuer(), fixture.authority.issuer()]),
    );
    let server = AuthorizationServer::for_resource(resource.origin())
        .only([silent.issuer(), fixture.authority.issuer()]);
    let source = OAuth::builder(fixture.client(), server, ClientAuthentication::tls("agent"))
        .timeout(Duration::from_secs(6))
        .build()
        .unwrap();
    source.token().await.unwrap();
    assert_eq!(fixture.authority.token_requests(), 1);
}

#[tokio::test]
async fn if_no_authorization_server_works_the_error_names_each() {
    let fixture = Fixture::new();
    let garbage = fixture.answering("no JSON");
    let named = [
        &*garbage.origin(),
        "http://as.example",
        "https://localhost:1",
    ];
    let resource = naming(&fixture, json!(named));
    let error = source(
        &fixture,
        AuthorizationServer::for_resource(resource.origin()).only(named),
    )
    .token()
    .await
    .unwrap_err();
    let text = error.to_string();
    for part in [
        &*garbage.origin(),
        "JSON",
        "http://as.example",
        "plaintext",
        "https://localhost:1",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // One of them may be available again soon.
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

/// The error for a server with this metadata, in which `{origin}` stands for its origin.
async fn metadata_error(path: &'static str, metadata: Value) -> bowline_token::Error {
    let fixture = Fixture::new();
    let server = CyclingServer::start_with(&fixture.pki, Default::default(), |origin| {
        let metadata: Value =
            serde_json::from_str(&metadata.to_string().replace("{origin}", origin)).unwrap();
        Router::new().route(path, get(async || Json(metadata)))
    });
    let found = match path {
        METADATA => AuthorizationServer::for_resource(server.origin()).only([
            server.origin(),
            "http://as.example".to_owned(),
            "https://as.example/?a".to_owned(),
        ]),
        _ => AuthorizationServer::issuer(server.origin()),
    };
    source(&fixture, found).token().await.unwrap_err()
}

#[tokio::test]
async fn metadata_that_cannot_be_trusted_is_refused_with_the_reason() {
    const SERVER: &str = "/.well-known/oauth-authorization-server";
    let good = json!({ "issuer": "{origin}", "token_endpoint": "{origin}/token" });
    let with = |name: &str, value: Value| {
        let mut metadata = good.clone();
        metadata[name] = value;
        metadata
    };
    for (path, metadata, reason) in [
        (
            METADATA,
            json!({ "resource": "{origin}/", "authorization_servers": ["{origin}"] }),
            "identical",
        ),
        (
            METADATA,
            json!({ "resource": "https://other.example" }),
            "RFC 9728 section 3.3",
        ),
        (
            METADATA,
            json!({ "resource": "{origin}" }),
            "names no authorization server",
        ),
        (
            METADATA,
            json!({ "resource": "{origin}", "authorization_servers": [] }),
            "names no authorization server",
        ),
        (
            METADATA,
            json!({ "resource": "{origin}", "authorization_servers": ["http://as.example"] }),
            "plaintext",
        ),
        (
            METADATA,
            json!({ "resource": "{origin}", "authorization_servers": ["https://as.example/?a"] }),
            "query",
        ),
        (
            SERVER,
            with("issuer", json!("https://other.example")),
            "RFC 8414 section 3.3",
        ),
        (SERVER, with("issuer", json!("{origin}/")), "identical"),
        (
            SERVER,
            with("token_endpoint", json!("http://as.example/token")),
            "plaintext",
        ),
        (
            SERVER,
            with("token_endpoint", json!("ftp://as.example/token")),
            "neither",
        ),
        (
            SERVER,
            with("token_endpoint", json!("https://user:pw@as.example/")),
            "user name",
        ),
        (
            SERVER,
            with("token_endpoint", Value::Null),
            "no token endpoint",
        ),
        (
            SERVER,
            with(
                "mtls_endpoint_aliases",
                json!({ "token_endpoint": "http://as.example" }),
            ),
            "plaintext",
        ),
        (
            SERVER,
            with("grant_types_supported", json!(["authorization_code"])),
            "client_credentials",
        ),
        (
            SERVER,
            with(
                "token_endpoint_auth_methods_supported",
                json!(["client_secret_basic"]),
            ),
            "tls_client_auth",
        ),
    ] {
        let error = metadata_error(path, metadata.clone()).await;
        assert_eq!(error.kind(), ErrorKind::Metadata, "{metadata}: {error}");
        assert!(error.to_string().contains(reason), "{reason}: {error}");
        assert!(!error.to_string().contains("pw@"), "{error}");
    }
    for (metadata, reason) in [
        (json!({ "token_endpoint": "{origin}/token" }), "wrong form"),
        (with("token_endpoint", json!(7)), "wrong form"),
        (json!([]), "something else than a JSON object"),
    ] {
        let error = metadata_error(SERVER, metadata).await;
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    }
    let error = metadata_error("/elsewhere", good).await;
    assert_eq!(error.kind(), ErrorKind::Metadata);
    assert!(
        error.to_string().contains("404") && error.to_string().contains("openid-configuration"),
        "{error}"
    );
}

/// Servers that began with OpenID Connect have their metadata at another path.
#[tokio::test]
async fn the_metadata_of_an_openid_provider_is_found() {
    let fixture = Fixture::new();
    let endpoint = fixture.authority.mtls_token_url();
    let provider = CyclingServer::start_with(&fixture.pki, Default::default(), |origin| {
        let metadata =
            Json(json!({ "issuer": format!("{origin}/tenant"), "token_endpoint": endpoint }));
        Router::new().route(
            "/tenant/.well-known/openid-configuration",
            get(async || metadata),
        )
    });
    source(
        &fixture,
        AuthorizationServer::issuer(format!("{}/tenant", provider.origin())),
    )
    .token()
    .await
    .unwrap();
}

#[tokio::test]
async fn metadata_is_fetched_again_after_an_hour_and_stays_in_use_if_that_fails() {
    let fixture = Fixture::new();
    let endpoint = fixture.authority.mtls_token_url();
    let fetches = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let count = fetches.clone();
    let provider = CyclingServer::start_with(&fixture.pki, Default::default(), |origin| {
        let metadata = json!({ "issuer": origin, "token_endpoint": endpoint });
        let answer = move || {
            let number = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let answer = match number {
                0 | 1 => Ok(Json(metadata.clone())),
                _ => Err(http::StatusCode::BAD_GATEWAY),
            };
            std::future::ready(answer)
        };
        Router::new().fallback(any(answer))
    });
    let source = source(&fixture, AuthorizationServer::issuer(provider.origin()));
    let fetched = || fetches.load(std::sync::atomic::Ordering::SeqCst);
    for (seconds, expected) in [(0, 1), (700, 1), (700, 1), (3600, 2), (3600, 3)] {
        fixture.clock.advance(seconds);
        source.token().await.unwrap();
        assert_eq!(fetched(), expected, "after {seconds} s more");
    }
    assert_eq!(fixture.authority.token_requests(), 5);
}

#[tokio::test]
async fn a_moved_token_endpoint_is_found_before_the_hour_is_over() {
    let fixture = Fixture::new();
    let moved = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (endpoint, has_moved) = (fixture.authority.mtls_token_url(), moved.clone());
    let provider = CyclingServer::start_with(&fixture.pki, Default::default(), |origin| {
        let (issuer, elsewhere) = (origin.to_owned(), format!("{origin}/gone"));
        let answer = move || {
            let endpoint = if has_moved.load(std::sync::atomic::Ordering::SeqCst) {
                endpoint.clone()
            } else {
                elsewhere.clone()
            };
            std::future::ready(Json(
                json!({ "issuer": issuer, "token_endpoint": endpoint }),
            ))
        };
        Router::new().route("/.well-known/oauth-authorization-server", get(answer))
    });
    let source = source(&fixture, AuthorizationServer::issuer(provider.origin()));
    let error = source.token().await.unwrap_err();
    assert!(error.to_string().contains("404"), "{error}");
    moved.store(true, std::sync::atomic::Ordering::SeqCst);
    fixture.clock.advance(1);
    source.token().await.unwrap();
}
