//! Responses that are too long, or invalid.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::Response;
use bowline_mcp::{Error, ErrorKind, StreamableHttp};
use futures_util::StreamExt;
use rmcp::ServiceExt;
use rmcp::model::{CallToolRequestParams, ClientRequest};
use rmcp::transport::streamable_http_client::{
    SseError, StreamableHttpClient, StreamableHttpClientTransportConfig, StreamableHttpError,
    StreamableHttpPostResponse, StreamableHttpResponseLimits,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::scripted::{
    DONE, ERROR, EVENTS, JSON, Posted, Scripted, Seen, chunks, ping, plaintext_client, respond,
    soon,
};

const LIMIT: usize = 1000;

async fn post_within_limit(server: &Scripted) -> Posted {
    let mut limits = StreamableHttpResponseLimits::default();
    limits.max_json_response_size = LIMIT;
    limits.max_sse_event_size = LIMIT;
    let posting = server.http.post_message_with_response_limits(
        server.uri.clone(),
        ping(),
        None,
        None,
        HashMap::new(),
        limits,
    );
    soon(posting).await
}

fn assert_too_large(posted: Posted, limit: usize) {
    match posted {
        Err(StreamableHttpError::ResponseBodyTooLarge { max_size }) => assert_eq!(max_size, limit),
        other => panic!("{other:?}"),
    }
}

/// `DONE` with this many bytes.
fn padded(bytes: usize) -> String {
    format!("{DONE:bytes$}")
}

#[tokio::test]
async fn json_may_be_as_long_as_the_limit_and_no_longer() {
    for chunked in [false, true] {
        let server_with = |bytes| {
            Scripted::start(move |_| {
                let body = Bytes::from(padded(bytes));
                let body = if chunked {
                    chunks([body], false)
                } else {
                    body.into()
                };
                respond(200, &[JSON], body)
            })
        };
        let posted = post_within_limit(&server_with(LIMIT).await).await;
        assert!(
            matches!(posted, Ok(StreamableHttpPostResponse::Json(..))),
            "{posted:?}"
        );
        let posted = post_within_limit(&server_with(LIMIT + 1).await).await;
        assert_too_large(posted, LIMIT);
    }
}

#[tokio::test]
async fn endless_json_is_cancelled_at_the_default_limit() {
    let megabyte = Bytes::from(vec![b' '; 1024 * 1024]);
    let server =
        Scripted::start(move |_| respond(200, &[JSON], chunks(vec![megabyte.clone(); 17], true)))
            .await;
    assert_too_large(server.post(ping()).await, 16 << 20);
}

#[tokio::test]
async fn json_with_too_large_a_content_length_is_not_read() {
    let headers = [JSON, ("content-length", "20000000")];
    let server = Scripted::start(move |_| respond(200, &headers, chunks(["{"], true))).await;
    assert_too_large(server.post(ping()).await, 16 << 20);
}

#[tokio::test]
async fn an_oversized_json_error_keeps_its_status() {
    let body = format!("{ERROR:0$}", LIMIT + 1);
    let server = Scripted::answering(503, &[JSON, ("retry-after", "7")], body.clone()).await;
    match post_within_limit(&server).await {
        Err(StreamableHttpError::HttpStatus(e)) => {
            assert_eq!((e.status, e.retry_after.as_deref()), (503, Some("7")))
        }
        other => panic!("{other:?}"),
    }
    let server = Scripted::answering(400, &[JSON], body).await;
    assert_too_large(post_within_limit(&server).await, LIMIT);
}

#[tokio::test]
async fn json_that_is_not_utf8_is_an_unexpected_response() {
    let server = Scripted::answering(
        200,
        &[JSON],
        &b"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"a\":\"\xff\"}}"[..],
    )
    .await;
    let posted = server.post(ping()).await;
    assert!(
        matches!(
            posted,
            Err(StreamableHttpError::UnexpectedServerResponse(_))
        ),
        "{posted:?}"
    );
}

/// A server that sends these bytes on every connection and closes it.
async fn cut_short(bytes: &'static str) -> Arc<str> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}/mcp", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = connection.read(&mut request).await;
            let _ = connection.write_all(bytes.as_bytes()).await;
            let _ = connection.shutdown().await;
            // Unread bytes would turn the end into a reset.
            while connection
                .read(&mut request)
                .await
                .is_ok_and(|read| read > 0)
            {}
        }
    });
    uri.into()
}

#[tokio::test]
async fn a_body_cut_short_is_the_client_s_error() {
    let uri = cut_short(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{",
    )
    .await;
    let http = StreamableHttp::new(plaintext_client());
    match soon(http.post_message(uri, ping(), None, None, HashMap::new())).await {
        Err(StreamableHttpError::Client(e)) => {
            assert_eq!(
                e.kind(),
                ErrorKind::Client(bowline_http_client::ErrorKind::Protocol)
            );
            assert!(e.may_have_been_processed());
        }
        other => panic!("{other:?}"),
    }
}

/// The error that ends a stream of these bytes after `good` events.
async fn end_of(bytes: impl Into<Bytes>, good: usize) -> SseError {
    let bytes = bytes.into();
    let server =
        Scripted::start(move |_| respond(200, &[EVENTS], chunks([bytes.clone()], true))).await;
    let StreamableHttpPostResponse::Sse(mut events, _) = post_within_limit(&server).await.unwrap()
    else {
        panic!("no event stream")
    };
    for _ in 0..good {
        soon(events.next()).await.unwrap().unwrap();
    }
    let error = soon(events.next()).await.unwrap().unwrap_err();
    assert!(
        soon(events.next()).await.is_none(),
        "nothing comes after an error"
    );
    error
}

#[tokio::test]
async fn an_oversized_or_endless_event_ends_its_stream_with_a_precise_error() {
    for bytes in [
        format!("data: {}\n\n", "x".repeat(LIMIT)),
        "x".repeat(LIMIT + 1),
        "data: x\n".repeat(LIMIT),
        format!(":{}", "x".repeat(LIMIT)),
    ] {
        let SseError::Body(e) = end_of(bytes, 0).await else {
            panic!("not an error of the body")
        };
        let e = e.downcast_ref::<Error>().expect("our own error");
        assert_eq!(e.kind(), ErrorKind::EventTooLong);
        assert!(e.to_string().contains("more than 1000 bytes"), "{e}");
    }
}

#[tokio::test]
async fn lines_that_the_standard_ignores_do_not_end_a_call() {
    for line in [
        "retry: 1.5s",
        "x-request-id: 7",
        "padding",
        "event: a\nevent: b",
        "<html>",
    ] {
        let stream = format!("{line}\ndata: {DONE}\n\n");
        let server = Scripted::answering(200, &[EVENTS], stream).await;
        let posted = server.post(ping()).await.unwrap();
        let StreamableHttpPostResponse::Sse(mut events, _) = posted else {
            panic!("not an event stream: {line}")
        };
        let event = soon(events.next()).await.unwrap().unwrap();
        assert_eq!(event.data.as_deref(), Some(DONE), "{line}");
    }
}

#[tokio::test]
async fn an_event_id_that_could_not_be_sent_back_ends_its_stream() {
    for id in ["a\u{1}b".to_owned(), "\u{7f}".to_owned()] {
        match end_of(format!("id: 1\ndata: 1\n\nid: {id}\ndata: 2\n\n"), 1).await {
            SseError::Body(e) => assert_eq!(
                e.downcast_ref::<Error>().expect("our own").kind(),
                ErrorKind::InvalidId
            ),
            other => panic!("{id:?}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_call_whose_stream_has_such_an_event_id_fails() {
    let server = initialize_only(|seen, method| match (seen.method.as_str(), method) {
        ("GET", _) => respond(405, &[], ""),
        (_, "tools/call") => respond(200, &[EVENTS], "id: a\u{1}b\ndata:\n\n"),
        _ => respond(200, &[], ""),
    })
    .await;
    let agent = soon(().serve(server.http.clone().transport(server.uri.clone())))
        .await
        .unwrap();
    assert!(
        soon(agent.call_tool(CallToolRequestParams::new("any")))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_get_accepts_only_an_event_stream() {
    for (headers, expected) in [(vec![JSON], Some("application/json")), (vec![], None)] {
        let server = Scripted::answering(200, &headers, DONE).await;
        match server.get(None, None).await.map(drop) {
            Err(StreamableHttpError::UnexpectedContentType(found)) => {
                assert_eq!(found.as_deref(), expected)
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_stream_that_held_no_event_ten_times_is_not_resumed() {
    let server = Scripted::start(move |_| respond(200, &[EVENTS], "nonsense\n\n")).await;
    for attempt in 1..=10 {
        let mut events = server.get(Some("session"), Some("7")).await.unwrap();
        assert!(soon(events.next()).await.is_none(), "attempt {attempt}");
    }
    let given_up = server.get(Some("session"), Some("7")).await.map(drop);
    assert!(
        matches!(given_up, Err(StreamableHttpError::ServerDoesNotSupportSse)),
        "{given_up:?}"
    );
    assert_eq!(server.seen().len(), 10);
    // Another event or another session has another resume point.
    assert!(server.get(Some("session"), Some("8")).await.is_ok());
    assert!(server.get(Some("another"), Some("7")).await.is_ok());
}

#[tokio::test]
async fn a_stream_whose_connection_breaks_is_always_resumed() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 1000\r\n\r\nid: 7\ndata: 1\n\n";
    let uri = cut_short(head).await;
    let http = StreamableHttp::new(plaintext_client());
    for _ in 0..5 {
        let (session, event) = (Some("session".into()), Some("7".into()));
        let getting = http.get_stream(uri.clone(), session, event, None, HashMap::new());
        let mut events = soon(getting).await.unwrap();
        soon(events.next()).await.unwrap().unwrap();
        assert!(matches!(
            soon(events.next()).await,
            Some(Err(SseError::Body(_)))
        ));
    }
}

/// A server that handles `initialize`, `ping` and notifications; the rest is up to `script`.
async fn initialize_only(
    script: impl Fn(&Seen, &str) -> Response + Clone + Send + Sync + 'static,
) -> Scripted {
    Scripted::start(move |seen| {
        let message: Value = serde_json::from_slice(&seen.body).unwrap_or_default();
        match message["method"].as_str() {
            Some("initialize") => {
                let result = json!({
                    "protocolVersion": "2025-11-25",
                    "capabilities": { "tools": {} },
                    "serverInfo": { "name": "half", "version": "1" },
                });
                let reply = json!({ "jsonrpc": "2.0", "id": message["id"], "result": result });
                respond(
                    200,
                    &[JSON, ("mcp-session-id", "session")],
                    reply.to_string(),
                )
            }
            Some("ping") => {
                let reply = json!({ "jsonrpc": "2.0", "id": message["id"], "result": {} });
                respond(200, &[JSON], reply.to_string())
            }
            Some(method) if method.starts_with("notifications/") => respond(202, &[], ""),
            method => script(seen, method.unwrap_or_default()),
        }
    })
    .await
}

#[tokio::test]
async fn rmcp_does_not_fetch_an_unreadable_event_stream_for_ever() {
    let server = initialize_only(|seen, _| match seen.method.as_str() {
        "GET" => respond(200, &[EVENTS], "nonsense\n\n"),
        _ => respond(200, &[], ""),
    })
    .await;
    let agent = soon(().serve(server.http.clone().transport(server.uri.clone())))
        .await
        .unwrap();
    soon(async {
        while server.gets() < 10 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for _ in 0..50 {
        soon(agent.send_request(ClientRequest::PingRequest(Default::default())))
            .await
            .unwrap();
    }
    assert_eq!(server.gets(), 10);
}

#[tokio::test]
async fn a_call_whose_reply_cannot_be_read_fails_and_the_next_one_works() {
    for (junk, tries) in [
        ("nonsense\n\n".to_owned(), 10),
        (format!("data: {}\n\n", "x".repeat(LIMIT)), 0),
    ] {
        let server = initialize_only(move |seen, method| {
            match (seen.method.as_str(), seen.header("last-event-id")) {
                ("GET", None) => respond(405, &[], ""),
                ("GET", Some(_)) => respond(200, &[EVENTS], junk.clone()),
                _ if method == "tools/call" => respond(
                    200,
                    &[EVENTS],
                    chunks(["id: 7\ndata:\n\n".to_owned(), junk.clone()], false),
                ),
                _ => respond(200, &[], ""),
            }
        })
        .await;
        let config = StreamableHttpClientTransportConfig::with_uri(server.uri.clone())
            .max_sse_event_size(LIMIT);
        let agent = soon(().serve(server.http.clone().transport_with(config)))
            .await
            .unwrap();
        let failed = soon(agent.call_tool(CallToolRequestParams::new("any"))).await;
        assert!(failed.is_err(), "{failed:?}");
        soon(agent.send_request(ClientRequest::PingRequest(Default::default())))
            .await
            .unwrap();
        let resumes = |seen: &Seen| seen.header("last-event-id").is_some();
        assert_eq!(
            server.seen().iter().filter(|seen| resumes(seen)).count(),
            tries
        );
    }
}

/// A body of a byte a second, for ever.
fn trickling() -> Body {
    let seconds = tokio::time::interval(Duration::from_secs(1));
    Body::from_stream(futures_util::stream::unfold(seconds, |mut seconds| async {
        seconds.tick().await;
        Some((Ok::<_, Infallible>(Bytes::from(" ")), seconds))
    }))
}

/// The time until a call ends, and how it ends. The clock is the test's.
async fn ended<T>(call: impl Future<Output = T>) -> (Duration, T) {
    let mut call = std::pin::pin!(call);
    let started = Instant::now();
    let ended = loop {
        if let Poll::Ready(ended) = futures_util::poll!(&mut call) {
            break ended;
        }
        let time = started.elapsed();
        assert!(time < Duration::from_secs(300), "there is no limit");
        tokio::time::advance(Duration::from_secs(1)).await;
    };
    let time = started.elapsed();
    tokio::time::resume();
    (time, ended)
}

#[tokio::test]
async fn a_json_body_that_trickles_ends_by_a_limit_that_the_error_names() {
    for status in [200, 400, 503] {
        let server = Scripted::start(move |_| respond(status, &[JSON], trickling())).await;
        let mut posting = Box::pin(server.http.post_message(
            server.uri.clone(),
            ping(),
            None,
            None,
            HashMap::new(),
        ));
        while server.seen().is_empty() {
            assert!(futures_util::poll!(&mut posting).is_pending());
            tokio::task::yield_now().await;
        }
        tokio::time::pause();
        let (time, posted) = ended(posting).await;
        // Counted from the head, which may take a moment to be noticed.
        assert!((59..120).contains(&time.as_secs()), "{time:?}");
        match posted {
            // The status says more than its text would.
            Err(StreamableHttpError::HttpStatus(e)) => assert_eq!((e.status, status), (503, 503)),
            Err(StreamableHttpError::UnexpectedServerResponse(text)) => {
                assert_eq!(status, 400);
                assert!(text.contains("within 60s"), "{text}");
            }
            Err(StreamableHttpError::Client(e)) => {
                assert_eq!((e.kind(), status), (ErrorKind::Timeout, 200));
                assert!(e.to_string().contains("within 60s"), "{e}");
                assert!(e.may_have_been_processed());
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn an_event_stream_that_is_silent_lives() {
    let server = Scripted::start(|_| {
        let event = Bytes::from(format!("data: {DONE}\n\n"));
        let late = futures_util::stream::once(async move {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            Ok::<_, Infallible>(event)
        });
        respond(200, &[EVENTS], Body::from_stream(late))
    })
    .await;
    let Ok(StreamableHttpPostResponse::Sse(mut events, _)) = server.post(ping()).await else {
        panic!("no event stream")
    };
    tokio::time::pause();
    for _ in 0..3590 {
        assert!(futures_util::poll!(events.next()).is_pending());
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    tokio::time::advance(Duration::from_secs(20)).await;
    tokio::time::resume();
    assert!(soon(events.next()).await.unwrap().is_ok());
}
