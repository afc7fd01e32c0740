//! Token endpoints that send wrong, endless or redirecting responses: each gives a precise, bounded
//! error.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Json, Router};
use bowline_proof::Thumbprint;
use bowline_testkit::authority::TokenRequest;
use bowline_token::{
    AuthorizationServer, ClientAuthentication, Error, ErrorKind, Fault, OAuth, OAuthErrorCode,
    RequiredBinding, TokenSource,
};
use bytes::Bytes;
use http::{StatusCode, header};
use serde_json::{Value, json};

use crate::fixture::Fixture;

/// No error is longer, whatever the server said.
const MAX_CHARACTERS: usize = 1000;

/// The result with a token endpoint that answers like this.
async fn answered<R>(fixture: &Fixture, answer: R) -> Result<bowline_token::Token, Error>
where
    R: IntoResponse + Clone + Send + Sync + 'static,
{
    ask(
        fixture,
        fixture.answering(answer),
        RequiredBinding::AsIssued,
    )
    .await
}

async fn ask(
    fixture: &Fixture,
    server: bowline_testkit::peers::CyclingServer,
    bound: RequiredBinding,
) -> Result<bowline_token::Token, Error> {
    let server = AuthorizationServer::token_endpoint(format!("{}/token", server.origin()));
    let source = OAuth::builder(fixture.client(), server, ClientAuthentication::tls("agent"))
        .bound(bound)
        .clock(fixture.clock.to_clock())
        .build()
        .unwrap();
    let result = source.token().await;
    if let Err(error) = &result {
        let shown = error.to_string();
        assert!(shown.len() <= MAX_CHARACTERS && shown.is_ascii(), "{shown}");
        assert!(!format!("{error:?}").contains("SECRET"), "{error:?}");
    }
    result
}

fn token(with: Value) -> Value {
    let mut token =
        json!({ "access_token": "SECRET-token", "token_type": "Bearer", "expires_in": 600 });
    for (name, value) in with.as_object().unwrap() {
        token[name] = value.clone();
    }
    token
}

#[tokio::test]
async fn a_member_of_the_wrong_form_is_named_and_the_token_is_not_shown() {
    let fixture = Fixture::new();
    answered(&fixture, Json(token(json!({})))).await.unwrap();
    answered(
        &fixture,
        Json(token(
            json!({ "expires_in": "600", "token_type": "bEARER" }),
        )),
    )
    .await
    .unwrap();
    let unknown = answered(&fixture, Json(token(json!({ "expires_in": null }))))
        .await
        .unwrap();
    assert_eq!(unknown.expires_at(), None);
    for (answer, reason) in [
        (token(json!({ "access_token": null })), "no access_token"),
        (token(json!({ "access_token": "" })), "cannot be sent"),
        (
            token(json!({ "access_token": "SECRET-tök\u{e9}n" })),
            "cannot be sent",
        ),
        (
            token(json!({ "access_token": "SECRET\r\nx: y" })),
            "cannot be sent",
        ),
        (
            token(json!({ "access_token": "SECRET".repeat(20_000) })),
            "cannot be sent",
        ),
        (token(json!({ "access_token": ["SECRET"] })), "wrong form"),
        (token(json!({ "token_type": null })), "no token_type"),
        (
            token(json!({ "token_type": "mac\r\n\u{7f}é" })),
            "token_type mac????",
        ),
        (token(json!({ "token_type": "N_A" })), "token_type N_A"),
        (token(json!({ "token_type": "DPoP" })), "no key was proved"),
        (token(json!({ "expires_in": 0 })), "expired already"),
        (token(json!({ "expires_in": -1 })), "whole number"),
        (token(json!({ "expires_in": 1.5 })), "whole number"),
        (token(json!({ "expires_in": "soon" })), "whole number"),
        (token(json!({ "expires_in": true })), "whole number"),
        (
            token(json!({ "expires_in": 31_708_800 })),
            "more than a year",
        ),
        (token(json!({ "expires_in": u64::MAX })), "more than a year"),
        (token(json!({ "scope": 7 })), "wrong form"),
        (json!({}), "no access_token"),
        (json!(["SECRET"]), "something else than a JSON object"),
    ] {
        let error = answered(&fixture, Json(answer.clone())).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.fault()),
            (ErrorKind::Protocol, Fault::Peer),
            "{answer}: {error}"
        );
        assert!(error.to_string().contains(reason), "{answer}: {error}");
    }
    let twice = r#"{"access_token":"SECRET","access_token":"SECRET2","token_type":"Bearer"}"#;
    let error = answered(&fixture, twice).await.unwrap_err();
    assert!(error.to_string().contains("occurs twice"), "{error}");
}

#[tokio::test]
async fn a_response_without_json_an_endless_one_and_a_redirect_each_give_a_precise_error() {
    let fixture = Fixture::new();
    let html = (
        [(header::CONTENT_TYPE, "text/html\u{80}SECRE")],
        "<html>SECRET</html>",
    );
    let error = answered(&fixture, html).await.unwrap_err();
    assert!(error.to_string().contains("text/html"), "{error}");
    let error = answered(&fixture, r#"{"access_token":"SECRET", oops"#)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("malformed"), "{error}");
    let error = answered(&fixture, "a".repeat(1024 * 1024))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(
        error.to_string().contains("more than 262144 bytes"),
        "{error}"
    );
    for router in [any(padded), any(endless)] {
        let server = fixture.serve(Router::new().fallback(router));
        let error = ask(&fixture, server, RequiredBinding::AsIssued).await;
        let error = error.unwrap_err().to_string();
        assert!(error.contains("more than 262144 bytes"), "{error}");
    }

    for status in [301, 302, 307, 308] {
        let target = fixture.certificate_echo();
        let redirect = (
            StatusCode::from_u16(status).unwrap(),
            [(header::LOCATION, target.origin())],
            "",
        );
        let error = answered(&fixture, redirect).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol);
        assert!(
            error.to_string().contains("redirect") && error.to_string().contains("CL-6"),
            "{error}"
        );
        assert_eq!(target.counts().opened, 0);
    }
    for (status, kind) in [
        (204, ErrorKind::Protocol),
        (404, ErrorKind::Protocol),
        (500, ErrorKind::Unavailable),
        (429, ErrorKind::Unavailable),
    ] {
        let error = answered(&fixture, (StatusCode::from_u16(status).unwrap(), ""))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(&status.to_string()), "{error}");
    }
    // A token comes with status 200 and no other.
    let error = answered(&fixture, (StatusCode::CREATED, Json(token(json!({})))))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
}

/// A valid response after too many spaces, without a `Content-Length`.
async fn padded() -> Response {
    let parts = [" ".repeat(300 * 1024), token(json!({})).to_string()];
    let parts = parts.map(|part| Ok::<_, std::io::Error>(Bytes::from(part)));
    Body::from_stream(futures_util::stream::iter(parts)).into_response()
}

async fn endless() -> Response {
    let chunks = futures_util::stream::repeat_with(|| {
        Ok::<_, std::io::Error>(Bytes::from_static(&[b' '; 16 * 1024]))
    });
    Body::from_stream(chunks).into_response()
}

#[tokio::test]
async fn an_oauth_error_is_read_at_any_status_and_only_its_printable_parts_are_shown() {
    let fixture = Fixture::new();
    for status in [
        StatusCode::OK,
        StatusCode::BAD_REQUEST,
        StatusCode::UNAUTHORIZED,
        StatusCode::FORBIDDEN,
    ] {
        let description = "no\r\n such \u{1b}[31mscope é";
        let body = json!({ "error": "invalid_scope", "error_description": description });
        let error = answered(&fixture, (status, Json(body))).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.fault()),
            (
                ErrorKind::Refused(OAuthErrorCode::InvalidScope),
                Fault::Configuration
            )
        );
        assert!(
            error
                .to_string()
                .contains("invalid_scope (no?? such ?[31mscope ?)"),
            "{error}"
        );
    }
    let long = json!({ "error": "x".repeat(10_000), "error_description": "y".repeat(100_000) });
    let error = answered(&fixture, (StatusCode::BAD_REQUEST, Json(long)))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused(OAuthErrorCode::Other));
    let busy = (
        StatusCode::BAD_REQUEST,
        [(header::RETRY_AFTER, "7")],
        Json(json!({ "error": "temporarily_unavailable" })),
    );
    let error = answered(&fixture, busy).await.unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::Refused(OAuthErrorCode::TemporarilyUnavailable)
    );
    assert!(error.is_worth_another_try() && error.retry_after().unwrap().as_secs() == 7);
    // A token beside an error is no token.
    let both = token(json!({ "error": "invalid_client" }));
    let error = answered(&fixture, Json(both)).await.unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::Refused(OAuthErrorCode::InvalidClient)
    );
}

#[tokio::test]
async fn an_unusable_token_is_not_handed_out() {
    let fixture = Fixture::new();
    let issue =
        |request: TokenRequest| json!({ "access_token": fixture.authority.issue(&request) });
    let own = fixture.agent.thumbprint();
    let other = Thumbprint::from_certificate(fixture.pki.ca_der());
    for (request, bound, reason) in [
        (
            TokenRequest::session_bound("agent", other),
            RequiredBinding::AsIssued,
            "another certificate",
        ),
        (
            TokenRequest::certificate_bound("agent", other),
            RequiredBinding::AsIssued,
            "another certificate",
        ),
        (
            TokenRequest::bearer("agent").cnf(json!("SECRET")),
            RequiredBinding::AsIssued,
            "malformed",
        ),
        (
            TokenRequest::bearer("agent").cnf(json!({ "tls_exp": "other" })),
            RequiredBinding::AsIssued,
            "label",
        ),
        (
            TokenRequest::bearer("agent"),
            RequiredBinding::Session,
            "TK-3",
        ),
        (
            TokenRequest::certificate_bound("agent", own),
            RequiredBinding::Session,
            "TK-3",
        ),
    ] {
        let answering = fixture.answering(Json(token(issue(request))));
        let error = ask(&fixture, answering, bound).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.fault()),
            (ErrorKind::Binding, Fault::Peer),
            "{error}"
        );
        assert!(error.to_string().contains(reason), "{reason}: {error}");
    }
    let expired = token(issue(TokenRequest::session_bound("agent", own).expired()));
    let mut dateless = expired.clone();
    dateless["expires_in"] = Value::Null;
    let error = answered(&fixture, Json(dateless)).await.unwrap_err();
    assert!(error.to_string().contains("compare the clocks"), "{error}");
    // With `expires_in` no clock but our own matters.
    answered(&fixture, Json(expired)).await.unwrap();
}

#[tokio::test]
async fn a_plaintext_endpoint_is_refused_before_anything_is_sent() {
    let fixture = Fixture::new();
    for (url, kind, reason) in [
        ("http://as.example/token", ErrorKind::Metadata, "plaintext"),
        // On loopback the client decides, and it was not told to.
        (
            "http://127.0.0.1:1/token",
            ErrorKind::Configuration,
            "plaintext",
        ),
        ("as.example", ErrorKind::Metadata, "absolute"),
        ("https://as.example/#x", ErrorKind::Metadata, "fragment"),
    ] {
        let server = AuthorizationServer::token_endpoint(url);
        let source = OAuth::builder(fixture.client(), server, ClientAuthentication::tls("agent"))
            .build()
            .unwrap();
        let error = source.token().await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    }
}

#[tokio::test]
async fn an_exchange_must_return_an_access_token_with_its_issued_token_type() {
    let fixture = Fixture::new();
    let subject =
        bowline_token::Fixed::new(bowline_http_client::AccessToken::new("SECRET-subject").unwrap());
    let exchanged = async |issued_token_type: Value| {
        let answering = fixture.answering(Json(token(
            json!({ "issued_token_type": issued_token_type }),
        )));
        let server = AuthorizationServer::token_endpoint(answering.origin());
        let settings = OAuth::builder(fixture.client(), server, ClientAuthentication::tls("agent"));
        settings
            .exchange(subject.clone())
            .build()
            .unwrap()
            .token()
            .await
    };
    exchanged(json!("urn:ietf:params:oauth:token-type:access_token"))
        .await
        .unwrap();
    exchanged(json!("urn:ietf:params:oauth:token-type:jwt"))
        .await
        .unwrap();
    for (issued, reason) in [
        (Value::Null, "RFC 8693"),
        (json!("urn:x:saml"), "urn:x:saml"),
    ] {
        let error = exchanged(issued).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol);
        assert!(error.to_string().contains(reason), "{error}");
    }
}
