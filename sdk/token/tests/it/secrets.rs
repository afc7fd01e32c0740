//! No token, assertion or key in errors, `Debug` or logs, even if the server repeats them.

use axum::Router;
use axum::routing::any;
use bowline_http_client::AccessToken;
use bowline_testkit::authority::InjectedFault;
use bowline_testkit::log::Log;
use bowline_testkit::pki::KeyKind;
use bowline_token::{
    AssertionKey, AuthorizationServer, ClientAuthentication, Exchanges, Fixed, OAuth, TokenSource,
};
use http::StatusCode;
use serde_json::json;

use crate::fixture::Fixture;

const SECRETS: [&str; 4] = [
    "subject_token",
    "client_assertion",
    "actor_token",
    "refresh_token",
];

/// Echoes the secrets of the request in an error.
async fn echo(body: String) -> (StatusCode, String) {
    let said: Vec<_> = form_urlencoded::parse(body.as_bytes())
        .filter(|(name, _)| SECRETS.contains(&&**name))
        .map(|(_, value)| value.into_owned())
        .collect();
    assert!(!said.is_empty());
    let all = said.join(" ");
    (
        StatusCode::BAD_REQUEST,
        json!({ "error": said[0], "error_description": all, "error_uri": all }).to_string(),
    )
}

#[tokio::test]
async fn a_server_that_echoes_secrets_gets_none_into_an_error() {
    let fixture = Fixture::new();
    let server = fixture.serve(Router::new().fallback(any(echo)));
    let signer = fixture.pki.client("signer", KeyKind::P256);
    let key = AssertionKey::from_der(&signer.key()).unwrap();
    let endpoint = AuthorizationServer::token_endpoint(server.origin());
    let subject = Fixed::new(AccessToken::new("SECRET-subject").unwrap());
    let actor = Fixed::new(AccessToken::new("SECRET-actor").unwrap());
    let settings = OAuth::builder(
        fixture.client(),
        endpoint,
        ClientAuthentication::private_key_jwt("agent", key),
    );
    #[cfg(unix)]
    let directory = crate::file::Dir::new("echoed");
    #[cfg(unix)]
    let seed = {
        let seed = directory.path("seed");
        crate::refresh::write_seed(&seed, "agent", &server.origin(), "SECRET-refresh");
        seed
    };
    for settings in [
        settings.clone(),
        settings.clone().exchange(subject.clone()).actor(actor),
        settings.clone().exchange(subject),
        #[cfg(unix)]
        settings.clone().refresh(seed),
    ] {
        let error = settings.build().unwrap().token().await.unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(
            !shown.contains("SECRET") && !shown.contains("eyJ"),
            "{shown}"
        );
        assert!(shown.contains("refused"), "{shown}");
    }
}

/// Echoes the beginning and the end of the subject's token in an error.
async fn echo_parts(body: String) -> (StatusCode, String) {
    let said = form_urlencoded::parse(body.as_bytes()).find(|(name, _)| name == "subject_token");
    let (_, token) = said.expect("an exchange");
    let said = format!(
        "no such token: {}... or ...{}",
        &token[..20],
        &token[token.len() - 20..]
    );
    let answer = json!({ "error": "invalid_request", "error_description": said });
    (StatusCode::BAD_REQUEST, answer.to_string())
}

#[tokio::test]
async fn a_server_that_echoes_parts_of_secrets_gets_none_into_an_error() {
    let fixture = Fixture::new();
    let server = fixture.serve(Router::new().fallback(any(echo_parts)));
    let endpoint = AuthorizationServer::token_endpoint(server.origin());
    let subject = AccessToken::new("mF_9.B5f-4.1JqM.SlAV32hkKG8xLOBeZQQYbYS6WxSbIA4").unwrap();
    let source = OAuth::builder(
        fixture.client(),
        endpoint,
        ClientAuthentication::tls("agent"),
    )
    .exchange(Fixed::new(subject))
    .build()
    .unwrap();
    let error = source.token().await.unwrap_err().to_string();
    assert!(error.contains("refused with invalid_request"), "{error}");
    assert!(
        !error.contains("mF_9") && !error.contains("bIA4"),
        "{error}"
    );
}

#[tokio::test]
async fn debug_and_logs_show_nothing_of_tokens_and_keys() {
    let log = Log::for_process();
    let fixture = Fixture::new();
    let client = fixture.client();
    let source = fixture.source(&client).build().unwrap();
    let token = source.token().await.unwrap();
    let fixed = Fixed::new(token.access_token().clone());
    let exchanges = Exchanges::new(fixture.source(&client)).unwrap();
    let exchanging = exchanges.for_token(token.access_token()).unwrap();
    exchanging.token().await.unwrap();
    fixture.clock.advance(601);
    fixture.authority.set_fault(InjectedFault::Garbage);
    let error = source.token().await.unwrap_err();
    let shown =
        format!("{token:?} {source:?} {fixed:?} {exchanges:?} {exchanging:?} {error:?} {client:?}");
    let logged = log.text();
    assert!(
        logged.contains("no token could be obtained"),
        "the log is captured: {logged}"
    );
    for text in [shown, logged] {
        for part in token.access_token().secret().split('.') {
            assert!(!text.contains(part), "{text}");
        }
        assert!(!text.contains("eyJ"), "{text}");
    }
}
