//! The two requests of the transport: the GET whose answer is the stream, and the POST of a
//! message.

use std::time::Duration;

use bowline_client::bind::BindingRefusal;
use bowline_client::{Body, Client, Operation, Origin};
use bowline_proof::challenges;
use bowline_token::Authorized;
use bowline_transport::lines::{Lines, Retry};
use bytes::Bytes;
use eventsource_stream::{Event, EventStream, EventStreamError};
use futures_util::StreamExt;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use rmcp::model::ClientJsonRpcMessage;
use tokio::time::{Instant, timeout};

use super::endpoint;
use crate::error::Cause;
use crate::{Error, operation};

const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");

/// How much of an answer that nobody needs is read, and for how long.
const DISCARD_BYTES: usize = 64 * 1024;
const DISCARD_TIME: Duration = Duration::from_millis(50);

/// As much of what a server says as an error repeats.
const MAX_TEXT: usize = 200;

/// Sends requests to one server.
#[derive(Clone)]
pub(super) struct Http {
    pub(super) client: Client,
    pub(super) authorized: Option<Authorized>,
    pub(super) uri: Uri,
    pub(super) open_time: Duration,
    pub(super) post_time: Duration,
    pub(super) silence: Option<Duration>,
    pub(super) longest_event: usize,
}

/// A stream whose endpoint is known.
pub(super) struct Stream {
    events: EventStream<Lines>,
    pub(super) endpoint: Uri,
    pub(super) retry: Retry,
    pub(super) opened: Instant,
}

impl Http {
    /// Opens the stream and waits for its endpoint.
    pub(super) async fn open(&self) -> Result<Stream, Error> {
        let opening = async {
            let mut request = request(
                Method::GET,
                &self.uri,
                operation::EVENT_STREAM,
                Bytes::new(),
            );
            let headers = request.headers_mut();
            headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            let response = self.send(request).await?;
            let (head, body) = taken(response, &self.uri)?.into_parts();
            let media_type = head
                .headers
                .get(CONTENT_TYPE)
                .map(HeaderValue::as_bytes)
                .unwrap_or_default();
            if !is_event_stream(media_type) {
                return Err(
                    Cause::NoEventStream(shown(&String::from_utf8_lossy(media_type))).into(),
                );
            }
            let retry = Retry::new();
            let mut events = EventStream::new(Lines::of(
                body,
                self.longest_event,
                self.silence,
                retry.clone(),
            ));
            let endpoint = loop {
                let event = next(&mut events).await?;
                if event.event == "endpoint" {
                    break endpoint::resolve(&self.uri, &event.data)?;
                }
            };
            Ok(Stream {
                events,
                endpoint,
                retry,
                opened: Instant::now(),
            })
        };
        match timeout(self.open_time, opening).await {
            Ok(opened) => opened,
            Err(_) => Err(Cause::SlowStream(self.open_time).into()),
        }
    }

    /// Sends a message. What the server answers comes on the stream.
    pub(super) async fn post(
        &self,
        endpoint: Uri,
        version: Option<HeaderValue>,
        message: ClientJsonRpcMessage,
    ) -> Result<(), Error> {
        let operation = operation::of(&message);
        let body = serde_json::to_vec(&message).map_err(Cause::Unwritable)?;
        let mut request = request(Method::POST, &endpoint, operation, body.into());
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(version) = version {
            headers.insert(VERSION, version);
        }
        let posting = async { taken(self.send(request).await?, &endpoint) };
        match timeout(self.post_time, posting).await {
            Ok(response) => {
                discard(response?.into_body()).await;
                Ok(())
            }
            Err(_) => Err(Cause::SlowAnswer(self.post_time).into()),
        }
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Body>, Error> {
        match &self.authorized {
            Some(authorized) => Ok(authorized.send(request).await?),
            None => Ok(self.client.send(request).await?),
        }
    }
}

impl Stream {
    /// The next event; the stream's end is an error too.
    pub(super) async fn next(&mut self) -> Result<Event, Error> {
        next(&mut self.events).await
    }
}

async fn next(events: &mut EventStream<Lines>) -> Result<Event, Error> {
    match events.next().await {
        Some(Ok(event)) => Ok(event),
        Some(Err(EventStreamError::Transport(e))) => Err(e.into()),
        // The lines are valid UTF-8 and complete, so neither comes; what they quote is the
        // server's.
        Some(Err(EventStreamError::Utf8(_) | EventStreamError::Parser(_))) => {
            Err(Cause::InvalidUtf8.into())
        }
        None => Err(Cause::StreamEnded.into()),
    }
}

fn request(method: Method, uri: &Uri, operation: Operation, body: Bytes) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    *request.uri_mut() = uri.clone();
    request
        .extensions_mut()
        .insert(operation::legacy(operation));
    request
}

/// Reads what nobody needs to its end, so that an HTTP/1.1 connection can carry the next message.
async fn discard(body: Body) {
    let _ = timeout(DISCARD_TIME, Limited::new(body, DISCARD_BYTES).collect()).await;
}

/// The answer, if it is a success.
fn taken(response: Response<Body>, asked: &Uri) -> Result<Response<Body>, Error> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let cause = match response.extensions().get::<BindingRefusal>() {
        Some(refusal) => Cause::BindingRefused(refusal.clone()),
        None if status.is_redirection() => Cause::Redirect {
            status,
            location: location(&response, asked),
        },
        None if status == StatusCode::UNAUTHORIZED => Cause::Unauthorized(challenge(&response)),
        None => Cause::Refused {
            status,
            retry_after: retry_after(&response),
        },
    };
    response.into_body().drain_in_background();
    Err(cause.into())
}

/// Where a redirect leads, as far as it may be shown: a query may be secret.
fn location(response: &Response<Body>, asked: &Uri) -> Option<String> {
    let location = response.headers().get(LOCATION)?.to_str().ok()?;
    let uri = location.parse::<Uri>().ok()?;
    let origin = Origin::from_uri(&uri)
        .or_else(|_| Origin::from_uri(asked))
        .ok()?;
    Some(shown(&format!("{origin}{}", uri.path())))
}

fn challenge(response: &Response<Body>) -> Option<String> {
    let challenges = challenges(response.headers());
    let challenge = challenges
        .iter()
        .find(|challenge| challenge.error().is_some())?;
    let error = challenge.error().unwrap_or_default();
    Some(match challenge.param("error_description") {
        Some(description) => shown(&format!("{error}: {description}")),
        None => shown(error),
    })
}

fn retry_after(response: &Response<Body>) -> Option<Duration> {
    let seconds = response
        .headers()
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds))
}

/// Printable ASCII, and not much of it.
fn shown(text: &str) -> String {
    text.chars()
        .filter(|c| c.is_ascii_graphic() || *c == ' ')
        .take(MAX_TEXT)
        .collect()
}

/// Compares without case and parameters (RFC 9110 §8.3.1).
fn is_event_stream(media_type: &[u8]) -> bool {
    let essence = media_type
        .split(|byte| *byte == b';')
        .next()
        .unwrap_or_default();
    essence
        .trim_ascii()
        .eq_ignore_ascii_case(b"text/event-stream")
}
