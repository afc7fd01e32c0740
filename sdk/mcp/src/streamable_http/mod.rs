//! Streamable HTTP: implements rmcp's HTTP client trait on bowline's client.
//!
//! - [`request`] builds HTTP requests from what rmcp's worker passes.
//! - [`response`] interprets responses by status and media type.
//! - [`events`] reads responses that are event streams.
//! - [`stream_end`] waits for the end of a stream that has brought its response.
//! - [`resume_limit`] limits how often a failing stream is resumed.

mod events;
mod request;
mod response;
mod resume_limit;
mod stream_end;

use std::collections::HashMap;
use std::sync::Arc;

use bowline_http_client::{AccessToken, Body, Client};
use bowline_token::TokenSource;
use bowline_transport::body::{self, WholeError};
use bowline_transport::credential::Credential;
use bowline_transport::redact::{NotingSource, SentTokens};
use bowline_transport::redirect::{
    FollowError, MAX_REDIRECTS, Reason, follow_same_origin, shown_location,
};
use bytes::Bytes;
use futures_util::stream::BoxStream;
use http::{HeaderName, HeaderValue, Method, Request, Response};
use http_body_util::Full;
use rmcp::model::ClientJsonRpcMessage;
use rmcp::transport::streamable_http_client::{
    SseError, StreamableHttpClient, StreamableHttpClientTransport,
    StreamableHttpClientTransportConfig, StreamableHttpError, StreamableHttpPostResponse,
    StreamableHttpResponseLimits,
};
use sse_stream::Sse;

use crate::error::Cause;
use crate::request_bound::RequestBoundPolicy;
use crate::{Error, RequestBoundCalls, operation};
use events::{StreamContext, ToolRecorder};
use request::OutgoingMessage;
use response::RequestKind;
use resume_limit::{Resume, ResumeLimiter, ResumePoint};
use stream_end::StreamEndStats;

type RmcpError = StreamableHttpError<Error>;
type Events = BoxStream<'static, Result<Sse, SseError>>;

/// A transport to the MCP endpoint at `uri`, ready for rmcp's `serve`: every request carries
/// `token`, and a session-binding proof if the token demands one.
///
/// Short for [`StreamableHttp::new`], [`StreamableHttp::token`] and [`StreamableHttp::transport`].
///
/// # Panics
/// Outside a tokio runtime, on which rmcp starts the transport's worker.
pub fn transport(
    client: Client,
    uri: impl Into<Arc<str>>,
    token: AccessToken,
) -> StreamableHttpClientTransport<StreamableHttp> {
    StreamableHttp::new(client).token(token).transport(uri)
}

/// rmcp's [`StreamableHttpClient`] over a [`Client`].
///
/// It behaves like rmcp's reqwest client, with these differences:
/// - Connections are kept. The rest of an unneeded response is read to its end, within bounds, so
///   that an HTTP/1.1 connection and its proof stay usable. For the same reason a JSON-RPC response
///   that comes as an event is handed on when its stream has ended, 50 ms later at most, and the
///   rest of the stream is read after the stream is dropped (64 KiB, 1 s). Dropping an event stream
///   before its response cancels it at once.
/// - A redirect that is not followed is [`ErrorKind::Redirect`](crate::ErrorKind::Redirect), which
///   names the target. Followed are a 307 or 308 to the same origin and query, at the same path or
///   below it, three times at most, and none for request-bound calls (CL-6).
/// - A refused session-binding proof is
///   [`ErrorKind::BindingRefused`](crate::ErrorKind::BindingRefused), not `AuthRequired`:
///   authorizing again would not help.
/// - Custom headers may not replace `Content-Type`, the framing of the message, or the proof;
///   `Authorization` only where nothing else gives an access token.
/// - A GET accepts `text/event-stream` only; a 404 to a GET or DELETE is `SessionExpired`.
/// - An event stream is not resumed any more after the same event if an event that follows was too
///   long, or if it was cut off ten times in a row before
///   an event came. Until then each attempt waits a little longer, up to a second.
/// - A session id or event id with control characters is an error.
/// - A body in JSON that does not end within 60 s of its head is
///   [`ErrorKind::Timeout`](crate::ErrorKind::Timeout). Event streams may be silent.
/// - Errors repeat at most 200 characters of what the server wrote, and nothing that looks like a
///   token. Challenges and JSON-RPC errors are complete, apart from the access tokens that were
///   sent, their pieces, and what could be a JWS or a piece of one (EX-7).
#[derive(Clone, Debug)]
pub struct StreamableHttp {
    client: Client,
    credential: Credential,
    request_bound: RequestBoundPolicy,
    resume_limiter: ResumeLimiter,
    stream_ends: StreamEndStats,
    sent: SentTokens,
}

impl StreamableHttp {
    /// An HTTP client for rmcp that sends the access token of rmcp's `auth_header`, if there is
    /// one.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            credential: Credential::from_caller(),
            request_bound: RequestBoundPolicy::default(),
            resume_limiter: ResumeLimiter::default(),
            stream_ends: StreamEndStats::default(),
            sent: SentTokens::default(),
        }
    }

    /// Sends this access token, hashed once, instead of one from rmcp's `auth_header`. Giving both
    /// is an error.
    #[must_use]
    pub fn token(mut self, token: AccessToken) -> Self {
        self.credential = Credential::Fixed(token);
        self
    }

    /// Sends the access tokens of this source, instead of one from rmcp's `auth_header`. Giving
    /// both is an error. The tokens go to the origin of the first request and to no other (CL-6).
    ///
    /// A request that is refused with `invalid_token` is sent again once, if the source has another
    /// token; rmcp sees `AuthRequired` only if that is refused too.
    #[must_use]
    pub fn source(mut self, source: impl TokenSource) -> Self {
        self.credential = Credential::from_source(NotingSource {
            source,
            sent: self.sent.clone(),
        });
        self
    }

    /// Makes a proof of its own for each of these calls, with `htm`, `htu` and `jti` (PR-6). Calls
    /// are chosen by method (`tools/call`), by target (the name of a tool or prompt, the URI of a
    /// resource), or because the tool may be destructive.
    ///
    /// A tool counts as destructive unless the server last listed it with `readOnlyHint: true` or
    /// `destructiveHint: false`. That is MCP's default, also for a tool that was never listed. The
    /// hints are the server's, and a server with wrong hints harms itself.
    #[must_use]
    pub fn request_bound_calls(mut self, calls: RequestBoundCalls) -> Self {
        self.request_bound = RequestBoundPolicy::new(calls);
        self
    }

    /// A transport to the endpoint at `uri`, with rmcp's defaults.
    ///
    /// # Panics
    /// Outside a tokio runtime, on which rmcp starts the transport's worker.
    pub fn transport(self, uri: impl Into<Arc<str>>) -> StreamableHttpClientTransport<Self> {
        self.transport_with(StreamableHttpClientTransportConfig::with_uri(uri))
    }

    /// A transport with rmcp's configuration.
    ///
    /// # Panics
    /// Outside a tokio runtime, on which rmcp starts the transport's worker.
    pub fn transport_with(
        self,
        config: StreamableHttpClientTransportConfig,
    ) -> StreamableHttpClientTransport<Self> {
        StreamableHttpClientTransport::with_client(self, config)
    }

    async fn post(
        &self,
        outgoing: OutgoingMessage,
        message: ClientJsonRpcMessage,
        limits: StreamableHttpResponseLimits,
    ) -> Result<StreamableHttpPostResponse, RmcpError> {
        let kind = RequestKind::from_message(&message, outgoing.session_id.is_some());
        let endpoint = outgoing.uri.clone();
        let needs_tools = self.request_bound.needs_tools_of(&message);
        let context = self.stream_context(&outgoing, None, limits.max_sse_event_size, needs_tools);
        let body = serde_json::to_vec(&message)?;
        let operation = operation::from_message(&message);
        let mut request = outgoing.request(Method::POST, operation, body, &self.credential)?;
        self.request_bound
            .mark(&endpoint, &message, request.extensions_mut());
        let response = self.send(request).await?;
        response::read_post(response, kind, limits, context).await
    }

    async fn get(
        &self,
        outgoing: OutgoingMessage,
        last_event_id: Option<String>,
        max_event: usize,
    ) -> Result<Events, RmcpError> {
        let point = self
            .resume_limiter
            .point(outgoing.session_id.as_deref(), last_event_id.as_deref());
        match self.resume_limiter.check(point) {
            Resume::After(pause) => tokio::time::sleep(pause).await,
            Resume::GiveUp => {
                tracing::warn!(
                    "not resuming an event stream: the server cuts it off or sends unreadable events"
                );
                // One of the few errors after which rmcp's worker does not try again.
                return Err(StreamableHttpError::ServerDoesNotSupportSse);
            }
        }
        let had_session = outgoing.session_id.is_some();
        let needs_tools = last_event_id.is_some() && self.request_bound.needs_tools();
        let context = self.stream_context(&outgoing, Some(point), max_event, needs_tools);
        let request = outgoing.event_stream_request(last_event_id, &self.credential)?;
        let response = self.send(request).await?;
        response::read_get(response, had_session, context).await
    }

    /// Sends a request, and again for each redirect that may be followed (CL-6).
    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Body>, RmcpError> {
        // A source notes its tokens itself.
        if let Some(token) = request.extensions().get() {
            self.sent.note(token);
        }
        let endpoint = request.uri().path().to_owned();
        let send = |request| self.credential.send(&self.client, request);
        match follow_same_origin(request, &endpoint, send).await {
            Ok(response) => Ok(response),
            Err(FollowError::Send(e)) => Err(client_error(e)),
            Err(FollowError::NotFollowed(redirect)) => {
                let reason = redirect.reason();
                let (mut head, rest) = redirect.into_response().into_parts();
                body::discard(rest).await;
                self.sent.redact_fields(&mut head.headers);
                Err(client_error(match reason {
                    Reason::TooMany => Cause::TooManyRedirects(MAX_REDIRECTS),
                    _ => Cause::Redirect {
                        status: head.status,
                        target: shown_location(&head.headers),
                        reason: reason.to_string(),
                    },
                }))
            }
        }
    }

    fn stream_context(
        &self,
        outgoing: &OutgoingMessage,
        resume_point: Option<ResumePoint>,
        max_event: usize,
        needs_tools: bool,
    ) -> StreamContext {
        StreamContext {
            session_id: outgoing.session_id.clone(),
            resume_point,
            max_event,
            resume_limiter: self.resume_limiter.clone(),
            ends: self.stream_ends.clone(),
            sent: self.sent.clone(),
            tools: needs_tools.then(|| ToolRecorder {
                policy: self.request_bound.clone(),
                endpoint: outgoing.uri.clone(),
            }),
        }
    }
}

/// An error of ours, as rmcp's trait returns it.
fn client_error(error: impl Into<Error>) -> RmcpError {
    StreamableHttpError::Client(error.into())
}

fn body_error(error: WholeError) -> RmcpError {
    match error {
        WholeError::TooLarge { limit } => {
            StreamableHttpError::ResponseBodyTooLarge { max_size: limit }
        }
        WholeError::TimedOut(limit) => client_error(Cause::BodyTimeout(limit)),
        WholeError::Client(e) => client_error(e),
        // The enum is non-exhaustive.
        other => StreamableHttpError::UnexpectedServerResponse(other.to_string().into()),
    }
}

/// rmcp calls the methods with limits; those without exist for callers that have none.
impl StreamableHttpClient for StreamableHttp {
    type Error = Error;

    async fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        auth: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<StreamableHttpPostResponse, RmcpError> {
        let limits = StreamableHttpResponseLimits::default();
        self.post_message_with_response_limits(uri, message, session, auth, headers, limits)
            .await
    }

    async fn post_message_with_max_sse_event_size(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        auth: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
        max_sse_event_size: usize,
    ) -> Result<StreamableHttpPostResponse, RmcpError> {
        let mut limits = StreamableHttpResponseLimits::default();
        limits.max_sse_event_size = max_sse_event_size;
        self.post_message_with_response_limits(uri, message, session, auth, headers, limits)
            .await
    }

    async fn post_message_with_response_limits(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
        limits: StreamableHttpResponseLimits,
    ) -> Result<StreamableHttpPostResponse, RmcpError> {
        let outgoing = OutgoingMessage {
            uri,
            session_id,
            auth_header,
            custom_headers,
        };
        self.post(outgoing, message, limits).await
    }

    async fn delete_session(
        &self,
        uri: Arc<str>,
        session_id: Arc<str>,
        auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<(), RmcpError> {
        let outgoing = OutgoingMessage {
            uri,
            session_id: Some(session_id),
            auth_header,
            custom_headers,
        };
        let operation = operation::SESSION_END;
        let request = outgoing.request(Method::DELETE, operation, Vec::new(), &self.credential)?;
        response::read_delete(self.send(request).await?, &self.sent).await
    }

    async fn get_stream(
        &self,
        uri: Arc<str>,
        session: Option<Arc<str>>,
        last_event: Option<String>,
        auth: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<Events, RmcpError> {
        let limit = StreamableHttpResponseLimits::default().max_sse_event_size;
        self.get_stream_with_max_sse_event_size(uri, session, last_event, auth, headers, limit)
            .await
    }

    async fn get_stream_with_max_sse_event_size(
        &self,
        uri: Arc<str>,
        session_id: Option<Arc<str>>,
        last_event_id: Option<String>,
        auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
        max_sse_event_size: usize,
    ) -> Result<Events, RmcpError> {
        let outgoing = OutgoingMessage {
            uri,
            session_id,
            auth_header,
            custom_headers,
        };
        self.get(outgoing, last_event_id, max_sse_event_size).await
    }
}
