//! Interprets responses by status and media type.

use std::borrow::Cow;

use bowline_http_client::Body;
use bowline_http_client::bind::BindingRefusal;
use bowline_transport::body::{self, WholeError};
use bowline_transport::head::{binding_error, content_type, has_media_type};
use bowline_transport::redact::SentTokens;
use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use http::response::Parts;
use http::{HeaderMap, Response, StatusCode, Version};
use http_body::Body as _;
use rmcp::model::{
    ClientJsonRpcMessage, ClientRequest, ErrorData, RequestId, ServerJsonRpcMessage,
};
use rmcp::transport::streamable_http_client::{
    AuthRequiredError, HttpStatusError, InsufficientScopeError, StreamableHttpError,
    StreamableHttpPostResponse, StreamableHttpResponseLimits,
};

use super::events::StreamContext;
use super::request::SESSION_ID;
use super::stream_end::hold_response;
use super::{Events, RmcpError, body_error, client_error};
use crate::error::{Cause, UNEXPECTED_STATUS};
use crate::redact::RedactMessage;

const JSON: &str = "application/json";
const EVENT_STREAM: &str = "text/event-stream";

/// Maximum number of bytes of a body that is not JSON-RPC in an error message.
const MAX_PREVIEW: usize = 256;

/// What kind of message a POST carries; its response is read accordingly.
pub(super) struct RequestKind {
    had_session: bool,
    /// Whether a JSON-RPC response must come.
    awaits_response: bool,
    /// Whether the response may open a session.
    opens_session: bool,
    /// The id of a `server/discover`.
    discover: Option<RequestId>,
}

impl RequestKind {
    pub(super) fn from_message(message: &ClientJsonRpcMessage, had_session: bool) -> Self {
        let request = match message {
            ClientJsonRpcMessage::Request(request) => Some(request),
            _ => None,
        };
        let discover = request.filter(|r| matches!(r.request, ClientRequest::DiscoverRequest(_)));
        Self {
            had_session,
            awaits_response: request.is_some(),
            opens_session: request
                .is_some_and(|r| matches!(r.request, ClientRequest::InitializeRequest(_))),
            discover: discover.map(|r| r.id.clone()),
        }
    }

    /// The session that the response opens. rmcp's worker ignores the id in other responses.
    ///
    /// # Errors
    /// `InvalidId`, if the id has characters that MCP does not allow in session ids. A space is
    /// accepted.
    fn session_id(&self, head: &Parts) -> Result<Option<String>, RmcpError> {
        let id = head.headers.get(SESSION_ID);
        let readable = id
            .and_then(|id| id.to_str().ok())
            .filter(|id| !id.contains('\t'));
        match (id, readable) {
            (Some(_), None) if self.opens_session => {
                Err(client_error(Cause::InvalidId("session id")))
            }
            (_, readable) => Ok(readable.map(str::to_owned)),
        }
    }

    /// A server of an older revision may refuse `server/discover` in any way. rmcp falls back to
    /// `initialize` if it gets a JSON-RPC error with the request's id, so this returns one.
    fn discover_refused(
        &self,
        status: StatusCode,
        text: ErrorText<'_>,
    ) -> Option<StreamableHttpPostResponse> {
        if self.had_session || !status.is_client_error() || is_unauthorized(status) {
            return None;
        }
        let id = self.discover.clone()?;
        let error = match text {
            ErrorText::JsonRpc(error) => error.clone(),
            ErrorText::Plain(text) => {
                let message =
                    format!("the server refused server/discover with HTTP {status}: {text}");
                ErrorData::invalid_request(message, None)
            }
        };
        let message = ServerJsonRpcMessage::error(error, Some(id));
        Some(StreamableHttpPostResponse::Json(message, None))
    }
}

/// What the server sent with an error status.
#[derive(Clone, Copy)]
enum ErrorText<'a> {
    JsonRpc(&'a ErrorData),
    Plain(&'a str),
}

/// Reads the response to a POST.
pub(super) async fn read_post(
    response: Response<Body>,
    kind: RequestKind,
    limits: StreamableHttpResponseLimits,
    context: StreamContext,
) -> Result<StreamableHttpPostResponse, RmcpError> {
    let (mut head, body) = response.into_parts();
    context.sent.redact_fields(&mut head.headers);
    match head.status {
        StatusCode::ACCEPTED | StatusCode::NO_CONTENT => {
            body::discard(body).await;
            Ok(StreamableHttpPostResponse::Accepted)
        }
        status if status.is_success() => success(&head, body, &kind, limits, context).await,
        _ => match failure(&head, kind.had_session) {
            Some(error) => {
                body::discard(body).await;
                Err(error)
            }
            None => read_error(&head, body, &kind, limits, &context.sent).await,
        },
    }
}

/// Reads the response to a GET.
pub(super) async fn read_get(
    response: Response<Body>,
    had_session: bool,
    context: StreamContext,
) -> Result<Events, RmcpError> {
    let (mut head, body) = response.into_parts();
    context.sent.redact_fields(&mut head.headers);
    if head.status.is_success() && has_media_type(&head.headers, EVENT_STREAM) {
        return Ok(Box::pin(context.open(body, head.version)));
    }
    body::discard(body).await;
    Err(if head.status.is_success() {
        StreamableHttpError::UnexpectedContentType(content_type(&head.headers))
    } else if head.status == StatusCode::METHOD_NOT_ALLOWED {
        StreamableHttpError::ServerDoesNotSupportSse
    } else {
        failure_by_head(&head, had_session)
    })
}

/// Reads the response to a DELETE.
pub(super) async fn read_delete(
    response: Response<Body>,
    sent: &SentTokens,
) -> Result<(), RmcpError> {
    let (mut head, body) = response.into_parts();
    sent.redact_fields(&mut head.headers);
    body::discard(body).await;
    if head.status.is_success() {
        return Ok(());
    }
    if head.status == StatusCode::METHOD_NOT_ALLOWED {
        tracing::debug!("the server does not let clients end sessions");
        return Ok(());
    }
    Err(failure_by_head(&head, true))
}

/// Reads the body of a success.
async fn success(
    head: &Parts,
    body: Body,
    kind: &RequestKind,
    limits: StreamableHttpResponseLimits,
    context: StreamContext,
) -> Result<StreamableHttpPostResponse, RmcpError> {
    // MCP demands 202 here; some servers send an empty 200.
    if !kind.awaits_response && body.size_hint().exact() == Some(0) {
        return Ok(StreamableHttpPostResponse::Accepted);
    }
    if has_media_type(&head.headers, EVENT_STREAM) {
        let session_id = kind.session_id(head)?;
        let ends = context.ends.clone();
        let events = context.open(body, head.version);
        let events: Events = match head.version {
            Version::HTTP_2 => Box::pin(events),
            _ => Box::pin(hold_response(events, ends)),
        };
        return Ok(StreamableHttpPostResponse::Sse(events, session_id));
    }
    if has_media_type(&head.headers, JSON) {
        let bytes = body::whole(body, limits.max_json_response_size)
            .await
            .map_err(body_error)?;
        if let Some(tools) = &context.tools {
            tools.record(body::without_mark(&bytes));
        }
        return match serde_json::from_slice(body::without_mark(&bytes)) {
            Ok(mut message) => {
                context.sent.redact_message(&mut message);
                let session_id = kind.session_id(head)?;
                Ok(StreamableHttpPostResponse::Json(message, session_id))
            }
            Err(e) if kind.awaits_response => Err(unexpected(format!(
                "the reply is no JSON-RPC message: {}: {}",
                context.sent.printable(&e.to_string()),
                preview(&bytes, &context.sent)
            ))),
            Err(_) => Ok(StreamableHttpPostResponse::Accepted),
        };
    }
    body::discard(body).await;
    if kind.awaits_response {
        Err(StreamableHttpError::UnexpectedContentType(content_type(
            &head.headers,
        )))
    } else {
        Ok(StreamableHttpPostResponse::Accepted)
    }
}

/// Reads the body of an error status.
async fn read_error(
    head: &Parts,
    body: Body,
    kind: &RequestKind,
    limits: StreamableHttpResponseLimits,
    sent: &SentTokens,
) -> Result<StreamableHttpPostResponse, RmcpError> {
    let status = head.status;
    let text = if may_be_json_rpc(head) {
        match body::whole(body, limits.max_json_response_size).await {
            Ok(bytes) => {
                if let Ok(mut message @ ServerJsonRpcMessage::Error(_)) =
                    serde_json::from_slice(body::without_mark(&bytes))
                {
                    sent.redact_message(&mut message);
                    return json_rpc_error(message, head, kind);
                }
                bytes[..bytes.len().min(limits.max_error_response_size)].to_vec()
            }
            Err(WholeError::Client(_)) => Vec::new(),
            Err(e @ WholeError::TimedOut(_)) => e.to_string().into(),
            Err(e) => return Err(status_error(head).unwrap_or(body_error(e))),
        }
    } else {
        body::prefix(body, limits.max_error_response_size).await
    };
    let text = sent.printable(&String::from_utf8_lossy(&text));
    if let Some(response) = kind.discover_refused(status, ErrorText::Plain(&text)) {
        return Ok(response);
    }
    Err(status_error(head)
        .unwrap_or_else(|| unexpected(format!("{UNEXPECTED_STATUS}{status}: {text}"))))
}

fn json_rpc_error(
    message: ServerJsonRpcMessage,
    head: &Parts,
    kind: &RequestKind,
) -> Result<StreamableHttpPostResponse, RmcpError> {
    if let ServerJsonRpcMessage::Error(error) = &message
        && let Some(response) = kind.discover_refused(head.status, ErrorText::JsonRpc(&error.error))
    {
        return Ok(response);
    }
    Ok(StreamableHttpPostResponse::Json(
        message,
        kind.session_id(head)?,
    ))
}

/// Whether the body of an error status may be a JSON-RPC message. For 401 and 403 it is not read as
/// one, because the status must not be lost.
fn may_be_json_rpc(head: &Parts) -> bool {
    has_media_type(&head.headers, JSON) && !is_unauthorized(head.status)
}

fn is_unauthorized(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
}

/// The error for a response that is no success, where the head alone decides.
fn failure(head: &Parts, had_session: bool) -> Option<RmcpError> {
    if let Some(challenge) = challenge(head) {
        return Some(challenge);
    }
    if head.status == StatusCode::NOT_FOUND && had_session {
        return Some(StreamableHttpError::SessionExpired);
    }
    status_error(head).filter(|_| {
        head.status == StatusCode::TOO_MANY_REQUESTS || !has_media_type(&head.headers, JSON)
    })
}

/// The error for a response that is no success and whose body is not read.
fn failure_by_head(head: &Parts, had_session: bool) -> RmcpError {
    failure(head, had_session)
        .or_else(|| status_error(head))
        .unwrap_or_else(|| client_error(Cause::Status(head.status)))
}

fn challenge(head: &Parts) -> Option<RmcpError> {
    if let Some(refusal) = head.extensions.get::<BindingRefusal>() {
        return Some(client_error(Cause::BindingRefused(refusal.clone())));
    }
    let is_insufficient = match head.status {
        StatusCode::UNAUTHORIZED => {
            if let Some(error) = binding_error(&head.headers) {
                return Some(client_error(Cause::BindingUnmet(error)));
            }
            false
        }
        StatusCode::FORBIDDEN => true,
        _ => return None,
    };
    let text = all_lines(&head.headers)?;
    Some(if is_insufficient {
        let scope = scope(&head.headers);
        StreamableHttpError::InsufficientScope(InsufficientScopeError::new(text, scope))
    } else {
        StreamableHttpError::AuthRequired(AuthRequiredError::new(text))
    })
}

/// The `scope` of the first challenge of a scheme for access tokens that has one.
fn scope(headers: &HeaderMap) -> Option<String> {
    let challenges = bowline_proof::challenges(headers);
    let mut for_tokens = challenges
        .iter()
        .filter(|challenge| challenge.is_for_tokens());
    let scope = for_tokens.find_map(|challenge| challenge.param("scope").filter(|s| !s.is_empty()));
    scope.map(str::to_owned)
}

/// The whole list of challenges, as one field value: rmcp takes one. `obs-text` that is not UTF-8
/// becomes U+FFFD.
fn all_lines(headers: &HeaderMap) -> Option<String> {
    let lines: Vec<_> = headers
        .get_all(WWW_AUTHENTICATE)
        .iter()
        .map(|line| String::from_utf8_lossy(line.as_bytes()))
        .collect();
    (!lines.is_empty()).then(|| lines.join(", "))
}

/// 429 and 5xx.
fn status_error(head: &Parts) -> Option<RmcpError> {
    if head.status != StatusCode::TOO_MANY_REQUESTS && !head.status.is_server_error() {
        return None;
    }
    let retry_after = head.headers.get(RETRY_AFTER);
    let retry_after = retry_after.and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
    let error = HttpStatusError::new(head.status.as_u16(), retry_after.map(str::to_owned));
    Some(StreamableHttpError::HttpStatus(error))
}

fn preview(bytes: &[u8], sent: &SentTokens) -> String {
    match bytes {
        [] => "<empty>".to_owned(),
        _ => sent.printable(&String::from_utf8_lossy(
            &bytes[..bytes.len().min(MAX_PREVIEW)],
        )),
    }
}

fn unexpected(message: impl Into<Cow<'static, str>>) -> RmcpError {
    StreamableHttpError::UnexpectedServerResponse(message.into())
}

#[cfg(test)]
mod tests;
