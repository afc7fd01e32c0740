//! Legacy HTTP+SSE, against the server of the testkit, because rmcp has none any more: in plaintext
//! on loopback, or behind `BindingLayer` where TLS matters.

#![allow(deprecated, reason = "roots are what a server of 2024-11-05 asks for")]

mod breaking;
mod echoes;
mod hostile;
mod proofs;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use bowline_http_client::Client;
use bowline_mcp::{Error, ErrorKind, LegacySse as Transport};
use bowline_testkit::peers::LegacySse;
use rmcp::model::ErrorData;
use rmcp::service::{ClientInitializeError, RunningService, ServiceError};
use rmcp::{ClientHandler, RoleClient, ServiceExt};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::fixture::echo;
use crate::scripted::{plaintext_client, soon};

/// A server in plaintext.
struct Plain {
    origin: String,
    serving: JoinHandle<()>,
}

impl Plain {
    async fn start(router: impl FnOnce(&str) -> Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let router = router(&origin);
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { origin, serving }
    }

    async fn serving(server: &LegacySse) -> Self {
        Self::start(|_| server.router()).await
    }

    fn uri(&self) -> String {
        format!("{}/sse", self.origin)
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn transport() -> Transport {
    Transport::new(plaintext_client())
}

type Agent<H> = RunningService<RoleClient, H>;

async fn agent(transport: Transport, uri: &str) -> Agent<()> {
    serve((), transport, uri).await.unwrap()
}

async fn serve<H: ClientHandler>(
    handler: H,
    transport: Transport,
    uri: &str,
) -> Result<Agent<H>, ClientInitializeError> {
    soon(handler.serve(transport.transport(uri).unwrap())).await
}

/// Whether this is the call with the text "lost", see [`call_error`].
fn is_lost_call(message: &Value) -> bool {
    message["method"] == "tools/call" && message["params"]["arguments"]["text"] == "lost"
}

/// Why no session began.
async fn refusal(transport: Transport, uri: &str) -> Error {
    match serve((), transport, uri).await.map(drop) {
        Err(ClientInitializeError::TransportError { error, .. }) => {
            *error.error.downcast().expect("our transport's error")
        }
        other => panic!("expected an error of the transport, got {other:?}"),
    }
}

async fn echoes<H: ClientHandler>(agent: &Agent<H>, text: &str) {
    let result = soon(agent.call_tool(echo(text))).await.unwrap();
    assert_eq!(result.content[0].as_text().unwrap().text, text);
}

/// The JSON-RPC error that a call was answered with.
async fn call_error<H: ClientHandler>(agent: &Agent<H>) -> ErrorData {
    match soon(agent.call_tool(echo("lost"))).await {
        Err(ServiceError::McpError(e)) => e,
        other => panic!("expected a JSON-RPC error, got {other:?}"),
    }
}

/// A greeting whose `retry` lets the next stream be opened at once.
fn fast_retry(session: usize) -> String {
    format!(
        "retry: 1\n\nevent: endpoint\ndata: {}\n\n",
        LegacySse::endpoint(session)
    )
}

const SHORT: Duration = Duration::from_millis(50);

#[tokio::test]
async fn the_endpoint_may_be_relative_or_absolute() {
    type Greeting = fn(&str, usize) -> String;
    let forms: [Greeting; 4] = [
        |_, session| format!("/messages/{session}"),
        |_, session| format!("messages/{session}"),
        |origin, session| format!("{origin}/messages/{session}"),
        |origin, session| format!("{}/messages/{session}", origin.trim_start_matches("http:")),
    ];
    for form in forms {
        let plain = Plain::start(|origin| {
            let origin = origin.to_owned();
            let greeting =
                move |session| format!("event: endpoint\ndata: {}\n\n", form(&origin, session));
            LegacySse::with_greeting(
                |_, message| bowline_testkit::peers::legacy_sse::echo(message),
                greeting,
            )
            .router()
        })
        .await;
        echoes(&agent(transport(), &plain.uri()).await, "ahoy").await;
    }
}

#[tokio::test]
async fn a_byte_order_mark_and_events_of_other_names_are_skipped() {
    for marks in ["\u{feff}", "\u{feff}\u{feff}"] {
        let greeting = move |session| {
            format!(
                "{marks}event: hello\ndata: x\n\n: comment\n\n{}",
                fast_retry(session)
            )
        };
        let server = LegacySse::with_greeting(
            |_, message| bowline_testkit::peers::legacy_sse::echo(message),
            greeting,
        );
        let plain = Plain::serving(&server).await;
        echoes(&agent(transport(), &plain.uri()).await, "ahoy").await;
    }
}

#[tokio::test]
async fn a_hundred_calls_at_once_are_each_answered() {
    let server = LegacySse::new(|_, message| bowline_testkit::peers::legacy_sse::echo(message));
    let plain = Plain::serving(&server).await;
    let agent = Arc::new(agent(transport(), &plain.uri()).await);
    let calls = (0..100).map(|call| {
        let agent = agent.clone();
        tokio::spawn(async move { echoes(&agent, &call.to_string()).await })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }
    assert_eq!(server.sessions(), 1);
}

#[tokio::test]
async fn ending_the_agent_ends_the_stream() {
    let server = LegacySse::new(|_, message| bowline_testkit::peers::legacy_sse::echo(message));
    let plain = Plain::serving(&server).await;
    let client: Client = plaintext_client();
    let agent = agent(Transport::new(client.clone()), &plain.uri()).await;
    soon(agent.cancel()).await.unwrap();
    soon(async {
        while server.is_open(0) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(client.stats().totals.requests, 3);
}

#[tokio::test]
async fn each_later_post_carries_the_negotiated_version() {
    use axum::extract::Request;
    use axum::middleware::{Next, from_fn};
    let (sent, mut seen_versions) = tokio::sync::mpsc::unbounded_channel();
    let note = from_fn(move |request: Request, next: Next| {
        let version = request.headers().get("mcp-protocol-version").cloned();
        sent.send((request.method().clone(), version)).unwrap();
        next.run(request)
    });
    let server = LegacySse::new(|_, message| bowline_testkit::peers::legacy_sse::echo(message));
    let plain = Plain::start(|_| server.router().layer(note)).await;
    echoes(&agent(transport(), &plain.uri()).await, "ahoy").await;
    for (method, version) in [
        ("GET", None),
        ("POST", None),
        ("POST", Some("2024-11-05")),
        ("POST", Some("2024-11-05")),
    ] {
        let (seen, sent) = seen_versions.recv().await.unwrap();
        assert_eq!(
            (seen.as_str(), sent.as_ref().map(|v| v.to_str().unwrap())),
            (method, version)
        );
    }
}

#[tokio::test]
async fn an_invalid_uri_is_an_error_before_anything_is_sent() {
    for uri in [
        "",
        "/sse",
        "mcp.example/sse",
        "ftp://mcp.example/sse",
        "https://user@mcp.example/sse",
        "https://",
    ] {
        let error = transport().transport(uri).map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidEndpoint, "{uri}");
    }
}
