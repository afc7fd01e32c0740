//! A plaintext server on loopback with scripted responses. It records the requests.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::response::Response;
use axum::{Router, routing::any};
use bowline_http_client::{Builder, Client, Snapshot, Trust};
use bowline_mcp::{Error, StreamableHttp};
use bowline_testkit::pki::Pki;
use bowline_testkit::secrets;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use rmcp::model::{ClientJsonRpcMessage, ServerJsonRpcMessage};
use rmcp::transport::streamable_http_client::{
    SseError, StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse,
};
use serde_json::{Value, json};
use sse_stream::Sse;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub(crate) type Failure = StreamableHttpError<Error>;
pub(crate) type Posted = Result<StreamableHttpPostResponse, Failure>;
pub(crate) type Opened = Result<BoxStream<'static, Result<Sse, SseError>>, Failure>;

/// One request, as the server saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Seen {
    pub(crate) async fn from_request(request: Request) -> Self {
        let (head, body) = request.into_parts();
        secrets::record_request(&head.headers);
        Self {
            method: head.method,
            path: head.uri.path().to_owned(),
            query: head.uri.query().map(str::to_owned),
            headers: head.headers,
            body: to_bytes(body, usize::MAX).await.unwrap(),
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// The server, and a client for it.
pub(crate) struct Scripted {
    pub(crate) uri: Arc<str>,
    pub(crate) http: StreamableHttp,
    client: Client,
    seen: Arc<Mutex<Vec<Seen>>>,
    serving: JoinHandle<()>,
}

impl Scripted {
    pub(crate) async fn start(
        script: impl Fn(&Seen) -> Response + Clone + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}/mcp", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        let answer = any(move |request: Request| async move {
            let seen = Seen::from_request(request).await;
            let response = script(&seen);
            log.lock().unwrap().push(seen);
            response
        });
        let router = Router::new().fallback(answer);
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let client = plaintext_client();
        Self {
            uri: uri.into(),
            http: StreamableHttp::new(client.clone()),
            client,
            seen,
            serving,
        }
    }

    /// Gives the same response to every request.
    pub(crate) async fn answering(
        status: u16,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Self {
        let (headers, body) = (owned(headers), body.into());
        Self::start(move |_| respond(status, &borrowed(&headers), body.clone())).await
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// How many GETs the server has seen.
    pub(crate) fn gets(&self) -> usize {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|seen| seen.method == "GET").count()
    }

    pub(crate) fn stats(&self) -> Snapshot {
        self.client.stats()
    }

    pub(crate) async fn post(&self, message: ClientJsonRpcMessage) -> Posted {
        self.post_in(None, message).await
    }

    pub(crate) async fn post_in(
        &self,
        session: Option<&str>,
        message: ClientJsonRpcMessage,
    ) -> Posted {
        let posting = self.http.post_message(
            self.uri.clone(),
            message,
            session.map(Into::into),
            None,
            HashMap::new(),
        );
        soon(posting).await
    }

    pub(crate) async fn get(&self, session: Option<&str>, last_event_id: Option<&str>) -> Opened {
        let getting = self.http.get_stream(
            self.uri.clone(),
            session.map(Into::into),
            last_event_id.map(Into::into),
            None,
            HashMap::new(),
        );
        soon(getting).await
    }

    pub(crate) async fn delete(&self) -> Result<(), Failure> {
        let deleting =
            self.http
                .delete_session(self.uri.clone(), "session".into(), None, HashMap::new());
        soon(deleting).await
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

pub(crate) fn plaintext_client() -> Client {
    plaintext_client_with(|builder| builder)
}

pub(crate) fn plaintext_client_with(configure: impl FnOnce(Builder) -> Builder) -> Client {
    let builder = Client::builder()
        .trust(Trust::from_der([Pki::new().ca_der().clone()]).unwrap())
        .allow_plaintext_on_loopback();
    configure(builder).build().unwrap()
}

/// A guard against hanging, nothing more.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(30), future)
        .await
        .expect("done within 30 s")
}

pub(crate) fn respond(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    for (name, value) in headers {
        response.headers_mut().append(
            HeaderName::try_from(*name).unwrap(),
            HeaderValue::try_from(*value).unwrap(),
        );
    }
    response
}

/// A body of these chunks; without an end if `endless`.
pub(crate) fn chunks(chunks: impl IntoIterator<Item = impl Into<Bytes>>, endless: bool) -> Body {
    let chunks: Vec<Result<Bytes, std::convert::Infallible>> =
        chunks.into_iter().map(|c| Ok(c.into())).collect();
    let rest = if endless {
        futures_util::stream::pending().left_stream()
    } else {
        futures_util::stream::empty().right_stream()
    };
    Body::from_stream(futures_util::stream::iter(chunks).chain(rest))
}

/// A body of these chunks, after which its connection breaks.
pub(crate) fn breaking(chunks: impl IntoIterator<Item = &'static str>) -> Body {
    let chunks = chunks
        .into_iter()
        .map(|chunk| Ok(Bytes::from(chunk)))
        .collect::<Vec<_>>();
    // The break comes when the chunks are out.
    let rest = futures_util::stream::once(async {
        tokio::task::yield_now().await;
        Err(std::io::Error::other("broken by design"))
    });
    Body::from_stream(futures_util::stream::iter(chunks).chain(rest))
}

pub(crate) const JSON: (&str, &str) = ("content-type", "application/json");
pub(crate) const EVENTS: (&str, &str) = ("content-type", "text/event-stream");
pub(crate) const TEXT: (&str, &str) = ("content-type", "text/plain");

/// The empty result of request 1.
pub(crate) const DONE: &str = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
/// A JSON-RPC error for request 1.
pub(crate) const ERROR: &str =
    r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"no such tool"}}"#;

pub(crate) fn request(method: &str, params: Value) -> ClientJsonRpcMessage {
    message(json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }))
}

pub(crate) fn ping() -> ClientJsonRpcMessage {
    message(json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" }))
}

pub(crate) fn initialized() -> ClientJsonRpcMessage {
    message(json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }))
}

pub(crate) fn message(value: Value) -> ClientJsonRpcMessage {
    serde_json::from_value(value).unwrap()
}

/// The JSON-RPC message that a POST was answered with.
pub(crate) fn json(posted: Posted) -> (ServerJsonRpcMessage, Option<String>) {
    match posted {
        Ok(StreamableHttpPostResponse::Json(message, session)) => (message, session),
        other => panic!("expected a message, got {other:?}"),
    }
}

/// Our own error inside rmcp's.
pub(crate) fn own<T>(result: Result<T, Failure>) -> Error {
    match result {
        Err(StreamableHttpError::Client(error)) => error,
        Err(other) => panic!("expected an error of the client, got {other:?}"),
        Ok(_) => panic!("expected an error of the client"),
    }
}

/// Posts a `ping` over `http`, with a token in rmcp's `auth_header`.
pub(crate) async fn ping_over(
    http: &StreamableHttp,
    uri: &Arc<str>,
    token: Option<&str>,
) -> Posted {
    let token = token.map(Into::into);
    soon(http.post_message(uri.clone(), ping(), None, token, HashMap::new())).await
}

fn owned(headers: &[(&str, &str)]) -> Vec<(String, String)> {
    headers
        .iter()
        .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
        .collect()
}

fn borrowed(headers: &[(String, String)]) -> Vec<(&str, &str)> {
    headers
        .iter()
        .map(|(n, v)| (n.as_str(), v.as_str()))
        .collect()
}
