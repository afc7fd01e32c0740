//! How error statuses are read.

use bowline_mcp::ErrorKind;
use http::StatusCode;
use rmcp::model::{RequestId, ServerJsonRpcMessage};
use rmcp::transport::streamable_http_client::{HttpStatusError, StreamableHttpError};
use serde_json::json;

use crate::scripted::{
    ERROR, Failure, JSON, Scripted, TEXT, chunks, json as message_of, own, ping, request, respond,
};

/// Statuses of responses to a POST, with a challenge or without, and whether the server may have
/// acted on the message (CL-7).
pub(crate) const STATUSES: &[(u16, Option<&str>, bool)] = &[
    (400, None, true),
    (401, None, true),
    (401, Some(r#"Bearer realm="a""#), true),
    (401, Some(r#"Bearer error="invalid_token""#), false),
    (401, Some(r#"bearer ERROR="invalid_token""#), false),
    (401, Some(r#"DPoP error="invalid_token""#), false),
    (401, Some(r#"Bearer error="use_session_binding""#), false),
    (401, Some(r#"Bearer error="invalid_proof""#), false),
    (401, Some(r#"DPoP error="use_dpop_nonce""#), false),
    (401, Some(r#"Bearer error="insufficient_scope""#), true),
    (401, Some(r#"Basic error="invalid_token""#), true),
    (403, None, false),
    (404, None, false),
    (405, None, false),
    (408, None, true),
    (409, None, true),
    (413, None, false),
    (421, None, false),
    (425, None, false),
    (429, None, false),
    (302, None, true),
    (303, None, true),
    (307, None, false),
    (308, None, false),
    (500, None, true),
    (502, None, true),
    (503, None, true),
    (504, None, true),
];

#[tokio::test]
async fn an_error_status_to_a_post_may_come_after_the_server_acted() {
    for (status, challenge, may_have_been_processed) in STATUSES {
        let mut headers = vec![TEXT];
        headers.extend(challenge.map(|challenge| ("www-authenticate", challenge)));
        let server = Scripted::answering(*status, &headers, "no").await;
        for session in [None, Some("session")] {
            let error = server.post_in(session, ping()).await.unwrap_err();
            assert_eq!(
                bowline_mcp::may_have_been_processed(&error),
                *may_have_been_processed,
                "{status} {challenge:?} {session:?}: {error}"
            );
        }
    }
}

fn status_of<T: std::fmt::Debug>(result: Result<T, Failure>) -> HttpStatusError {
    match result {
        Err(StreamableHttpError::HttpStatus(error)) => error,
        other => panic!("expected a status, got {other:?}"),
    }
}

fn text_of<T: std::fmt::Debug>(result: Result<T, Failure>) -> String {
    match result {
        Err(StreamableHttpError::UnexpectedServerResponse(text)) => text.into_owned(),
        other => panic!("expected an unexpected response, got {other:?}"),
    }
}

#[tokio::test]
async fn not_found_means_that_the_session_is_gone_only_where_there_was_one() {
    let server = Scripted::answering(404, &[TEXT], "no such page").await;
    assert!(matches!(
        server.post_in(Some("session"), ping()).await,
        Err(StreamableHttpError::SessionExpired)
    ));
    assert!(matches!(
        server.get(Some("session"), None).await,
        Err(StreamableHttpError::SessionExpired)
    ));
    assert!(matches!(
        server.delete().await,
        Err(StreamableHttpError::SessionExpired)
    ));
    assert_eq!(
        text_of(server.post(ping()).await),
        "HTTP 404 Not Found: no such page"
    );
    assert_eq!(
        own(server.get(None, None).await).kind(),
        ErrorKind::Status(StatusCode::NOT_FOUND)
    );
}

#[tokio::test]
async fn unauthorized_with_a_challenge_asks_for_authorization() {
    let challenge = r#"Bearer resource_metadata="https://mcp.example.com/.well-known/oauth-protected-resource""#;
    // The body does not matter.
    let server = Scripted::answering(401, &[JSON, ("www-authenticate", challenge)], ERROR).await;
    match server.post(ping()).await {
        Err(StreamableHttpError::AuthRequired(e)) => {
            assert_eq!(e.www_authenticate_header, challenge)
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(
        server.get(None, None).await,
        Err(StreamableHttpError::AuthRequired(_))
    ));
    assert!(matches!(
        server.delete().await,
        Err(StreamableHttpError::AuthRequired(_))
    ));
}

#[tokio::test]
async fn unauthorized_without_a_challenge_keeps_its_status() {
    for (status, shown) in [
        (401, "HTTP 401 Unauthorized: "),
        (403, "HTTP 403 Forbidden: "),
    ] {
        // Not even a JSON-RPC error hides it.
        let server = Scripted::answering(status, &[JSON], ERROR).await;
        assert_eq!(
            text_of(server.post(ping()).await),
            format!("{shown}{ERROR}")
        );
        let status = StatusCode::from_u16(status).unwrap();
        assert_eq!(
            own(server.get(None, None).await).kind(),
            ErrorKind::Status(status)
        );
        assert_eq!(own(server.delete().await).kind(), ErrorKind::Status(status));
    }
}

#[tokio::test]
async fn forbidden_with_a_challenge_names_the_missing_scope() {
    for (challenge, scope) in [
        (
            r#"Bearer error="insufficient_scope", scope="files:read files:write""#,
            Some("files:read files:write"),
        ),
        (
            "Bearer scope=files:read, error=insufficient_scope",
            Some("files:read"),
        ),
        (r#"Bearer error="insufficient_scope""#, None),
    ] {
        let server = Scripted::answering(403, &[("www-authenticate", challenge)], "").await;
        match server.post(ping()).await {
            Err(StreamableHttpError::InsufficientScope(e)) => {
                assert_eq!(e.get_required_scope(), scope);
                assert_eq!(e.www_authenticate_header, challenge);
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(
            server.get(None, None).await,
            Err(StreamableHttpError::InsufficientScope(_))
        ));
    }
}

#[tokio::test]
async fn too_many_requests_and_server_failures_say_when_to_try_again() {
    let long = "9".repeat(129);
    for (status, content_type, retry_after, expected) in [
        (429, TEXT, "7", Some("7")),
        // Not even a JSON-RPC error hides a rate limit.
        (429, JSON, "7", Some("7")),
        (
            503,
            TEXT,
            "Fri, 31 Dec 2027 23:59:59 GMT",
            Some("Fri, 31 Dec 2027 23:59:59 GMT"),
        ),
        (500, TEXT, &long, None),
    ] {
        let server =
            Scripted::answering(status, &[content_type, ("retry-after", retry_after)], ERROR).await;
        let session = Some("session");
        let outcomes = [
            status_of(server.post_in(session, ping()).await),
            status_of(server.get(session, None).await.map(drop)),
            status_of(server.delete().await),
        ];
        for error in outcomes {
            assert_eq!(
                (error.status, error.retry_after.as_deref()),
                (status, expected)
            );
        }
    }
}

#[tokio::test]
async fn a_json_rpc_error_is_a_reply_with_any_status() {
    for status in [400, 404, 422, 500, 503] {
        let server =
            Scripted::answering(status, &[JSON, ("mcp-session-id", "session-1")], ERROR).await;
        let (message, session) = message_of(server.post(ping()).await);
        let ServerJsonRpcMessage::Error(error) = message else {
            panic!("{message:?}")
        };
        assert_eq!(error.error.message, "no such tool");
        assert_eq!(session.as_deref(), Some("session-1"));
    }
}

#[tokio::test]
async fn json_that_is_not_a_json_rpc_error_is_an_error_status() {
    for body in ["{}", r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, "not json"] {
        let server = Scripted::answering(500, &[JSON], body).await;
        assert_eq!(status_of(server.post(ping()).await).status, 500);
        let server = Scripted::answering(400, &[JSON], body).await;
        assert_eq!(
            text_of(server.post(ping()).await),
            format!("HTTP 400 Bad Request: {body}")
        );
    }
}

#[tokio::test]
async fn a_405_means_that_the_server_has_no_event_stream_or_no_session_end() {
    let server = Scripted::answering(405, &[TEXT], "no").await;
    assert!(matches!(
        server.get(Some("session"), None).await,
        Err(StreamableHttpError::ServerDoesNotSupportSse)
    ));
    server.delete().await.unwrap();
    assert_eq!(
        text_of(server.post(ping()).await),
        "HTTP 405 Method Not Allowed: no"
    );
}

#[tokio::test]
async fn an_older_server_s_refusal_of_discover_is_an_answer_to_it() {
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": { "name": "test", "version": "1" },
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let discover = || request("server/discover", json!({ "_meta": meta }));
    let unrelated = ERROR.replace("\"id\":1", "\"id\":\"server-error\"");
    for (status, content_type, body, shown) in [
        (400, JSON, unrelated, "no such tool"),
        (404, TEXT, "what?".to_owned(), "HTTP 404 Not Found: what?"),
        (
            405,
            JSON,
            "{}".to_owned(),
            "HTTP 405 Method Not Allowed: {}",
        ),
    ] {
        let server = Scripted::answering(status, &[content_type], body).await;
        let (message, _) = message_of(server.post(discover()).await);
        let ServerJsonRpcMessage::Error(error) = message else {
            panic!("{message:?}")
        };
        assert_eq!(
            error.id,
            Some(RequestId::Number(1)),
            "as asked, whatever the server says"
        );
        assert!(
            error.error.message.contains(shown),
            "{}",
            error.error.message
        );
    }
    for status in [401, 403] {
        let server = Scripted::answering(status, &[TEXT], "no").await;
        assert!(text_of(server.post(discover()).await).contains(&status.to_string()));
    }
    let server = Scripted::answering(500, &[TEXT], "no").await;
    assert_eq!(status_of(server.post(discover()).await).status, 500);
    let server = Scripted::answering(400, &[TEXT], "no").await;
    assert_eq!(
        text_of(server.post_in(Some("session"), discover()).await),
        "HTTP 400 Bad Request: no"
    );
}

#[tokio::test]
async fn the_text_of_a_refusal_is_shown_up_to_a_limit_and_not_waited_for() {
    let server = Scripted::answering(400, &[TEXT], "words ".repeat(200_000)).await;
    assert_eq!(
        text_of(server.post(ping()).await),
        format!("HTTP 400 Bad Request: {}wo…", "words ".repeat(33))
    );
    let server = Scripted::start(|_| respond(400, &[TEXT], chunks(["the beginning"], true))).await;
    assert_eq!(
        text_of(server.post(ping()).await),
        "HTTP 400 Bad Request: the beginning"
    );
}
