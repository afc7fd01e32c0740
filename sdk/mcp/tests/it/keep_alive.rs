//! Which connections are kept alive, and which are closed.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::routing::any;
use bowline_http_client::{Client, CloseReason, HttpVersions, Limits};
use bowline_mcp::StreamableHttp;
use bowline_testkit::peers::{CyclingOptions, CyclingServer};
use bowline_testkit::pki::{KeyKind, Pki};
use futures_util::{StreamExt, stream};
use rmcp::model::{CallToolRequest, CallToolRequestParams, ClientRequest, ProtocolVersion};
use rmcp::service::PeerRequestOptions;
use rmcp::transport::streamable_http_client::{StreamableHttpClient, StreamableHttpPostResponse};
use rmcp::{ClientLifecycleMode, ClientServiceExt};
use tokio::sync::{mpsc, oneshot};

use crate::fixture;
use crate::parity::fixture::default_response;
use crate::scripted::{
    DONE, EVENTS, JSON, Scripted, Seen, TEXT, chunks, initialized, ping, plaintext_client_with,
    respond, soon,
};

#[tokio::test]
async fn an_unneeded_response_leaves_its_connection_alive() {
    for (status, headers) in [
        (202, vec![]),
        (200, vec![TEXT]),
        (400, vec![TEXT]),
        (401, vec![("www-authenticate", "Bearer")]),
        (404, vec![TEXT]),
        (429, vec![TEXT]),
        (503, vec![TEXT]),
        (302, vec![("location", "/elsewhere")]),
    ] {
        let server = Scripted::start(move |_| {
            respond(
                status,
                &headers,
                chunks(["not ", "worth ", "reading"], false),
            )
        })
        .await;
        for message in [initialized(), ping(), initialized(), ping()] {
            let _ = server.post_in(Some("session"), message).await;
        }
        let _ = server.get(Some("session"), None).await;
        let _ = server.delete().await;
        assert_eq!(server.seen().len(), 6);
        assert_eq!(server.stats().connections_opened, 1, "HTTP {status}");
    }
}

#[tokio::test]
async fn an_endless_unneeded_response_is_not_waited_for() {
    let server = Scripted::start(|_| respond(202, &[], chunks(["and then"], true))).await;
    let posted = server.post(initialized()).await;
    assert!(
        matches!(posted, Ok(StreamableHttpPostResponse::Accepted)),
        "{posted:?}"
    );
}

#[tokio::test]
async fn a_json_reply_leaves_its_connection_alive() {
    let server = Scripted::start(|_| respond(200, &[JSON], chunks([DONE], false))).await;
    for _ in 0..10 {
        server.post(ping()).await.unwrap();
    }
    assert_eq!(server.stats().connections_opened, 1);
}

#[tokio::test]
async fn an_event_stream_read_to_its_end_leaves_its_connection_alive() {
    let body = format!("data: {DONE}\n\n");
    let server =
        Scripted::start(move |_| respond(200, &[EVENTS], chunks([body.clone()], false))).await;
    for _ in 0..10 {
        let StreamableHttpPostResponse::Sse(events, _) = server.post(ping()).await.unwrap() else {
            panic!()
        };
        assert_eq!(soon(events.count()).await, 1);
    }
    assert_eq!(server.stats().connections_opened, 1);
}

#[tokio::test]
async fn an_event_stream_left_after_its_response_leaves_its_connection_alive() {
    let body = format!("data: {DONE}\n\n");
    let server =
        Scripted::start(move |_| respond(200, &[EVENTS], chunks([body.clone()], false))).await;
    for _ in 0..10 {
        let StreamableHttpPostResponse::Sse(mut events, _) = server.post(ping()).await.unwrap()
        else {
            panic!()
        };
        assert_eq!(
            soon(events.next()).await.unwrap().unwrap().data.as_deref(),
            Some(DONE)
        );
    }
    assert_eq!(server.stats().connections_opened, 1);
}

const RESPONSE: &str = "data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n";
/// Not a response, though it holds `"result"`.
const PROGRESS: &str = "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{\"result\":1}}\n\n";

/// A server on HTTP/1.1 whose streams stay open after one event until the test ends them, and a
/// client that may have one connection at a time: the next request waits until the connection of
/// the last one is idle or closed.
struct HeldStreams {
    server: Scripted,
    http: StreamableHttp,
    client: Client,
    /// One for each stream.
    ends: Arc<Mutex<Vec<oneshot::Sender<()>>>>,
}

impl HeldStreams {
    async fn with(event: &'static str) -> Self {
        let ends: Arc<Mutex<Vec<oneshot::Sender<()>>>> = Arc::default();
        let of_server = ends.clone();
        let server = Scripted::start(move |_| {
            let (end, ended) = oneshot::channel();
            of_server.lock().unwrap().push(end);
            let rest = stream::once(ended).filter_map(|_| std::future::ready(None));
            let events = stream::iter([Ok::<_, Infallible>(event)]).chain(rest);
            respond(200, &[EVENTS], Body::from_stream(events))
        })
        .await;
        let mut limits = Limits::default();
        limits.per_origin = 1;
        let client = plaintext_client_with(|builder| builder.limits(limits));
        Self {
            server,
            http: StreamableHttp::new(client.clone()),
            client,
            ends,
        }
    }

    /// A call whose stream is dropped after its first event.
    async fn call(&self) {
        let posting =
            self.http
                .post_message(self.server.uri.clone(), ping(), None, None, HashMap::new());
        let StreamableHttpPostResponse::Sse(mut events, _) = posting.await.unwrap() else {
            panic!()
        };
        events.next().await.unwrap().unwrap();
    }

    /// Ends the last stream, if it is still open.
    fn end(&self) {
        let _ = self.ends.lock().unwrap().pop().unwrap().send(());
    }

    fn opened(&self) -> u64 {
        self.client.stats().connections_opened
    }
}

#[tokio::test]
async fn the_rest_of_a_stream_whose_response_has_come_is_read_in_the_background() {
    let held = HeldStreams::with(RESPONSE).await;
    for _ in 0..3 {
        soon(held.call()).await;
        held.end();
    }
    assert_eq!(held.opened(), 1);
}

#[tokio::test]
async fn a_stream_that_is_dropped_before_its_response_is_not_read_to_its_end() {
    let held = HeldStreams::with(PROGRESS).await;
    for sent in 1..=3 {
        soon(held.call()).await;
        held.end();
        assert_eq!(held.opened(), sent);
    }
}

#[tokio::test]
async fn a_server_that_never_ends_its_streams_is_waited_for_once() {
    let held = HeldStreams::with(RESPONSE).await;
    // With one connection at a time a call waits for the end of the one before it. If each waited
    // for a second, all together would exceed the limit of `soon`.
    let calls = async {
        for _ in 0..40 {
            held.call().await;
        }
    };
    soon(calls).await;
    assert_eq!(held.opened(), 40);
}

#[tokio::test]
async fn a_dropped_event_stream_is_cancelled_at_once() {
    let server = Scripted::start(|_| respond(200, &[EVENTS], chunks(["data: 1\n\n"], true))).await;
    let mut events = server.get(Some("session"), None).await.unwrap();
    soon(events.next()).await.unwrap().unwrap();
    assert_eq!(
        server
            .stats()
            .connections_closed
            .get(&CloseReason::Cancelled),
        None
    );
    drop(events);
    soon(async {
        while server
            .stats()
            .connections_closed
            .get(&CloseReason::Cancelled)
            != Some(&1)
        {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_server_learns_at_once_that_a_stream_was_dropped() {
    for http in [HttpVersions::Http2, HttpVersions::Http1] {
        let (dropped, mut drops) = mpsc::unbounded_channel();
        let router = Router::new().fallback(any(move || async move {
            let guard = NotifyOnDrop(dropped);
            let events = stream::iter(["data: 1\n\n"])
                .chain(stream::pending())
                .map(move |event| {
                    let _ = &guard;
                    Ok::<_, std::convert::Infallible>(event)
                });
            respond(200, &[EVENTS], Body::from_stream(events))
        }));
        let pki = Pki::new();
        let server = CyclingServer::start(&pki, CyclingOptions::default(), router);
        let client = fixture::client(&pki, &pki.client("agent", KeyKind::P256), http);
        let uri = format!("{}/mcp", server.origin());
        let streamable = StreamableHttp::new(client);

        let posting =
            streamable.post_message(uri.clone().into(), ping(), None, None, HashMap::new());
        let StreamableHttpPostResponse::Sse(mut events, _) = soon(posting).await.unwrap() else {
            panic!()
        };
        soon(events.next()).await.unwrap().unwrap();
        assert!(drops.try_recv().is_err());
        drop(events);
        soon(drops.recv()).await.unwrap();
    }
}

#[tokio::test]
async fn a_cancelled_call_of_2026_07_28_reaches_the_server_as_the_end_of_its_stream() {
    for http in [HttpVersions::Http2, HttpVersions::Http1] {
        let (dropped, mut drops) = mpsc::unbounded_channel();
        let (called, mut calls) = mpsc::unbounded_channel();
        let answer = any(move |request: Request| async move {
            let seen = Seen::from_request(request).await;
            if seen.header("mcp-method") != Some("tools/call") {
                return default_response(&seen, &AtomicUsize::new(0));
            }
            called.send(()).unwrap();
            let guard = NotifyOnDrop(dropped);
            let events = stream::pending::<Result<Bytes, Infallible>>().inspect(move |_| {
                let _ = &guard;
            });
            respond(200, &[EVENTS], Body::from_stream(events))
        });
        let pki = Pki::new();
        let server = CyclingServer::start(
            &pki,
            CyclingOptions::default(),
            Router::new().fallback(answer),
        );
        let client = fixture::client(&pki, &pki.client("agent", KeyKind::P256), http);
        let lifecycle = ClientLifecycleMode::Discover {
            preferred_versions: vec![ProtocolVersion::V_2026_07_28],
        };
        let transport = StreamableHttp::new(client).transport(format!("{}/mcp", server.origin()));
        let agent = soon(().serve_with_lifecycle(transport, lifecycle))
            .await
            .unwrap();
        let call =
            ClientRequest::CallToolRequest(CallToolRequest::new(CallToolRequestParams::new("any")));
        let call = soon(agent.send_cancellable_request(call, PeerRequestOptions::no_options()))
            .await
            .unwrap();
        soon(calls.recv()).await.unwrap();
        assert!(drops.try_recv().is_err());
        soon(call.cancel(None)).await.unwrap();
        soon(drops.recv()).await.unwrap();
        assert!(calls.try_recv().is_err());
    }
}

/// Sends a message when it is dropped.
struct NotifyOnDrop(mpsc::UnboundedSender<()>);

impl Drop for NotifyOnDrop {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}
