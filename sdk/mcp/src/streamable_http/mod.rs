//! Streamable HTTP: rmcp's HTTP client, over bowline's.
//!
//! - [`request`]: what goes out.
//! - [`sending`]: with which access token, and where to.
//! - [`answer`]: what an answer means, by status and media type.
//! - [`events`]: answers that are event streams.
//! - [`holding`]: event streams that end with their response.
//! - [`strikes`]: event streams that are not worth resuming.

mod answer;
mod events;
mod holding;
mod request;
mod sending;
mod strikes;

use std::collections::HashMap;
use std::sync::Arc;

use bowline_client::{AccessToken, Client};
use bowline_token::{TokenSource, new_source_id};
use bowline_transport::RequestBoundCalls;
use bowline_transport::body::WholeError;
use futures_util::stream::BoxStream;
use http::{HeaderName, HeaderValue, Method};
use rmcp::model::ClientJsonRpcMessage;
use rmcp::transport::streamable_http_client::{
    SseError, StreamableHttpClient, StreamableHttpClientTransport,
    StreamableHttpClientTransportConfig, StreamableHttpError, StreamableHttpPostResponse,
    StreamableHttpResponseLimits,
};
use sse_stream::Sse;

use crate::claims::Claims;
use crate::error::Cause;
use crate::{Error, operation};
use answer::Asked;
use events::{Learning, Opening};
use holding::Endings;
use request::Addressed;
use sending::{Credential, Own};
use strikes::{Strikes, Verdict};

type Failure = StreamableHttpError<Error>;
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
/// It does what rmcp's reqwest client does, but for these:
/// - Connections are kept. What is left of an answer nobody needs is read to its end, within
///   bounds, so that an HTTP/1.1 connection and its proof live on; for the same reason a response
///   that comes as an event is handed on when its stream has ended, 50 ms later at most, and what
///   follows it is read when the stream is dropped (64 KiB, 1 s). Dropping an event stream before
///   its response cancels it at once.
/// - A redirect that is not followed is [`ErrorKind::Redirect`](crate::ErrorKind::Redirect), and says where
///   it leads. Like rmcp's client it follows a 307 or 308 to the same origin, ten times (CL-6).
/// - A refused session-binding proof is [`ErrorKind::BindingRefused`](crate::ErrorKind::BindingRefused), not
///   `AuthRequired`: authorizing again would not help.
/// - Custom headers may not replace `Content-Type`, the framing of the message, or the proof;
///   `Authorization` only where nothing else gives an access token.
/// - A GET takes `text/event-stream` and nothing else; a 404 to a GET or DELETE is
///   `SessionExpired`.
/// - An event stream is given up once what follows the same event was too long, could not be read
///   three times, or was cut off ten times in a row before anything came; until then each further
///   try waits a little longer, up to a second.
/// - A session id or event id with control characters is an error.
#[derive(Clone, Debug)]
pub struct StreamableHttp {
    client: Client,
    credential: Credential,
    claims: Claims,
    strikes: Strikes,
    endings: Endings,
}

impl StreamableHttp {
    /// A transport's client that carries what access token rmcp gives it, if any.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            credential: Credential::Theirs(new_source_id()),
            claims: Claims::default(),
            strikes: Strikes::default(),
            endings: Endings::default(),
        }
    }

    /// Carries this access token, hashed once, instead of one from rmcp's `auth_header`; both are
    /// an error.
    #[must_use]
    pub fn token(mut self, token: AccessToken) -> Self {
        self.credential = Credential::Fixed(token);
        self
    }

    /// Carries the access tokens of this source, each as long as it lasts, instead of one from
    /// rmcp's `auth_header`; both are an error. They go to the origin of the first request, and to
    /// no other (CL-6).
    ///
    /// A request that is refused with `invalid_token` is sent once more, if the source has another
    /// token; rmcp's `AuthRequired` comes only of a refusal after that.
    #[must_use]
    pub fn source(mut self, source: impl TokenSource) -> Self {
        self.credential = Credential::Source(Own::new(source));
        self
    }

    /// Proves these calls one by one, with `htm`, `htu` and `jti` (PR-6): by method (`tools/call`),
    /// by what a method is applied to (the name of a tool or prompt, the URI of a resource), or
    /// because the tool may destroy something.
    ///
    /// A tool may, unless the server last listed it with `readOnlyHint`, or with a
    /// `destructiveHint` that says no. That is MCP's default, and holds for a tool that was never
    /// listed. The hints are the server's own, and so is the harm if they are wrong.
    #[must_use]
    pub fn request_bound_calls(mut self, claims: RequestBoundCalls) -> Self {
        self.claims = Claims::new(claims);
        self
    }

    /// A transport to the endpoint at `uri`, with rmcp's defaults.
    ///
    /// # Panics
    /// Outside a tokio runtime, on which rmcp starts the transport's worker.
    pub fn transport(self, uri: impl Into<Arc<str>>) -> StreamableHttpClientTransport<Self> {
        self.transport_with(StreamableHttpClientTransportConfig::with_uri(uri))
    }

    /// A transport as rmcp's configuration has it.
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
        to: Addressed,
        message: ClientJsonRpcMessage,
        limits: StreamableHttpResponseLimits,
    ) -> Result<StreamableHttpPostResponse, Failure> {
        let asked = Asked::of(&message, to.session_id.is_some());
        let endpoint = to.uri.clone();
        let learns = self.claims.can_learn_from(&message);
        let events = self.opening(&to, None, limits.max_sse_event_size, learns);
        let body = serde_json::to_vec(&message)?;
        let mut request = to.request(
            Method::POST,
            operation::of(&message),
            body,
            &self.credential,
        )?;
        self.claims
            .mark(&endpoint, &message, request.extensions_mut());
        let response = sending::send(&self.client, &self.credential, request).await?;
        answer::to_post(response, asked, limits, events).await
    }

    async fn get(
        &self,
        to: Addressed,
        last_event_id: Option<String>,
        max_event: usize,
    ) -> Result<Events, Failure> {
        let place = self
            .strikes
            .place(to.session_id.as_deref(), last_event_id.as_deref());
        match self.strikes.verdict(place) {
            Verdict::After(pause) => tokio::time::sleep(pause).await,
            Verdict::Out => {
                tracing::warn!(
                    "giving an event stream up: the server cuts it off, or what it sends cannot be read"
                );
                // One of the few errors after which rmcp's worker does not try again for ever.
                return Err(StreamableHttpError::ServerDoesNotSupportSse);
            }
        }
        let had_session = to.session_id.is_some();
        let learns = last_event_id.is_some() && self.claims.can_learn();
        let events = self.opening(&to, Some(place), max_event, learns);
        let request = to.resuming(last_event_id, &self.credential)?;
        let response = sending::send(&self.client, &self.credential, request).await?;
        answer::to_get(response, had_session, events).await
    }

    async fn delete(&self, to: Addressed) -> Result<(), Failure> {
        let request = to.request(
            Method::DELETE,
            operation::SESSION_END,
            Vec::new(),
            &self.credential,
        )?;
        answer::to_delete(sending::send(&self.client, &self.credential, request).await?).await
    }

    fn opening(
        &self,
        to: &Addressed,
        place: Option<strikes::Place>,
        limit: usize,
        learns: bool,
    ) -> Opening {
        Opening {
            session_id: to.session_id.clone(),
            place,
            limit,
            strikes: self.strikes.clone(),
            endings: self.endings.clone(),
            learning: learns.then(|| Learning {
                claims: self.claims.clone(),
                endpoint: to.uri.clone(),
            }),
        }
    }
}

fn failed(error: impl Into<Error>) -> Failure {
    StreamableHttpError::Client(error.into())
}

fn unreadable(error: WholeError) -> Failure {
    match error {
        WholeError::TooLarge { limit } => {
            StreamableHttpError::ResponseBodyTooLarge { max_size: limit }
        }
        WholeError::Client(e) => failed(e),
        // The adapters' crate may learn further ones.
        other => StreamableHttpError::UnexpectedServerResponse(other.to_string().into()),
    }
}

fn client(cause: Cause) -> Failure {
    failed(cause)
}

impl StreamableHttpClient for StreamableHttp {
    type Error = Error;

    async fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<StreamableHttpPostResponse, Failure> {
        let to = Addressed::new(uri, session_id, auth_header, custom_headers);
        self.post(to, message, StreamableHttpResponseLimits::default())
            .await
    }

    async fn post_message_with_max_sse_event_size(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
        max_sse_event_size: usize,
    ) -> Result<StreamableHttpPostResponse, Failure> {
        let mut limits = StreamableHttpResponseLimits::default();
        limits.max_sse_event_size = max_sse_event_size;
        let to = Addressed::new(uri, session_id, auth_header, custom_headers);
        self.post(to, message, limits).await
    }

    async fn post_message_with_response_limits(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
        limits: StreamableHttpResponseLimits,
    ) -> Result<StreamableHttpPostResponse, Failure> {
        let to = Addressed::new(uri, session_id, auth_header, custom_headers);
        self.post(to, message, limits).await
    }

    async fn delete_session(
        &self,
        uri: Arc<str>,
        session_id: Arc<str>,
        auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<(), Failure> {
        self.delete(Addressed::new(
            uri,
            Some(session_id),
            auth_header,
            custom_headers,
        ))
        .await
    }

    async fn get_stream(
        &self,
        uri: Arc<str>,
        session_id: Option<Arc<str>>,
        last_event_id: Option<String>,
        auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<Events, Failure> {
        let max_event = StreamableHttpResponseLimits::default().max_sse_event_size;
        let to = Addressed::new(uri, session_id, auth_header, custom_headers);
        self.get(to, last_event_id, max_event).await
    }

    async fn get_stream_with_max_sse_event_size(
        &self,
        uri: Arc<str>,
        session_id: Option<Arc<str>>,
        last_event_id: Option<String>,
        auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
        max_sse_event_size: usize,
    ) -> Result<Events, Failure> {
        let to = Addressed::new(uri, session_id, auth_header, custom_headers);
        self.get(to, last_event_id, max_sse_event_size).await
    }
}
