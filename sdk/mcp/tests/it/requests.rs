//! The requests that are sent.

use std::collections::HashMap;

use bowline_http_client::{AccessToken, Operation};
use bowline_mcp::{ErrorKind, StreamableHttp, operation};
use http::{HeaderName, HeaderValue};
use rmcp::transport::streamable_http_client::{StreamableHttpClient, StreamableHttpError};
use serde_json::json;

use crate::scripted::{
    DONE, JSON, Posted, Scripted, initialized, message, own, ping, ping_over, plaintext_client,
    request, soon,
};

fn custom(headers: &[(&'static str, &'static str)]) -> HashMap<HeaderName, HeaderValue> {
    headers
        .iter()
        .map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        })
        .collect()
}

async fn post_with(
    server: &Scripted,
    token: Option<&str>,
    headers: &[(&'static str, &'static str)],
) -> Posted {
    let posting = server.http.post_message(
        server.uri.clone(),
        ping(),
        None,
        token.map(Into::into),
        custom(headers),
    );
    soon(posting).await
}

#[tokio::test]
async fn a_post_carries_what_mcp_asks_for() {
    let server = Scripted::answering(200, &[JSON], DONE).await;
    let posting = server.http.post_message(
        server.uri.clone(),
        ping(),
        Some("session-1".into()),
        Some("the-token".into()),
        custom(&[
            ("mcp-protocol-version", "2025-11-25"),
            ("mcp-method", "ping"),
            ("x-tenant", "7"),
        ]),
    );
    soon(posting).await.unwrap();
    let seen = &server.seen()[0];
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", "/mcp"));
    for (name, value) in [
        ("accept", "application/json, text/event-stream"),
        ("content-type", "application/json"),
        ("mcp-session-id", "session-1"),
        ("authorization", "Bearer the-token"),
        ("mcp-protocol-version", "2025-11-25"),
        ("mcp-method", "ping"),
        ("x-tenant", "7"),
    ] {
        assert_eq!(seen.header(name), Some(value), "{name}");
    }
    assert_eq!(
        serde_json::from_slice::<serde_json::Value>(&seen.body).unwrap(),
        serde_json::to_value(ping()).unwrap()
    );
}

#[tokio::test]
async fn a_get_names_the_last_event_even_if_its_id_is_not_ascii() {
    let server = Scripted::answering(405, &[], "").await;
    assert!(
        server
            .get(Some("session-1"), Some("größer-7"))
            .await
            .is_err()
    );
    let seen = &server.seen()[0];
    assert_eq!(seen.method, "GET");
    assert_eq!(seen.header("accept"), Some("text/event-stream"));
    assert_eq!(seen.header("mcp-session-id"), Some("session-1"));
    assert_eq!(
        seen.headers["last-event-id"].as_bytes(),
        "größer-7".as_bytes()
    );
    assert_eq!(seen.header("content-type"), None);
}

#[tokio::test]
async fn a_delete_names_the_session() {
    let server = Scripted::answering(200, &[], "").await;
    server.delete().await.unwrap();
    let seen = &server.seen()[0];
    assert_eq!(seen.method, "DELETE");
    assert_eq!(seen.header("mcp-session-id"), Some("session"));
}

#[tokio::test]
async fn the_transport_s_own_token_goes_with_every_request() {
    let server = Scripted::answering(202, &[], "").await;
    let http =
        StreamableHttp::new(plaintext_client()).token(AccessToken::new("own-token").unwrap());
    let uri = server.uri.clone();
    soon(http.post_message(uri.clone(), initialized(), None, None, HashMap::new()))
        .await
        .unwrap();
    assert!(
        soon(http.get_stream(uri.clone(), None, None, None, HashMap::new()))
            .await
            .is_err()
    );
    soon(http.delete_session(uri, "session".into(), None, HashMap::new()))
        .await
        .unwrap();
    let tokens: Vec<_> = server
        .seen()
        .iter()
        .map(|seen| seen.header("authorization").map(str::to_owned))
        .collect();
    assert_eq!(tokens, vec![Some("Bearer own-token".to_owned()); 3]);
}

#[tokio::test]
async fn two_tokens_are_an_error_and_nothing_is_sent() {
    let server = Scripted::answering(202, &[], "").await;
    let http =
        StreamableHttp::new(plaintext_client()).token(AccessToken::new("own-token").unwrap());
    let posted = ping_over(&http, &server.uri, Some("another")).await;
    assert_eq!(own(posted).kind(), ErrorKind::TwoTokens);
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn custom_headers_do_not_replace_the_transport_s_own() {
    let server = Scripted::answering(202, &[], "").await;
    for name in [
        "accept",
        "content-type",
        "content-length",
        "transfer-encoding",
        "mcp-session-id",
        "last-event-id",
        "session-binding-proof",
    ] {
        match post_with(&server, None, &[(name, "x")]).await {
            Err(StreamableHttpError::ReservedHeaderConflict(refused)) => assert_eq!(refused, name),
            other => panic!("{name}: {other:?}"),
        }
    }
    match post_with(&server, Some("the-token"), &[("authorization", "Bearer x")]).await {
        Err(StreamableHttpError::ReservedHeaderConflict(refused)) => {
            assert_eq!(refused, "authorization")
        }
        other => panic!("{other:?}"),
    }
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn a_custom_authorization_is_the_credential_where_there_is_no_other() {
    let server = Scripted::answering(200, &[JSON], DONE).await;
    post_with(&server, None, &[("authorization", "Basic dXNlcg==")])
        .await
        .unwrap();
    assert_eq!(
        server.seen()[0].header("authorization"),
        Some("Basic dXNlcg==")
    );
}

#[tokio::test]
async fn what_cannot_be_sent_is_a_precise_error_that_shows_no_token() {
    let server = Scripted::answering(202, &[], "").await;
    let error = own(post_with(&server, Some("Bearer s3cret"), &[]).await);
    assert_eq!(error.kind(), ErrorKind::InvalidToken);
    assert!(error.to_string().contains("without \"Bearer\""), "{error}");
    assert!(!format!("{error:?} {error}").contains("s3cret"));

    let error = own(server.post_in(Some("a\nb"), ping()).await);
    assert_eq!(error.kind(), ErrorKind::InvalidId);
    assert!(error.to_string().contains("session id"), "{error}");

    let error = own(server.get(None, Some("a\u{1}b")).await);
    assert_eq!(error.kind(), ErrorKind::InvalidId);
    assert!(error.to_string().contains("event id"), "{error}");

    let error = own(server.get(None, Some(&"7".repeat(8 * 1024 + 1))).await);
    assert_eq!(error.kind(), ErrorKind::InvalidId);

    let posting = server
        .http
        .post_message("not a uri".into(), ping(), None, None, HashMap::new());
    assert_eq!(own(soon(posting).await).kind(), ErrorKind::InvalidEndpoint);
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn an_error_of_the_http_client_arrives_with_its_kind_and_message() {
    let server = Scripted::answering(202, &[], "").await;
    let posting = server.http.post_message(
        "http://mcp.example.com/mcp".into(),
        ping(),
        None,
        None,
        HashMap::new(),
    );
    let error = own(soon(posting).await);
    assert_eq!(
        error.kind(),
        ErrorKind::Client(bowline_http_client::ErrorKind::PlaintextRefused)
    );
    assert_eq!(error.to_string(), error.client().unwrap().to_string());
    assert!(error.to_string().contains("use https"), "{error}");
    assert_eq!(error.fault(), bowline_http_client::Fault::Caller);
    assert!(!error.may_have_been_processed());
}

#[tokio::test]
async fn requests_are_counted_by_method_and_unknown_ones_together() {
    let server = Scripted::answering(202, &[], "").await;
    let answer = json!({ "jsonrpc": "2.0", "id": 7, "result": { "roots": [] } });
    for message in [
        ping(),
        request("tools/call", json!({ "name": "echo" })),
        request("tools/call", json!({ "name": "other" })),
        request("tools/list", json!({})),
        request("acme/secret-name", json!({})),
        request("acme/another", json!({})),
        initialized(),
        message(
            json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 1 } }),
        ),
        message(json!({ "jsonrpc": "2.0", "method": "acme/told" })),
        message(answer),
    ] {
        server.post(message).await.unwrap();
    }
    assert!(server.get(None, None).await.is_err());
    server.delete().await.unwrap();
    let counted: Vec<(Operation, u64)> = server
        .stats()
        .operations
        .iter()
        .map(|(o, row)| (*o, row.requests))
        .collect();
    let mut expected = vec![
        (operation::for_method("ping"), 1),
        (operation::for_method("tools/call"), 2),
        (operation::for_method("tools/list"), 1),
        (operation::for_method("notifications/initialized"), 1),
        (operation::for_method("notifications/cancelled"), 1),
        (operation::OTHER, 3),
        (operation::REPLY, 1),
        (operation::EVENT_STREAM, 1),
        (operation::SESSION_END, 1),
    ];
    expected.sort();
    assert_eq!(counted, expected);
    assert_eq!(operation::for_method("tools/call").name(), "tools/call");
    assert_eq!(
        operation::for_method("tools/call").protocol().label(),
        "mcp_http"
    );
}
