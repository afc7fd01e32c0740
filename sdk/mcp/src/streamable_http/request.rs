//! Builds HTTP requests from what rmcp's worker passes.

use std::collections::HashMap;
use std::sync::Arc;

use bowline_http_client::{AccessToken, Operation};
use bowline_proof::PROOF_HEADER;
use bowline_transport::credential::Credential;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Uri, header};
use http_body_util::Full;
use rmcp::transport::streamable_http_client::StreamableHttpError;

use super::{RmcpError, client_error};
use crate::error::Cause;
use crate::operation;

pub(super) const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Header fields that the transport writes itself, or that frame the message.
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

/// Maximum length of an id in bytes. Servers accept no fields that are much longer.
const MAX_ID: usize = 8 * 1024;

/// Where a message goes and the headers that rmcp's worker passes with it.
pub(super) struct OutgoingMessage {
    pub(super) uri: Arc<str>,
    pub(super) session_id: Option<Arc<str>>,
    pub(super) auth_header: Option<String>,
    pub(super) custom_headers: HashMap<HeaderName, HeaderValue>,
}

impl OutgoingMessage {
    /// A POST or a DELETE, with the access token of rmcp's `auth_header` or of `credential`.
    pub(super) fn request(
        self,
        method: Method,
        operation: Operation,
        body: Vec<u8>,
        credential: &Credential,
    ) -> Result<Request<Full<Bytes>>, RmcpError> {
        let given = self.auth_header.as_deref().map(AccessToken::new);
        let given = given
            .transpose()
            .map_err(|e| client_error(Cause::InvalidToken(e)))?;
        let has_token = given.is_some() || credential.has_token();
        let is_post = method == Method::POST;
        let mut request = Request::new(Full::from(body));
        *request.method_mut() = method;
        *request.uri_mut() =
            Uri::try_from(&*self.uri).map_err(|e| client_error(Cause::InvalidEndpoint(e)))?;
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
            let value = id_value("session id", session_id)?;
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
        credential
            .attach_to(given, request.extensions_mut())
            .map_err(|_| client_error(Cause::TwoTokens))?;
        Ok(request)
    }

    /// A GET that opens an event stream, or resumes it after the event `last_event_id`.
    pub(super) fn event_stream_request(
        self,
        last_event_id: Option<String>,
        credential: &Credential,
    ) -> Result<Request<Full<Bytes>>, RmcpError> {
        let mut request =
            self.request(Method::GET, operation::EVENT_STREAM, Vec::new(), credential)?;
        let headers = request.headers_mut();
        headers.insert(
            header::ACCEPT,
            HeaderValue::from_static("text/event-stream"),
        );
        if let Some(last_event_id) = last_event_id {
            headers.insert(LAST_EVENT_ID, id_value("event id", &last_event_id)?);
        }
        Ok(request)
    }
}

/// An id that the server chose, as a field value. Event ids may hold any UTF-8 (HTML, "server-sent
/// events").
fn id_value(what: &'static str, text: &str) -> Result<HeaderValue, RmcpError> {
    let value = HeaderValue::from_bytes(text.as_bytes()).ok();
    let value = value.filter(|value| value.len() <= MAX_ID);
    value.ok_or_else(|| client_error(Cause::InvalidId(what)))
}

/// Whether a `Last-Event-ID` field can carry this id.
pub(super) fn can_resume_after(event_id: &str) -> bool {
    id_value("event id", event_id).is_ok()
}
