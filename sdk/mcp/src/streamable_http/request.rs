//! What goes out: rmcp's parameters as an HTTP request.

use std::collections::HashMap;
use std::sync::Arc;

use bowline_client::bind::TokenSourceId;
use bowline_client::{AccessToken, Operation};
use bowline_proof::PROOF_HEADER;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Uri, header};
use http_body_util::Full;
use rmcp::transport::streamable_http_client::StreamableHttpError;

use super::{Credential, Failure, client};
use crate::error::Cause;
use crate::operation;

pub(super) const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// What the transport writes itself, and what frames the message.
///
/// `MCP-Protocol-Version`, `Mcp-Method`, `Mcp-Name` and `Mcp-Param-*` are not among them: rmcp's
/// worker passes those as custom headers.
const RESERVED: [HeaderName; 7] = [
    header::ACCEPT,
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    SESSION_ID,
    LAST_EVENT_ID,
    PROOF_HEADER,
];

/// In bytes. Servers take no fields that are much longer.
const MAX_ID: usize = 8 * 1024;

/// To whom a request goes, and on whose behalf, as rmcp's worker has it.
pub(super) struct Addressed {
    pub(super) uri: Arc<str>,
    pub(super) session_id: Option<Arc<str>>,
    auth_header: Option<String>,
    custom_headers: HashMap<HeaderName, HeaderValue>,
}

impl Addressed {
    pub(super) fn new(
        uri: Arc<str>,
        session_id: Option<Arc<str>>,
        auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
    ) -> Self {
        Self {
            uri,
            session_id,
            auth_header,
            custom_headers,
        }
    }

    /// A POST or a DELETE, with the access token that rmcp or `own` gives.
    pub(super) fn request(
        self,
        method: Method,
        operation: Operation,
        body: Vec<u8>,
        own: &Credential,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let token = self.token(own)?;
        let has_token = token.is_some() || matches!(own, Credential::Source(_));
        let is_post = method == Method::POST;
        let mut request = Request::new(Full::from(body));
        *request.method_mut() = method;
        *request.uri_mut() =
            Uri::try_from(&*self.uri).map_err(|e| client(Cause::InvalidEndpoint(e)))?;
        for (name, value) in self.custom_headers {
            let is_second_credential = name == header::AUTHORIZATION && has_token;
            if RESERVED.contains(&name) || is_second_credential {
                return Err(StreamableHttpError::ReservedHeaderConflict(
                    name.to_string(),
                ));
            }
            request.headers_mut().insert(name, value);
        }
        if let Some(session_id) = &self.session_id {
            let value = id("session id", session_id)?;
            request.headers_mut().insert(SESSION_ID, value);
        }
        if is_post {
            let headers = request.headers_mut();
            headers.insert(
                header::ACCEPT,
                HeaderValue::from_static("application/json, text/event-stream"),
            );
            headers.insert(
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/json"),
            );
        }
        request.extensions_mut().insert(operation);
        if let Some((token, source)) = token {
            request.extensions_mut().insert(token);
            if let Some(source) = source {
                request.extensions_mut().insert(source);
            }
        }
        Ok(request)
    }

    /// A GET that opens an event stream, after the event `last_event_id` where there was one.
    pub(super) fn resuming(
        self,
        last_event_id: Option<String>,
        own: &Credential,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let mut request = self.request(Method::GET, operation::EVENT_STREAM, Vec::new(), own)?;
        let headers = request.headers_mut();
        headers.insert(
            header::ACCEPT,
            HeaderValue::from_static("text/event-stream"),
        );
        if let Some(last_event_id) = last_event_id {
            headers.insert(LAST_EVENT_ID, id("event id", &last_event_id)?);
        }
        Ok(request)
    }

    /// The token that is known beforehand, and whose successors count as such.
    fn token(
        &self,
        own: &Credential,
    ) -> Result<Option<(AccessToken, Option<TokenSourceId>)>, Failure> {
        match (own, &self.auth_header) {
            (Credential::Theirs(source), Some(text)) => {
                let token =
                    AccessToken::new(text.as_str()).map_err(|e| client(Cause::InvalidToken(e)))?;
                Ok(Some((token, Some(*source))))
            }
            (_, Some(_)) => Err(client(Cause::TwoTokens)),
            (Credential::Fixed(token), None) => Ok(Some((token.clone(), None))),
            (Credential::Theirs(_) | Credential::Source(_), None) => Ok(None),
        }
    }
}

/// An id that the server chose, as a field value. Event ids may hold any UTF-8 (HTML, "server-sent
/// events").
fn id(what: &'static str, text: &str) -> Result<HeaderValue, Failure> {
    let value = HeaderValue::from_bytes(text.as_bytes()).ok();
    let value = value.filter(|value| value.len() <= MAX_ID);
    value.ok_or_else(|| client(Cause::InvalidId(what)))
}

/// Whether a stream could be resumed after the event with this id.
pub(super) fn can_resume_after(event_id: &str) -> bool {
    id("event id", event_id).is_ok()
}
