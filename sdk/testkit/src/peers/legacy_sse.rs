//! A server of MCP's legacy HTTP+SSE transport (revision 2024-11-05), which Rust libraries no
//! longer implement.
//!
//! It is a router: a test adds TLS and token checks in front of it. It implements as much of
//! JSON-RPC as tests need.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, body::Body};
use bytes::Bytes;
use http::StatusCode;
use http_body::Frame;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

type Answer = dyn Fn(usize, &Value) -> Option<Value> + Send + Sync;
type Greeting = dyn Fn(usize) -> String + Send + Sync;

/// The server. A session lasts as long as its stream. Clones share the server.
#[derive(Clone)]
pub struct LegacySse(Arc<Inner>);

struct Inner {
    answer: Box<Answer>,
    greeting: Box<Greeting>,
    sessions: watch::Sender<usize>,
    received: watch::Sender<Vec<(usize, Value)>>,
    streams: Mutex<Vec<Option<mpsc::UnboundedSender<Bytes>>>>,
}

impl LegacySse {
    /// Answers each message with what `answer` returns for the session's number (from 0) and the
    /// message.
    pub fn new(answer: impl Fn(usize, &Value) -> Option<Value> + Send + Sync + 'static) -> Self {
        Self::with_greeting(answer, |session| {
            format!("event: endpoint\ndata: {}\n\n", Self::endpoint(session))
        })
    }

    /// Like [`new`](Self::new), but begins each stream with what `greeting` returns for its number
    /// instead of the `endpoint` event.
    pub fn with_greeting(
        answer: impl Fn(usize, &Value) -> Option<Value> + Send + Sync + 'static,
        greeting: impl Fn(usize) -> String + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Inner {
            answer: Box::new(answer),
            greeting: Box::new(greeting),
            sessions: watch::Sender::new(0),
            received: watch::Sender::default(),
            streams: Mutex::default(),
        }))
    }

    /// The path for a session's messages.
    #[must_use]
    pub fn endpoint(session: usize) -> String {
        format!("/messages/{session}")
    }

    /// The stream at `/sse`, messages at `/messages/{session}`.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/sse", get(open))
            .route("/messages/{session}", post(message))
            .with_state(self.clone())
    }

    /// How many sessions have begun.
    pub fn sessions(&self) -> usize {
        *self.0.sessions.borrow()
    }

    /// The messages received, in order, each with the number of its session.
    pub fn received(&self) -> Vec<(usize, Value)> {
        self.0.received.borrow().clone()
    }

    /// Waits for a message of this method, in this session.
    pub async fn has_received(&self, session: usize, method: &str) {
        self.has_received_where(session, |message| message["method"] == method)
            .await;
    }

    /// Waits for a call with this argument `text`, in this session.
    pub async fn has_received_text(&self, session: usize, text: &str) {
        self.has_received_where(session, |message| {
            message["params"]["arguments"]["text"] == text
        })
        .await;
    }

    /// Waits for a message for which `is_it` holds, in this session.
    pub async fn has_received_where(&self, session: usize, is_it: impl Fn(&Value) -> bool) {
        let mut received = self.0.received.subscribe();
        let found = |all: &Vec<(usize, Value)>| {
            all.iter()
                .any(|(number, message)| *number == session && is_it(message))
        };
        // The sender lives as long as `self`.
        let _ = received.wait_for(found).await;
    }

    /// Sends bytes on a session's stream, if it is still open.
    pub fn send(&self, session: usize, bytes: impl Into<Bytes>) {
        if let Some(Some(stream)) = self.streams().get(session) {
            let _ = stream.send(bytes.into());
        }
    }

    /// Whether a client still reads a session's stream.
    pub fn is_open(&self, session: usize) -> bool {
        matches!(self.streams().get(session), Some(Some(stream)) if !stream.is_closed())
    }

    /// Ends all streams, and so all sessions.
    pub fn cut(&self) {
        self.streams().iter_mut().for_each(|stream| *stream = None);
    }

    fn streams(&self) -> MutexGuard<'_, Vec<Option<mpsc::UnboundedSender<Bytes>>>> {
        self.0
            .streams
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A message as an event.
#[must_use]
pub fn event(message: &Value) -> String {
    format!("event: message\ndata: {message}\n\n")
}

/// The answers of a small MCP server: `initialize`, `ping`, `tools/list`, and one tool, `echo`.
#[must_use]
pub fn echo(message: &Value) -> Option<Value> {
    let id = message.get("id")?;
    let result = match message["method"].as_str()? {
        "initialize" => json!({
            "protocolVersion": "2024-11-05",
            "capabilities": { "tools": {} },
            "serverInfo": { "name": "echo", "version": "1" },
        }),
        "ping" => json!({}),
        "tools/list" => {
            json!({ "tools": [{ "name": "echo", "inputSchema": { "type": "object" } }] })
        }
        "tools/call" => {
            let text = &message["params"]["arguments"]["text"];
            json!({ "content": [{ "type": "text", "text": text }] })
        }
        _ => {
            let error = json!({ "code": -32601, "message": "unknown" });
            return Some(json!({ "jsonrpc": "2.0", "id": id, "error": error }));
        }
    };
    Some(json!({ "jsonrpc": "2.0", "id": id, "result": result }))
}

async fn open(State(server): State<LegacySse>) -> impl IntoResponse {
    let (stream, bytes) = mpsc::unbounded_channel();
    let session = {
        let mut streams = server.streams();
        streams.push(Some(stream));
        streams.len() - 1
    };
    server.send(session, (server.0.greeting)(session));
    server.0.sessions.send_replace(session + 1);
    (
        [(CONTENT_TYPE, "text/event-stream")],
        Body::new(EventBody(bytes)),
    )
}

async fn message(
    State(server): State<LegacySse>,
    Path(session): Path<usize>,
    Json(message): Json<Value>,
) -> Response {
    let is_open = server.streams().get(session).is_some_and(Option::is_some);
    if !is_open {
        return StatusCode::NOT_FOUND.into_response();
    }
    let answer = (server.0.answer)(session, &message);
    server
        .0
        .received
        .send_modify(|received| received.push((session, message)));
    if let Some(answer) = answer {
        server.send(session, event(&answer));
    }
    StatusCode::ACCEPTED.into_response()
}

/// A body whose chunks come from a channel.
struct EventBody(mpsc::UnboundedReceiver<Bytes>);

impl http_body::Body for EventBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0
            .poll_recv(cx)
            .map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}
