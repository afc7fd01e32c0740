//! The two requests of the transport: the GET that opens the event stream, and the POST of a
//! message.

use std::time::Duration;

use bowline_http_client::bind::BindingRefusal;
use bowline_http_client::{Body, Client, Operation};
use bowline_proof::challenges;
use bowline_transport::body;
use bowline_transport::credential::Credential;
use bowline_transport::head::{content_type, has_media_type, is_unprocessed};
use bowline_transport::redact::SentTokens;
use bowline_transport::redirect::shown_location;
use bowline_transport::retry_after::retry_after;
use bowline_transport::sse::{Events, SseError};
use bowline_transport::text::printable;
use bytes::Bytes;
use futures_util::StreamExt;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use rmcp::model::ClientJsonRpcMessage;
use tokio::time::{Instant, timeout};

use super::endpoint;
use crate::error::{Cause, LegacyCause};
use crate::{Error, operation};

const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");

/// Opens event streams of one server and posts messages to it.
#[derive(Clone)]
pub(super) struct Connector {
    pub(super) client: Client,
    pub(super) credential: Credential,
    pub(super) sent: SentTokens,
    pub(super) uri: Uri,
    pub(super) open_timeout: Duration,
    pub(super) post_timeout: Duration,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) max_event: usize,
}

/// An event stream whose endpoint is known.
pub(super) struct OpenStream {
    events: Events,
    pub(super) endpoint: Uri,
    pub(super) opened: Instant,
}

/// An event that has data. The protocol gives no meaning to others.
pub(super) struct DataEvent {
    pub(super) name: String,
    pub(super) data: String,
}

impl Connector {
    /// Opens an event stream and waits for its endpoint.
    pub(super) async fn open(&self) -> Result<OpenStream, Error> {
        match timeout(self.open_timeout, self.open_untimed()).await {
            Ok(opened) => opened,
            Err(_) => Err(LegacyCause::StreamTimeout(self.open_timeout).into()),
        }
    }

    async fn open_untimed(&self) -> Result<OpenStream, Error> {
        let operation = operation::EVENT_STREAM;
        let mut request = request(Method::GET, &self.uri, operation, Bytes::new());
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let (head, body) = self.send(request).await?.into_parts();
        if !has_media_type(&head.headers, "text/event-stream") {
            let found = content_type(&head.headers).unwrap_or_default();
            return Err(LegacyCause::NotAnEventStream(self.sent.printable(&found)).into());
        }
        let mut events = Events::new(body, self.max_event).silence(self.idle_timeout);
        let endpoint = loop {
            let event = next(&mut events).await?;
            if event.name == "endpoint" {
                break endpoint::resolve(&self.uri, &event.data)?;
            }
        };
        Ok(OpenStream {
            events,
            endpoint,
            opened: Instant::now(),
        })
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
        match timeout(self.post_timeout, self.send(request)).await {
            Ok(response) => {
                body::discard(response?.into_body()).await;
                Ok(())
            }
            Err(_) => Err(LegacyCause::PostTimeout(self.post_timeout).into()),
        }
    }

    /// Sends a request. A response other than a success is an error.
    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Body>, Error> {
        // The GET for the event stream carries no message.
        let has_message = request.method() == Method::POST;
        let mut response = self.credential.send(&self.client, request).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let may_have_been_processed = has_message && !is_unprocessed(status, response.headers());
        self.sent.redact_fields(response.headers_mut());
        let cause = match response.extensions().get::<BindingRefusal>() {
            Some(refusal) => Cause::BindingRefused(refusal.clone()),
            None if status.is_redirection() => Cause::Redirect {
                status,
                target: shown_location(response.headers()),
                reason: "this transport follows none".to_owned(),
            },
            None if status == StatusCode::UNAUTHORIZED => Cause::from(LegacyCause::Unauthorized {
                challenge: challenge(response.headers()),
                may_have_been_processed,
            }),
            None => Cause::from(LegacyCause::Status {
                status,
                retry_after: retry_after(response.headers()),
                may_have_been_processed,
            }),
        };
        response.into_body().drain_in_background();
        Err(cause.into())
    }
}

/// The first error of a challenge, with its description.
fn challenge(headers: &HeaderMap) -> Option<String> {
    let challenges = challenges(headers);
    let mut errors = challenges.iter().filter_map(|challenge| {
        let error = challenge.error()?;
        Some(match challenge.param("error_description") {
            Some(description) => format!("{error}: {description}"),
            None => error.to_owned(),
        })
    });
    errors.next().map(|text| printable(&text))
}

impl OpenStream {
    /// The pause that the server asked for before the next stream.
    pub(super) fn retry(&self) -> Option<Duration> {
        self.events.retry()
    }

    /// The next event. The end of the stream is an error too.
    pub(super) async fn next(&mut self) -> Result<DataEvent, Error> {
        next(&mut self.events).await
    }
}

async fn next(events: &mut Events) -> Result<DataEvent, Error> {
    loop {
        let event = match events.next().await {
            Some(Ok(event)) => event,
            Some(Err(e)) => return Err(stream_error(e)),
            None => return Err(LegacyCause::StreamEnded.into()),
        };
        if let Some(data) = event.data {
            let name = event.event;
            return Ok(DataEvent { name, data });
        }
    }
}

fn stream_error(error: SseError) -> Error {
    match error {
        SseError::TooLong { limit } => Cause::EventTooLong { limit }.into(),
        SseError::Silent(limit) => LegacyCause::StreamIdle(limit).into(),
        SseError::Client(e) => e.into(),
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
