//! Streamable HTTP: rmcp's HTTP client, over bowline's.
//!
//! - [`request`]: what goes out.
//! - [`answer`]: what an answer means, by status and media type.
//! - [`body`]: answers read within bounds.
//! - [`events`]: answers that are event streams.
//! - [`holding`]: event streams that end with their response.
//! - [`strikes`]: event streams that are not worth resuming.

mod answer;
mod body;
mod events;
mod holding;
mod request;
mod strikes;

use std::collections::HashMap;
use std::sync::Arc;

use bowline_client::{AccessToken, Client};
use futures_util::stream::BoxStream;
use http::{HeaderName, HeaderValue, Method};
use rmcp::model::ClientJsonRpcMessage;
use rmcp::transport::streamable_http_client::{
    SseError, StreamableHttpClient, StreamableHttpClientTransport, StreamableHttpClientTransportConfig,
    StreamableHttpError, StreamableHttpPostResponse, StreamableHttpResponseLimits,
};
use sse_stream::Sse;

use crate::{Error, operation};
use answer::Asked;
use holding::Endings;
use request::Addressed;
use strikes::Strikes;

type Failure = StreamableHttpError<Error>;
type Events = BoxStream<'static, Result<Sse, SseError>>;

/// A transport to the MCP endpoint at `uri`, ready for rmcp's `serve`: every request carries `token`, and a
/// session-binding proof if the token demands one.
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
/// - Connections are kept. What is left of an answer nobody needs is read to its end, within bounds, so that an
///   HTTP/1.1 connection and its proof live on; for the same reason a response that comes as an event is handed on
///   when its stream has ended, 50 ms later at most. Dropping an event stream cancels it at once.
/// - No redirect is followed (CL-6): it is [`Kind::Redirect`](crate::Kind::Redirect).
/// - A refused session-binding proof is [`Kind::BindingRefused`](crate::Kind::BindingRefused), not `AuthRequired`:
///   authorizing again would not help.
/// - Custom headers may not replace `Content-Type`, the framing of the message, or the proof; `Authorization` only
///   where nothing else gives an access token.
/// - A GET takes `text/event-stream` and nothing else; a 404 to a GET or DELETE is `SessionExpired`.
/// - An event stream is given up once what follows the same event could not be read three times.
#[derive(Clone, Debug)]
pub struct StreamableHttp {
    client: Client,
    token: Option<AccessToken>,
    strikes: Strikes,
    endings: Endings,
}

impl StreamableHttp {
    /// A transport's client that carries what access token rmcp gives it, if any.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            token: None,
            strikes: Strikes::default(),
            endings: Endings::default(),
        }
    }

    /// Carries this access token, hashed once, instead of one from rmcp's `auth_header`; both are an error.
    #[must_use]
    pub fn token(mut self, token: AccessToken) -> Self {
        self.token = Some(token);
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
    pub fn transport_with(self, config: StreamableHttpClientTransportConfig) -> StreamableHttpClientTransport<Self> {
        StreamableHttpClientTransport::with_client(self, config)
    }

    async fn post(
        &self,
        to: Addressed,
        message: ClientJsonRpcMessage,
        limits: StreamableHttpResponseLimits,
    ) -> Result<StreamableHttpPostResponse, Failure> {
        let asked = Asked::of(&message, to.session_id.is_some(), self.endings.clone());
        let events = events::Opening {
            session_id: to.session_id.clone(),
            place: None,
            limit: limits.max_sse_event_size,
            strikes: self.strikes.clone(),
        };
        let body = serde_json::to_vec(&message)?;
        let request = to.request(Method::POST, operation::of(&message), body, self.token.as_ref())?;
        let response = self.client.send(request).await.map_err(failed)?;
        answer::to_post(response, asked, limits, events).await
    }

    async fn get(&self, to: Addressed, last_event_id: Option<String>, max_event: usize) -> Result<Events, Failure> {
        let place = self.strikes.place(to.session_id.as_deref(), last_event_id.as_deref());
        if self.strikes.are_out(place) {
            tracing::warn!("giving an event stream up: what the server sends after its last event cannot be read");
            // One of the few errors after which rmcp's worker does not try again for ever.
            return Err(StreamableHttpError::ServerDoesNotSupportSse);
        }
        let had_session = to.session_id.is_some();
        let events = events::Opening {
            session_id: to.session_id.clone(),
            place: Some(place),
            limit: max_event,
            strikes: self.strikes.clone(),
        };
        let request = to.resuming(last_event_id, self.token.as_ref())?;
        let response = self.client.send(request).await.map_err(failed)?;
        answer::to_get(response, had_session, events).await
    }

    async fn delete(&self, to: Addressed) -> Result<(), Failure> {
        let request = to.request(Method::DELETE, operation::SESSION_END, Vec::new(), self.token.as_ref())?;
        answer::to_delete(self.client.send(request).await.map_err(failed)?).await
    }
}

fn failed(error: bowline_client::Error) -> Failure {
    StreamableHttpError::Client(error.into())
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
        self.post(to, message, StreamableHttpResponseLimits::default()).await
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
        self.delete(Addressed::new(uri, Some(session_id), auth_header, custom_headers))
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
