//! What an answer means, by status and media type.

use std::borrow::Cow;

use bowline_client::Body;
use bowline_client::bind::BindingRefusal;
use bowline_transport::body;
use bowline_transport::head::{binding_error, content_type, has_media_type, shown_target};
use http::header::{LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::response::Parts;
use http::{Response, StatusCode, Version};
use http_body::Body as _;
use rmcp::model::{
    ClientJsonRpcMessage, ClientRequest, ErrorData, RequestId, ServerJsonRpcMessage,
};
use rmcp::transport::streamable_http_client::{
    AuthRequiredError, HttpStatusError, InsufficientScopeError, StreamableHttpError,
    StreamableHttpPostResponse, StreamableHttpResponseLimits,
};

use super::events::Opening;
use super::holding::Holding;
use super::request::SESSION_ID;
use super::{Events, Failure, client, unreadable};
use crate::error::Cause;

const JSON: &str = "application/json";
const EVENT_STREAM: &str = "text/event-stream";

/// As much of a body that is not JSON-RPC as an error message shows.
const PREVIEW: usize = 256;

/// What an answer to a POST depends on.
pub(super) struct Asked {
    had_session: bool,
    /// Whether a JSON-RPC response must come.
    awaits_response: bool,
    /// Whether the answer may open a session.
    opens_session: bool,
    /// The id of a `server/discover`.
    discover: Option<RequestId>,
}

impl Asked {
    pub(super) fn of(message: &ClientJsonRpcMessage, had_session: bool) -> Self {
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

    /// The session that the answer opens. rmcp's worker looks for none in other answers.
    ///
    /// # Errors
    /// `InvalidId`, if it has characters other than those of MCP's session ids; a space is let
    /// pass.
    fn session_id(&self, head: &Parts) -> Result<Option<String>, Failure> {
        let id = head.headers.get(SESSION_ID);
        let readable = id
            .and_then(|id| id.to_str().ok())
            .filter(|id| !id.contains('\t'));
        match (id, readable) {
            (Some(_), None) if self.opens_session => Err(client(Cause::InvalidId("session id"))),
            (_, readable) => Ok(readable.map(str::to_owned)),
        }
    }

    /// A server of an older revision may refuse `server/discover` in whatever way. rmcp's lifecycle
    /// falls back to `initialize` on a JSON-RPC error with the request's id, so it gets one.
    fn legacy(&self, status: StatusCode, said: Said<'_>) -> Option<StreamableHttpPostResponse> {
        if self.had_session || !status.is_client_error() || is_unauthorized(status) {
            return None;
        }
        let id = self.discover.clone()?;
        let error = match said {
            Said::JsonRpc(error) => error.clone(),
            Said::Text(text) => {
                let message =
                    format!("the server refused server/discover with HTTP {status}: {text}");
                ErrorData::invalid_request(message, None)
            }
        };
        let message = ServerJsonRpcMessage::error(error, Some(id));
        Some(StreamableHttpPostResponse::Json(message, None))
    }
}

/// What a server said with an error status.
#[derive(Clone, Copy)]
enum Said<'a> {
    JsonRpc(&'a ErrorData),
    Text(&'a str),
}

/// Reads the answer to a POST.
pub(super) async fn to_post(
    response: Response<Body>,
    asked: Asked,
    limits: StreamableHttpResponseLimits,
    events: Opening,
) -> Result<StreamableHttpPostResponse, Failure> {
    let (head, body) = response.into_parts();
    match head.status {
        StatusCode::ACCEPTED | StatusCode::NO_CONTENT => {
            body::discard(body).await;
            Ok(StreamableHttpPostResponse::Accepted)
        }
        status if status.is_success() => accepted(&head, body, &asked, limits, events).await,
        _ => match refusal(&head, asked.had_session) {
            Some(failure) => {
                body::discard(body).await;
                Err(failure)
            }
            None => refused(&head, body, &asked, limits).await,
        },
    }
}

/// Reads the answer to a GET.
pub(super) async fn to_get(
    response: Response<Body>,
    had_session: bool,
    events: Opening,
) -> Result<Events, Failure> {
    let (head, body) = response.into_parts();
    if head.status.is_success() && has_media_type(&head.headers, EVENT_STREAM) {
        return Ok(Box::pin(events.open(body, head.version)));
    }
    body::discard(body).await;
    Err(if head.status.is_success() {
        StreamableHttpError::UnexpectedContentType(content_type(&head.headers))
    } else if head.status == StatusCode::METHOD_NOT_ALLOWED {
        StreamableHttpError::ServerDoesNotSupportSse
    } else {
        refusal_without_text(&head, had_session)
    })
}

/// Reads the answer to a DELETE.
pub(super) async fn to_delete(response: Response<Body>) -> Result<(), Failure> {
    let (head, body) = response.into_parts();
    body::discard(body).await;
    if head.status.is_success() {
        return Ok(());
    }
    if head.status == StatusCode::METHOD_NOT_ALLOWED {
        tracing::debug!("the server does not let clients end sessions");
        return Ok(());
    }
    Err(refusal_without_text(&head, true))
}

/// Success, with something to read.
async fn accepted(
    head: &Parts,
    body: Body,
    asked: &Asked,
    limits: StreamableHttpResponseLimits,
    events: Opening,
) -> Result<StreamableHttpPostResponse, Failure> {
    // 202 is demanded here; some servers send an empty 200.
    if !asked.awaits_response && body.size_hint().exact() == Some(0) {
        return Ok(StreamableHttpPostResponse::Accepted);
    }
    if has_media_type(&head.headers, EVENT_STREAM) {
        let session_id = asked.session_id(head)?;
        let endings = events.endings.clone();
        let events = events.open(body, head.version);
        let events: Events = match head.version {
            Version::HTTP_2 => Box::pin(events),
            _ => Box::pin(Holding::new(events, endings)),
        };
        return Ok(StreamableHttpPostResponse::Sse(events, session_id));
    }
    if has_media_type(&head.headers, JSON) {
        let bytes = body::whole(body, limits.max_json_response_size)
            .await
            .map_err(unreadable)?;
        if let Some(learning) = &events.learning {
            learning.learn(&bytes);
        }
        return match serde_json::from_slice(&bytes) {
            Ok(message) => Ok(StreamableHttpPostResponse::Json(
                message,
                asked.session_id(head)?,
            )),
            Err(e) if asked.awaits_response => Err(unexpected(format!(
                "the reply is no JSON-RPC message: {e}: {}",
                preview(&bytes)
            ))),
            Err(_) => Ok(StreamableHttpPostResponse::Accepted),
        };
    }
    body::discard(body).await;
    if asked.awaits_response {
        Err(StreamableHttpError::UnexpectedContentType(content_type(
            &head.headers,
        )))
    } else {
        Ok(StreamableHttpPostResponse::Accepted)
    }
}

/// An error status whose body may say more.
async fn refused(
    head: &Parts,
    body: Body,
    asked: &Asked,
    limits: StreamableHttpResponseLimits,
) -> Result<StreamableHttpPostResponse, Failure> {
    let status = head.status;
    let text = if may_be_json_rpc(head) {
        match body::whole(body, limits.max_json_response_size)
            .await
            .map_err(unreadable)
        {
            Ok(bytes) => {
                if let Ok(message @ ServerJsonRpcMessage::Error(_)) = serde_json::from_slice(&bytes)
                {
                    return json_rpc_error(message, head, asked);
                }
                bytes[..bytes.len().min(limits.max_error_response_size)].to_vec()
            }
            Err(StreamableHttpError::Client(_)) => Vec::new(),
            Err(too_large) => return Err(status_error(head).unwrap_or(too_large)),
        }
    } else {
        body::prefix(body, limits.max_error_response_size).await
    };
    let text = String::from_utf8_lossy(&text);
    if let Some(response) = asked.legacy(status, Said::Text(&text)) {
        return Ok(response);
    }
    Err(status_error(head).unwrap_or_else(|| unexpected(format!("HTTP {status}: {text}"))))
}

fn json_rpc_error(
    message: ServerJsonRpcMessage,
    head: &Parts,
    asked: &Asked,
) -> Result<StreamableHttpPostResponse, Failure> {
    if let ServerJsonRpcMessage::Error(error) = &message
        && let Some(response) = asked.legacy(head.status, Said::JsonRpc(&error.error))
    {
        return Ok(response);
    }
    Ok(StreamableHttpPostResponse::Json(
        message,
        asked.session_id(head)?,
    ))
}

/// Whether the body of an error status is a message for the caller of the method. That of a 401 or
/// 403 is not: the status must not be lost.
fn may_be_json_rpc(head: &Parts) -> bool {
    has_media_type(&head.headers, JSON) && !is_unauthorized(head.status)
}

fn is_unauthorized(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
}

/// What a failure is where its body does not matter.
fn refusal(head: &Parts, had_session: bool) -> Option<Failure> {
    if head.status.is_redirection() {
        return Some(redirect(head));
    }
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

/// What a failure is where nobody reads its body.
fn refusal_without_text(head: &Parts, had_session: bool) -> Failure {
    refusal(head, had_session)
        .or_else(|| status_error(head))
        .unwrap_or_else(|| client(Cause::Status(head.status)))
}

fn challenge(head: &Parts) -> Option<Failure> {
    if let Some(refusal) = head.extensions.get::<BindingRefusal>() {
        return Some(client(Cause::BindingRefused(refusal.clone())));
    }
    let is_insufficient = match head.status {
        StatusCode::UNAUTHORIZED => {
            if let Some(error) = binding_error(&head.headers) {
                return Some(client(Cause::BindingUnmet(error)));
            }
            false
        }
        StatusCode::FORBIDDEN => true,
        _ => return None,
    };
    let Ok(text) = head.headers.get(WWW_AUTHENTICATE)?.to_str() else {
        return Some(unexpected("the WWW-Authenticate field is not readable"));
    };
    let text = text.to_owned();
    Some(if is_insufficient {
        let scope = scope(&text);
        StreamableHttpError::InsufficientScope(InsufficientScopeError::new(text, scope))
    } else {
        StreamableHttpError::AuthRequired(AuthRequiredError::new(text))
    })
}

/// The `scope` of a challenge, read as leniently as servers write it: RFC 6750 §3 demands quotes
/// that many leave out.
fn scope(challenge: &str) -> Option<String> {
    let mut rest = challenge;
    while let Some((before, after)) = rest.split_once('=') {
        let name = before
            .rsplit([' ', '\t', ',', ';'])
            .next()
            .unwrap_or_default();
        let (value, left) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_at(after.find([' ', '\t', ',', ';']).unwrap_or(after.len())),
        };
        if name.eq_ignore_ascii_case("scope") && !value.is_empty() {
            return Some(value.to_owned());
        }
        rest = left;
    }
    None
}

/// 429 and 5xx.
fn status_error(head: &Parts) -> Option<Failure> {
    if head.status != StatusCode::TOO_MANY_REQUESTS && !head.status.is_server_error() {
        return None;
    }
    let retry_after = head.headers.get(RETRY_AFTER);
    let retry_after = retry_after.and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
    let error = HttpStatusError::new(head.status.as_u16(), retry_after.map(str::to_owned));
    Some(StreamableHttpError::HttpStatus(error))
}

fn redirect(head: &Parts) -> Failure {
    let location = head
        .headers
        .get(LOCATION)
        .and_then(|value| value.to_str().ok());
    client(Cause::Redirect {
        status: head.status,
        location: location.and_then(shown_target),
    })
}

fn preview(bytes: &[u8]) -> String {
    match bytes {
        [] => "<empty>".to_owned(),
        _ => String::from_utf8_lossy(&bytes[..bytes.len().min(PREVIEW)]).into_owned(),
    }
}

fn unexpected(message: impl Into<Cow<'static, str>>) -> Failure {
    StreamableHttpError::UnexpectedServerResponse(message.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_found_however_it_is_written() {
        for (challenge, found) in [
            (
                r#"Bearer error="insufficient_scope", scope="a:r a:w""#,
                Some("a:r a:w"),
            ),
            ("Bearer SCOPE=a:r, error=insufficient_scope", Some("a:r")),
            ("Bearer error=x;scope=a:r;b=c", Some("a:r")),
            (
                r#"Bearer error_description="needs scope=a", scope="b""#,
                Some("b"),
            ),
            (r#"Bearer x_scope="a", scope=b"#, Some("b")),
            (r#"Bearer scope="""#, None),
            (r#"Bearer scope="a"#, None),
            ("Basic abc==", None),
            ("Bearer", None),
            ("=", None),
            ("", None),
        ] {
            assert_eq!(scope(challenge).as_deref(), found, "{challenge}");
        }
    }
}
