//! How successful responses are read.

use futures_util::StreamExt;
use rmcp::model::ServerJsonRpcMessage;
use rmcp::transport::streamable_http_client::{StreamableHttpError, StreamableHttpPostResponse};

use crate::scripted::{
    DONE, ERROR, EVENTS, JSON, Scripted, TEXT, chunks, initialized, json, ping, respond, soon,
};

#[tokio::test]
async fn accepted_and_no_content_are_accepted() {
    for status in [202, 204] {
        let server = Scripted::answering(status, &[], "").await;
        for message in [initialized(), ping()] {
            let posted = server.post(message).await;
            assert!(
                matches!(posted, Ok(StreamableHttpPostResponse::Accepted)),
                "{posted:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_json_reply_comes_with_the_session_it_opens() {
    let headers = [
        ("content-type", "Application/JSON; charset=utf-8"),
        ("mcp-session-id", "session-1"),
    ];
    let server = Scripted::answering(200, &headers, DONE).await;
    let (message, session) = json(server.post(ping()).await);
    assert!(matches!(message, ServerJsonRpcMessage::Response(_)));
    assert_eq!(session.as_deref(), Some("session-1"));
}

#[tokio::test]
async fn an_event_stream_comes_with_its_session_event_by_event() {
    let body = format!(": hello\n\nid: 7\nretry: 20\ndata:\n\nevent: message\ndata: {DONE}\n\n");
    let server = Scripted::answering(200, &[EVENTS, ("mcp-session-id", "session-1")], body).await;
    let posted = server.post(ping()).await.unwrap();
    let StreamableHttpPostResponse::Sse(events, session) = posted else {
        panic!("{posted:?}")
    };
    let events: Vec<_> = soon(events.collect::<Vec<_>>())
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert_eq!(session.as_deref(), Some("session-1"));
    assert_eq!(events.len(), 2);
    assert_eq!(
        (events[0].id.as_deref(), events[0].retry),
        (Some("7"), Some(20))
    );
    assert_eq!(events[1].data.as_deref(), Some(DONE));
}

#[tokio::test]
async fn a_get_yields_events_as_they_come() {
    let server =
        Scripted::start(|_| respond(200, &[EVENTS], chunks(["data: 1\n\n", "data: 2\n\n"], true)))
            .await;
    let mut events = server.get(Some("session"), None).await.unwrap();
    for expected in ["1", "2"] {
        let event = soon(events.next()).await.unwrap().unwrap();
        assert_eq!(event.data.as_deref(), Some(expected));
    }
}

#[tokio::test]
async fn a_notification_accepts_any_success() {
    for (content_type, body) in [
        (TEXT, "fine"),
        (JSON, "{}"),
        (JSON, "not json"),
        (JSON, DONE),
        (EVENTS, ""),
    ] {
        let server = Scripted::answering(200, &[content_type], body).await;
        let posted = server.post(initialized()).await;
        let is_content = matches!(posted, Ok(StreamableHttpPostResponse::Accepted))
            || (body == DONE && matches!(posted, Ok(StreamableHttpPostResponse::Json(..))));
        assert!(is_content, "{content_type:?} {body:?}: {posted:?}");
    }
}

#[tokio::test]
async fn a_request_needs_a_readable_reply() {
    for (headers, expected) in [(vec![TEXT], Some("text/plain")), (vec![], None)] {
        let server = Scripted::answering(200, &headers, "fine").await;
        match server.post(ping()).await {
            Err(StreamableHttpError::UnexpectedContentType(found)) => {
                assert_eq!(found.as_deref(), expected)
            }
            other => panic!("{other:?}"),
        }
    }
    for (body, shown) in [
        ("", "<empty>"),
        ("{\"a\":1}", "{\"a\":1}"),
        ("<html>", "<html>"),
    ] {
        let server = Scripted::answering(200, &[JSON], body).await;
        match server.post(ping()).await {
            Err(StreamableHttpError::UnexpectedServerResponse(message)) => {
                assert!(
                    message.contains("no JSON-RPC message") && message.ends_with(shown),
                    "{message}"
                );
            }
            other => panic!("{body:?}: {other:?}"),
        }
    }
}

/// RFC 8259 §8.1 lets a reader ignore it; some servers write one.
#[tokio::test]
async fn a_byte_order_mark_before_json_is_ignored() {
    for (status, body) in [(200, DONE), (400, ERROR)] {
        let server = Scripted::answering(status, &[JSON], format!("\u{feff}{body}")).await;
        let (message, _) = json(server.post(ping()).await);
        assert_eq!(serde_json::to_string(&message).unwrap().len(), body.len());
    }
}
