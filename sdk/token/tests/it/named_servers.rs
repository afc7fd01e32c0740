//! Who may get what a grant sends: only an authorization server that configuration names, whatever
//! the called resource says (CL-10).

use std::sync::{Arc, Mutex};

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::routing::{any, get};
use bowline_http_client::AccessToken;
use bowline_testkit::authority::TokenRequest;
use bowline_testkit::peers::{CyclingOptions, CyclingServer};
use bowline_testkit::pki::KeyKind;
use bowline_testkit::tls::ClientAuth;
use bowline_token::{
    AssertionKey, AuthorizationServer, Builder, ClientAuthentication, ErrorKind, Exchanges, Fixed,
    OAuth, TokenSource,
};
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use crate::fixture::{Fixture, METADATA};

const SERVER_METADATA: &str = "/.well-known/oauth-authorization-server";

/// The forms that were POSTed to a token endpoint.
type Posted = Arc<Mutex<Vec<Vec<(String, String)>>>>;

/// An authorization server with correct metadata, which keeps what it is sent.
fn recording(fixture: &Fixture, posted: &Posted) -> CyclingServer {
    let posted = posted.clone();
    let options = CyclingOptions {
        client_auth: ClientAuth::Optional,
        ..Default::default()
    };
    CyclingServer::start_with(&fixture.pki, options, |origin| {
        let metadata = json!({
            "issuer": origin,
            "token_endpoint": format!("{origin}/t"),
            "mtls_endpoint_aliases": { "token_endpoint": format!("{origin}/mtls") },
        });
        Router::new()
            .route(SERVER_METADATA, get(async || Json(metadata)))
            .fallback(any(record))
            .with_state(posted)
    })
}

async fn record(State(posted): State<Posted>, method: Method, form: Bytes) -> Json<Value> {
    if method == Method::POST {
        let form = form_urlencoded::parse(&form).into_owned().collect();
        posted.lock().unwrap().push(form);
    }
    Json(json!({ "access_token": "theirs", "token_type": "Bearer", "expires_in": 60 }))
}

/// A resource whose metadata is correct and names this authorization server.
fn resource_that_names(fixture: &Fixture, issuer: String) -> CyclingServer {
    CyclingServer::start_with(&fixture.pki, Default::default(), |origin| {
        let metadata = json!({ "resource": origin, "authorization_servers": [issuer] });
        Router::new().route(METADATA, get(async || Json(metadata)))
    })
}

fn subject(fixture: &Fixture) -> AccessToken {
    let request = TokenRequest::session_bound("agent", fixture.agent.thumbprint());
    AccessToken::new(fixture.authority.issue(&request)).unwrap()
}

/// A hostile resource names an authorization server of its own. Neither the caller's token nor an
/// actor's token nor an assertion is posted to it, nor does it see the client authenticate.
#[tokio::test]
async fn a_resource_does_not_choose_who_gets_tokens_and_assertions() {
    let fixture = Fixture::new();
    let posted = Posted::default();
    let theirs = recording(&fixture, &posted);
    let resource = resource_that_names(&fixture, theirs.origin());
    let signer = fixture.pki.client("signer", KeyKind::P256);
    let key = AssertionKey::from_der(&signer.key()).unwrap();
    for authentication in [
        ClientAuthentication::tls("agent"),
        ClientAuthentication::self_signed_tls("agent"),
        ClientAuthentication::certificate_key_jwt("agent"),
        ClientAuthentication::private_key_jwt("agent", key),
    ] {
        let settings = || {
            let server = AuthorizationServer::for_resource(resource.origin());
            OAuth::builder(fixture.client(), server, authentication.clone())
        };
        let exchange = || Fixed::new(subject(&fixture));
        for settings in [
            settings(),
            settings().exchange(exchange()),
            settings().exchange(exchange()).actor(exchange()),
        ] {
            refuses_to_build(settings, &posted).await;
        }
        let each = Exchanges::new(settings());
        if let Ok(each) = &each {
            let _ = each.for_token(&subject(&fixture)).unwrap().token().await;
        }
        assert_eq!(*posted.lock().unwrap(), Vec::<Vec<_>>::new());
        assert_eq!(each.unwrap_err().kind(), ErrorKind::Configuration);
    }
    assert_eq!(theirs.counts().opened, 0, "no certificate was shown there");
}

async fn refuses_to_build(settings: Builder, posted: &Posted) {
    let built = settings.build();
    if let Ok(source) = &built {
        let _ = source.token().await;
    }
    assert_eq!(*posted.lock().unwrap(), Vec::<Vec<_>>::new());
    let error = built.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(error.to_string().contains("CL-10"), "{error}");
}

/// With an allow-list the resource selects among the servers on it, and no other is even asked for
/// its metadata.
#[tokio::test]
async fn a_server_that_is_not_on_the_list_is_not_connected_to() {
    let fixture = Fixture::new();
    let posted = Posted::default();
    let theirs = recording(&fixture, &posted);
    let resource = resource_that_names(&fixture, theirs.origin());
    let server = AuthorizationServer::for_resource(resource.origin())
        .only([fixture.authority.issuer().to_owned()]);
    let source = OAuth::builder(fixture.client(), server, ClientAuthentication::tls("agent"))
        .exchange(Fixed::new(subject(&fixture)))
        .build()
        .unwrap();
    assert_eq!(
        source.token().await.unwrap_err().kind(),
        ErrorKind::Metadata
    );
    assert_eq!(theirs.counts().opened, 0);
}

/// The metadata of a resource is fetched only from the resource's own origin: what answers with a
/// 401 does not choose another address for this client to fetch.
#[tokio::test]
async fn a_resource_s_metadata_is_fetched_from_its_own_origin_only() {
    let fixture = Fixture::new();
    let other = fixture.answering("no JSON");
    let resource = resource_that_names(&fixture, fixture.authority.issuer().to_owned());
    let server = AuthorizationServer::for_resource(resource.origin())
        .metadata_at(format!("{}/metadata", other.origin()))
        .only([fixture.authority.issuer().to_owned()]);
    let source = OAuth::builder(fixture.client(), server, ClientAuthentication::tls("agent"))
        .build()
        .unwrap();
    let error = source.token().await.unwrap_err();
    assert_eq!(other.counts().opened, 0);
    assert_eq!(error.kind(), ErrorKind::Metadata, "{error}");
    assert!(error.to_string().contains("CL-10"), "{error}");
}

/// The audience of an assertion is one value, the configured issuer or what configuration sets
/// beside it, and never an endpoint that metadata names.
#[tokio::test]
async fn an_assertion_is_for_the_configured_issuer_or_audience_alone() {
    let fixture = Fixture::new();
    for configured in [None, Some("https://login.example/token")] {
        let posted = Posted::default();
        let server = recording(&fixture, &posted);
        let mut authentication = ClientAuthentication::certificate_key_jwt("agent");
        if let Some(audience) = configured {
            authentication = authentication.audience(audience);
        }
        let by_issuer = AuthorizationServer::issuer(server.origin());
        let source = OAuth::builder(fixture.client(), by_issuer, authentication)
            .build()
            .unwrap();
        source.token().await.unwrap();
        let posted = posted.lock().unwrap();
        let [form] = &posted[..] else {
            panic!("{posted:?}")
        };
        let assertions: Vec<_> = form
            .iter()
            .filter(|(name, _)| name == "client_assertion")
            .collect();
        let [(_, assertion)] = &assertions[..] else {
            panic!("{form:?}")
        };
        let claims = jsonwebtoken::dangerous::insecure_decode::<Value>(assertion)
            .unwrap()
            .claims;
        let expected = configured.map_or(server.origin(), str::to_owned);
        assert_eq!(claims["aud"], json!(expected));
    }
}
