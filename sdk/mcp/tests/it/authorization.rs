//! rmcp's authorization manager and `AuthClient`, around this transport and over this client.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::response::Response;
use axum::routing::any;
use bowline_http_client::{Cause, HttpVersions};
use bowline_mcp::{ErrorKind, OAuthHttp, StreamableHttp};
use bowline_testkit::authority::TokenRequest;
use bowline_testkit::peers::{CyclingOptions, CyclingServer};
use rmcp::ServiceExt;
use rmcp::transport::auth::{
    AuthClient, AuthError, AuthorizationManager, AuthorizationMetadata, CredentialStore,
    InMemoryCredentialStore, OAuthTokenResponse, StoredCredentials,
};
use rmcp::transport::streamable_http_client::{
    StreamableHttpClientTransport, StreamableHttpClientTransportConfig, StreamableHttpError,
};
use serde_json::json;

use crate::fixture::{Fixture, echo};
use crate::scripted::{JSON, respond, soon};

/// A token endpoint on mutual TLS with this response.
fn endpoint(
    fixture: &Fixture,
    answer: impl Fn() -> Response + Clone + Send + Sync + 'static,
) -> (CyclingServer, RequestCounter) {
    let requests = RequestCounter::default();
    let counted = requests.clone();
    let answer = any(move |body: Bytes| async move {
        assert!(body.starts_with(b"grant_type=refresh_token") || body.is_empty());
        counted.0.fetch_add(1, Ordering::SeqCst);
        answer()
    });
    let router = Router::new().fallback(answer);
    (
        CyclingServer::start(&fixture.pki, CyclingOptions::default(), router),
        requests,
    )
}

#[derive(Clone, Default)]
struct RequestCounter(Arc<AtomicUsize>);

impl RequestCounter {
    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// rmcp's manager with a stored access token and refresh token.
async fn manager(
    fixture: &Fixture,
    http: OAuthHttp,
    server: &CyclingServer,
    token: &str,
) -> AuthorizationManager {
    let mut manager =
        AuthorizationManager::new_with_oauth_http_client(fixture.uri(), Arc::new(http))
            .await
            .unwrap();
    let metadata = json!({
        "authorization_endpoint": format!("{}/authorize", server.origin()),
        "token_endpoint": format!("{}/token", server.origin()),
    });
    manager.set_metadata(serde_json::from_value::<AuthorizationMetadata>(metadata).unwrap());
    manager.configure_client_id("agent").unwrap();
    let store = InMemoryCredentialStore::new();
    let response =
        json!({ "access_token": token, "refresh_token": "refresh", "token_type": "Bearer" });
    let response: OAuthTokenResponse = serde_json::from_value(response).unwrap();
    let stored = StoredCredentials::new("agent".into(), Some(response), vec![], None);
    store.save(stored).await.unwrap();
    manager.set_credential_store(store);
    manager
}

fn granted(token: &str) -> Response {
    respond(
        200,
        &[JSON],
        json!({ "access_token": token, "token_type": "Bearer" }).to_string(),
    )
}

#[tokio::test]
async fn rmcp_s_auth_client_refreshes_over_mutual_tls_and_its_tokens_are_proved() {
    let fixture = Fixture::open();
    let client = fixture.client(HttpVersions::Http2);
    let fresh = fixture.token().secret().to_owned();
    let (server, requests) = endpoint(&fixture, move || granted(&fresh));
    // A token that the server refuses: it is not session-bound (RS-13).
    let stale = fixture.issue(&TokenRequest::bearer("agent"));
    let manager = manager(
        &fixture,
        OAuthHttp::new(client.clone()),
        &server,
        stale.secret(),
    )
    .await;
    let http = AuthClient::new(StreamableHttp::new(client.clone()), manager);
    let config = StreamableHttpClientTransportConfig::with_uri(fixture.uri());
    let agent = soon(().serve(StreamableHttpClientTransport::with_client(http, config)))
        .await
        .unwrap();
    for _ in 0..10 {
        soon(agent.call_tool(echo("ahoy"))).await.unwrap();
    }
    assert_eq!(requests.count(), 1);
    assert!(server.counts().connections[0].h2, "over the same client");
    let totals = client.stats().totals;
    // The refused token was never proved, so its successor is the first.
    assert_eq!(totals.causes, [(Cause::First, 1)].into());
    assert_eq!(totals.refused, 0);
}

#[tokio::test]
async fn a_refused_proof_does_not_make_rmcp_s_auth_client_ask_for_another_token() {
    let refusing = |routes: Router| {
        routes.route(
            "/refusing",
            any(|| async {
                respond(
                    401,
                    &[("www-authenticate", "Bearer error=\"invalid_proof\"")],
                    "",
                )
            }),
        )
    };
    let fixture = Fixture::open_with(refusing, |layer| layer.public_paths(["/refusing"]));
    let client = fixture.client(HttpVersions::Http2);
    let (server, requests) = endpoint(&fixture, || granted("another"));
    let token = fixture.token();
    let manager = manager(
        &fixture,
        OAuthHttp::new(client.clone()),
        &server,
        token.secret(),
    )
    .await;
    let http = AuthClient::new(StreamableHttp::new(client.clone()), manager);
    let config = StreamableHttpClientTransportConfig::with_uri(format!(
        "{}/refusing",
        fixture.server.origin()
    ));
    let result = soon(().serve(StreamableHttpClientTransport::with_client(http, config))).await;
    match crate::end_to_end::failure(result) {
        StreamableHttpError::Client(e) => assert_eq!(e.kind(), ErrorKind::BindingRefused),
        other => panic!("{other:?}"),
    }
    assert_eq!(requests.count(), 0);
}

#[tokio::test]
async fn rmcp_s_manager_discovers_an_authorization_server_on_mutual_tls() {
    let fixture = Fixture::open();
    let http = OAuthHttp::new(fixture.client(HttpVersions::Auto));
    let manager = AuthorizationManager::new_with_oauth_http_client(
        fixture.authority.issuer(),
        Arc::new(http),
    )
    .await
    .unwrap();
    let metadata = soon(manager.resolve_metadata()).await.unwrap().metadata;
    assert!(
        metadata
            .token_endpoint
            .starts_with(fixture.authority.issuer()),
        "{metadata:?}"
    );
}

#[tokio::test]
async fn an_oversized_response_of_the_authorization_server_is_an_error() {
    let fixture = Fixture::open();
    let client = fixture.client(HttpVersions::Auto);
    // Apart from its length the response is valid.
    let padding = " ".repeat(1024 * 1024);
    let (server, requests) = endpoint(&fixture, move || {
        let granted = json!({ "access_token": "fresh", "token_type": "Bearer" });
        respond(200, &[JSON], format!("{padding}{granted}"))
    });
    let manager = manager(&fixture, OAuthHttp::new(client), &server, "stale").await;
    let error = soon(manager.refresh_token()).await.unwrap_err();
    assert!(
        matches!(error, AuthError::TokenRefreshFailed(_)),
        "{error:?}"
    );
    assert_eq!(requests.count(), 1);
}

#[tokio::test]
async fn a_token_request_is_not_redirected() {
    let fixture = Fixture::open();
    let client = fixture.client(HttpVersions::Auto);
    let (server, requests) = endpoint(&fixture, || respond(307, &[("location", "/token")], ""));
    let manager = manager(&fixture, OAuthHttp::new(client), &server, "stale").await;
    assert!(soon(manager.refresh_token()).await.is_err());
    assert_eq!(requests.count(), 1);
}
