//! The two requests of the transport: the GET that opens the event stream, and the POST of a
//! message.

use std::time::Duration;

use bowline_client::bind::BindingRefusal;
use bowline_client::{Body, Client, Operation, Origin};
use bowline_proof::challenges;
use bowline_token::Authorized;
use bowline_transport::lines::{Lines, LinesError, Retry};
use bytes::Bytes;
use eventsource_stream::{Event, EventStream, EventStreamError};
use futures_util::StreamExt;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use rmcp::model::ClientJsonRpcMessage;
use tokio::time::{Instant, timeout};

use super::{LegacyCause, endpoint};
use crate::error::Cause;
use crate::{Error, operation};

const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");

/// How much of an unneeded response is read, and for how long.
const DISCARD_BYTES: usize = 64 * 1024;
const DISCARD_TIME: Duration = Duration::from_millis(50);

/// Maximum number of characters of a server's text in an error.
const MAX_TEXT: usize = 200;

/// Opens event streams of one server and posts messages to it.
#[derive(Clone)]
pub(super) struct Connector {
    pub(super) client: Client,
    pub(super) authorized: Option<Authorized>,
    pub(super) uri: Uri,
    pub(super) open_timeout: Duration,
    pub(super) post_timeout: Duration,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) max_event: usize,
}

/// An event stream whose endpoint is known.
pub(super) struct OpenStream {
    events: EventStream<Lines>,
    pub(super) endpoint: Uri,
    retry: Retry,
    pub(super) opened: Instant,
}

impl Connector {
    /// Opens an event stream and waits for its endpoint.
    pub(super) async fn open(&self) -> Result<OpenStream, Error> {
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
            let (head, body) = success(response, &self.uri)?.into_parts();
            let media_type = head
                .headers
                .get(CONTENT_TYPE)
                .map(HeaderValue::as_bytes)
                .unwrap_or_default();
            if !is_event_stream(media_type) {
                return Err(
                    LegacyCause::NotAnEventStream(shown(&String::from_utf8_lossy(media_type)))
                        .into(),
                );
            }
            let retry = Retry::new();
            let mut events = EventStream::new(Lines::of(
                body,
                self.max_event,
                self.idle_timeout,
                retry.clone(),
            ));
            let endpoint = loop {
                let event = next(&mut events).await?;
                if event.event == "endpoint" {
                    break endpoint::resolve(&self.uri, &event.data)?;
                }
            };
            Ok(OpenStream {
                events,
                endpoint,
                retry,
                opened: Instant::now(),
            })
        };
        match timeout(self.open_timeout, opening).await {
            Ok(opened) => opened,
            Err(_) => Err(LegacyCause::StreamTimeout(self.open_timeout).into()),
        }
    }

    /// Posts a message. The response to it comes on the event stream.
    pub(super) async fn post(
        &self,
        endpoint: Uri,
        version: Option<HeaderValue>,
        message: ClientJsonRpcMessage,
    ) -> Result<(), Error> {
        let operation = operation::from_message(&message);
        let body = serde_json::to_vec(&message).map_err(LegacyCause::Serialize)?;
        let mut request = request(Method::POST, &endpoint, operation, body.into());
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(version) = version {
            headers.insert(VERSION, version);
        }
        let posting = async { success(self.send(request).await?, &endpoint) };
        match timeout(self.post_timeout, posting).await {
            Ok(response) => {
                discard(response?.into_body()).await;
                Ok(())
            }
            Err(_) => Err(LegacyCause::PostTimeout(self.post_timeout).into()),
        }
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Body>, Error> {
        match &self.authorized {
            Some(authorized) => Ok(authorized.send(request).await?),
            None => Ok(self.client.send(request).await?),
        }
    }
}

impl OpenStream {
    /// The pause that the server asked for before the next stream.
    pub(super) fn retry(&self) -> Option<Duration> {
        self.retry.pause()
    }

    /// The next event. The end of the stream is an error too.
    pub(super) async fn next(&mut self) -> Result<Event, Error> {
        next(&mut self.events).await
    }
}

async fn next(events: &mut EventStream<Lines>) -> Result<Event, Error> {
    match events.next().await {
        Some(Ok(event)) => Ok(event),
        Some(Err(EventStreamError::Transport(e))) => Err(lines_error(e)),
        // The lines are valid UTF-8 and complete, so neither happens. Both errors quote the server.
        Some(Err(EventStreamError::Utf8(_) | EventStreamError::Parser(_))) => {
            Err(LegacyCause::InvalidUtf8.into())
        }
        None => Err(LegacyCause::StreamEnded.into()),
    }
}

fn lines_error(error: LinesError) -> Error {
    match error {
        LinesError::TooLong { limit } => Cause::EventTooLong { limit }.into(),
        LinesError::InvalidUtf8 => LegacyCause::InvalidUtf8.into(),
        LinesError::Silent(limit) => LegacyCause::StreamIdle(limit).into(),
        LinesError::Client(e) => e.into(),
        // `Cut`; the enum is non-exhaustive.
        _ => LegacyCause::StreamEnded.into(),
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

/// Reads an unneeded body to its end, so that an HTTP/1.1 connection can carry the next message.
async fn discard(body: Body) {
    let _ = timeout(DISCARD_TIME, Limited::new(body, DISCARD_BYTES).collect()).await;
}

/// The response, if it is a success.
fn success(response: Response<Body>, requested: &Uri) -> Result<Response<Body>, Error> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let cause = match response.extensions().get::<BindingRefusal>() {
        Some(refusal) => Cause::BindingRefused(refusal.clone()),
        None if status.is_redirection() => Cause::Redirect {
            status,
            location: location(&response, requested),
        },
        None if status == StatusCode::UNAUTHORIZED => {
            Cause::Legacy(LegacyCause::Unauthorized(challenge(&response)))
        }
        None => Cause::Legacy(LegacyCause::Status {
            status,
            retry_after: retry_after(&response),
        }),
    };
    response.into_body().drain_in_background();
    Err(cause.into())
}

/// The target of a redirect without its query, which may be secret.
fn location(response: &Response<Body>, requested: &Uri) -> Option<String> {
    let location = response.headers().get(LOCATION)?.to_str().ok()?;
    let uri = location.parse::<Uri>().ok()?;
    let origin = Origin::of(&uri).or_else(|_| Origin::of(requested)).ok()?;
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

/// The printable ASCII of a text, up to a limit.
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
