//! Answers too long, or of octets that make no sense.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Bytes;
use bowline_mcp::{Error, Kind, StreamableHttp};
use futures_util::StreamExt;
use rmcp::transport::streamable_http_client::{
    SseError, StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse, StreamableHttpResponseLimits,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::scripted::{DONE, ERROR, EVENTS, JSON, Posted, Scripted, chunks, ping, plaintext_client, respond, soon};

const LIMIT: usize = 1000;

async fn post_within_limit(server: &Scripted) -> Posted {
    let mut limits = StreamableHttpResponseLimits::default();
    limits.max_json_response_size = LIMIT;
    limits.max_sse_event_size = LIMIT;
    let posting =
        server
            .http
            .post_message_with_response_limits(server.uri.clone(), ping(), None, None, HashMap::new(), limits);
    soon(posting).await
}

/// `DONE` with this many octets.
fn padded(octets: usize) -> String {
    format!("{DONE:octets$}")
}

#[tokio::test]
async fn json_may_be_as_long_as_the_limit_and_no_longer() {
    for chunked in [false, true] {
        let server_with = |octets| {
            Scripted::start(move |_| {
                let body = Bytes::from(padded(octets));
                let body = if chunked { chunks([body], false) } else { body.into() };
                respond(200, &[JSON], body)
            })
        };
        let posted = post_within_limit(&server_with(LIMIT).await).await;
        assert!(matches!(posted, Ok(StreamableHttpPostResponse::Json(..))), "{posted:?}");
        let posted = post_within_limit(&server_with(LIMIT + 1).await).await;
        let is_refused = matches!(
            posted,
            Err(StreamableHttpError::ResponseBodyTooLarge { max_size: LIMIT })
        );
        assert!(is_refused, "{posted:?}");
    }
}

#[tokio::test]
async fn endless_json_is_cancelled_at_the_default_limit() {
    let megabyte = Bytes::from(vec![b' '; 1024 * 1024]);
    let server = Scripted::start(move |_| respond(200, &[JSON], chunks(vec![megabyte.clone(); 17], true))).await;
    let posted = server.post(ping()).await;
    let is_refused =
        matches!(posted, Err(StreamableHttpError::ResponseBodyTooLarge { max_size }) if max_size == 16 << 20);
    assert!(is_refused, "{posted:?}");
}

#[tokio::test]
async fn an_oversized_json_error_leaves_its_status() {
    let body = format!("{ERROR:0$}", LIMIT + 1);
    let server = Scripted::answering(503, &[JSON, ("retry-after", "7")], body.clone()).await;
    match post_within_limit(&server).await {
        Err(StreamableHttpError::HttpStatus(e)) => assert_eq!((e.status, e.retry_after.as_deref()), (503, Some("7"))),
        other => panic!("{other:?}"),
    }
    let server = Scripted::answering(400, &[JSON], body).await;
    let posted = post_within_limit(&server).await;
    assert!(
        matches!(posted, Err(StreamableHttpError::ResponseBodyTooLarge { .. })),
        "{posted:?}"
    );
}

#[tokio::test]
async fn json_that_is_not_utf8_is_no_message() {
    let server = Scripted::answering(
        200,
        &[JSON],
        &b"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"a\":\"\xff\"}}"[..],
    )
    .await;
    let posted = server.post(ping()).await;
    assert!(
        matches!(posted, Err(StreamableHttpError::UnexpectedServerResponse(_))),
        "{posted:?}"
    );
}

/// A server that sends these octets on every connection and closes it.
async fn cut_short(octets: &'static str) -> Arc<str> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}/mcp", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = connection.read(&mut request).await;
            let _ = connection.write_all(octets.as_bytes()).await;
            let _ = connection.shutdown().await;
            // Unread octets would turn the end into a reset.
            while connection.read(&mut request).await.is_ok_and(|read| read > 0) {}
        }
    });
    uri.into()
}

#[tokio::test]
async fn a_body_cut_short_is_the_client_s_error() {
    let uri = cut_short("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{").await;
    let http = StreamableHttp::new(plaintext_client());
    match soon(http.post_message(uri, ping(), None, None, HashMap::new())).await {
        Err(StreamableHttpError::Client(e)) => {
            assert_eq!(e.kind(), Kind::Client(bowline_client::Kind::Protocol));
            assert!(e.may_have_been_processed());
        }
        other => panic!("{other:?}"),
    }
}

/// What ends a stream of these octets after `good` events.
async fn end_of(octets: impl Into<Bytes>, good: usize) -> SseError {
    let octets = octets.into();
    let server = Scripted::start(move |_| respond(200, &[EVENTS], chunks([octets.clone()], true))).await;
    let StreamableHttpPostResponse::Sse(mut events, _) = post_within_limit(&server).await.unwrap() else {
        panic!("no event stream")
    };
    for _ in 0..good {
        soon(events.next()).await.unwrap().unwrap();
    }
    let error = soon(events.next()).await.unwrap().unwrap_err();
    assert!(soon(events.next()).await.is_none(), "nothing comes after an error");
    error
}

#[tokio::test]
async fn an_oversized_or_endless_event_ends_its_stream_with_a_precise_error() {
    for octets in [
        format!("data: {}\n\n", "x".repeat(LIMIT)),
        "x".repeat(LIMIT + 1),
        "data: x\n".repeat(LIMIT),
        format!(":{}", "x".repeat(LIMIT)),
    ] {
        let SseError::Body(e) = end_of(octets, 0).await else {
            panic!("not an error of the body")
        };
        let e = e.downcast_ref::<Error>().expect("our own error");
        assert_eq!(e.kind(), Kind::EventTooLong);
        assert!(e.to_string().contains("more than 1000 octets"), "{e}");
    }
}

#[tokio::test]
async fn octets_that_are_no_events_end_their_stream() {
    assert!(matches!(
        end_of(&b"data: \xff\n\n"[..], 0).await,
        SseError::Utf8Parse(_)
    ));
    assert!(matches!(end_of("<html>\n", 0).await, SseError::InvalidLine));
    assert!(matches!(end_of("retry: soon\n\n", 0).await, SseError::IntParse(_)));
}

#[tokio::test]
async fn a_get_takes_nothing_but_an_event_stream() {
    for (headers, expected) in [(vec![JSON], Some("application/json")), (vec![], None)] {
        let server = Scripted::answering(200, &headers, DONE).await;
        match server.get(None, None).await.map(drop) {
            Err(StreamableHttpError::UnexpectedContentType(found)) => assert_eq!(found.as_deref(), expected),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_stream_that_cannot_be_read_is_given_up_at_the_third_attempt() {
    let body = || chunks(["id: 7\ndata: 1\n\n", "nonsense\n\n"], false);
    let server = Scripted::start(move |_| respond(200, &[EVENTS], body())).await;
    for attempt in 1..=3 {
        let mut events = server.get(Some("session"), Some("7")).await.unwrap();
        soon(events.next()).await.unwrap().unwrap();
        assert!(soon(events.next()).await.unwrap().is_err(), "attempt {attempt}");
    }
    let given_up = server.get(Some("session"), Some("7")).await.map(drop);
    assert!(
        matches!(given_up, Err(StreamableHttpError::ServerDoesNotSupportSse)),
        "{given_up:?}"
    );
    assert_eq!(server.seen().len(), 3);
    // Another event, another session: another stream.
    assert!(server.get(Some("session"), Some("8")).await.is_ok());
    assert!(server.get(Some("another"), Some("7")).await.is_ok());
}

#[tokio::test]
async fn a_stream_that_breaks_may_be_resumed_as_often_as_it_takes() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 1000\r\n\r\nid: 7\ndata: 1\n\n";
    let uri = cut_short(head).await;
    let http = StreamableHttp::new(plaintext_client());
    for _ in 0..5 {
        let (session, event) = (Some("session".into()), Some("7".into()));
        let getting = http.get_stream(uri.clone(), session, event, None, HashMap::new());
        let mut events = soon(getting).await.unwrap();
        soon(events.next()).await.unwrap().unwrap();
        assert!(matches!(soon(events.next()).await, Some(Err(SseError::Body(_)))));
    }
}
