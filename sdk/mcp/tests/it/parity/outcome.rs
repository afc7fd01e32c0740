//! Describes the outcome of a request in the same words for both clients.

use futures_util::StreamExt;
use rmcp::model::{RequestId, ServerJsonRpcMessage};
use rmcp::transport::streamable_http_client::{
    SseError, StreamableHttpError, StreamableHttpPostResponse,
};
use sse_stream::Sse;

use crate::scripted::soon;

/// The error of an HTTP client.
pub(crate) trait ErrorText: std::error::Error + Send + Sync + 'static {
    fn text(&self) -> String;
}

impl ErrorText for reqwest::Error {
    fn text(&self) -> String {
        match self.status() {
            Some(status) => format!("HTTP {}", status.as_u16()),
            None if self.is_redirect() => "too many redirects".to_owned(),
            None => "request failed".to_owned(),
        }
    }
}

impl ErrorText for bowline_mcp::Error {
    fn text(&self) -> String {
        match self.kind() {
            bowline_mcp::ErrorKind::Status(status) => format!("HTTP {}", status.as_u16()),
            bowline_mcp::ErrorKind::Redirect if self.to_string().contains("more than") => {
                "too many redirects".to_owned()
            }
            bowline_mcp::ErrorKind::Client(kind) => format!("{kind:?}"),
            kind => format!("{kind:?}"),
        }
    }
}

pub(crate) async fn of_post<E: ErrorText>(
    posted: Result<StreamableHttpPostResponse, StreamableHttpError<E>>,
) -> String {
    match posted {
        Ok(StreamableHttpPostResponse::Accepted) => "accepted".to_owned(),
        Ok(StreamableHttpPostResponse::Json(message, session)) => {
            format!("{}{}", said(&message), of_session(session))
        }
        Ok(StreamableHttpPostResponse::Sse(events, session)) => {
            format!("{}{}", of_events(events).await, of_session(session))
        }
        Ok(other) => format!("{other:?}"),
        Err(e) => of_error(&e),
    }
}

/// The events, up to the end or an error.
pub(crate) async fn of_events(
    events: impl StreamExt<Item = Result<Sse, SseError>> + Unpin,
) -> String {
    let mut words = vec!["events".to_owned()];
    let mut events = events;
    while let Some(event) = soon(events.next()).await {
        words.push(match event {
            Ok(event) => {
                let id = event.id.map(|id| format!("#{id} ")).unwrap_or_default();
                let retry = event
                    .retry
                    .map(|retry| format!("retry {retry} "))
                    .unwrap_or_default();
                format!("{id}{retry}{:?}", event.data.unwrap_or_default())
            }
            Err(e) => of_stream_error(&e),
        });
    }
    words.join(" ")
}

fn of_stream_error(error: &SseError) -> String {
    match error {
        SseError::Body(e)
            if e.to_string().contains("maximum size") || e.to_string().contains("more than") =>
        {
            "(too long)".to_owned()
        }
        SseError::Body(_) => "(cut off)".to_owned(),
        SseError::Utf8Parse(_) => "(not UTF-8)".to_owned(),
        SseError::InvalidLine => "(invalid line)".to_owned(),
        other => format!("({other})"),
    }
}

fn said(message: &ServerJsonRpcMessage) -> String {
    match message {
        ServerJsonRpcMessage::Response(_) => "result".to_owned(),
        ServerJsonRpcMessage::Error(error) => {
            let id = match &error.id {
                Some(RequestId::Number(id)) => format!(" for {id}"),
                Some(RequestId::String(id)) => format!(" for {id:?}"),
                None => String::new(),
            };
            format!("error {}{id}", error.error.code.0)
        }
        _ => "a message of the server's".to_owned(),
    }
}

fn of_session(session: Option<String>) -> String {
    session
        .map(|session| format!(" in session {session:?}"))
        .unwrap_or_default()
}

pub(crate) fn of_error<E: ErrorText>(error: &StreamableHttpError<E>) -> String {
    match error {
        StreamableHttpError::Client(e) => format!("client error: {}", e.text()),
        StreamableHttpError::HttpStatus(e) => match &e.retry_after {
            Some(after) => format!("HTTP {}, retry after {after}", e.status),
            None => format!("HTTP {}", e.status),
        },
        StreamableHttpError::AuthRequired(e) => {
            format!("authorization required: {}", e.www_authenticate_header)
        }
        StreamableHttpError::InsufficientScope(e) => {
            format!("scope required: {:?}", e.get_required_scope())
        }
        StreamableHttpError::UnexpectedServerResponse(text) => {
            format!("unexpected: {}", common_words(text))
        }
        StreamableHttpError::UnexpectedContentType(found) => {
            format!("unexpected content type: {found:?}")
        }
        StreamableHttpError::ResponseBodyTooLarge { max_size } => {
            format!("body of more than {max_size}")
        }
        StreamableHttpError::ServerDoesNotSupportSse => "no event streams here".to_owned(),
        StreamableHttpError::SessionExpired => "session expired".to_owned(),
        StreamableHttpError::ReservedHeaderConflict(name) => format!("reserved header: {name}"),
        other => other.to_string(),
    }
}

/// Replaces texts that differ between the clients but mean the same.
fn common_words(text: &str) -> &str {
    if text.contains("could not parse JSON response") || text.contains("no JSON-RPC message") {
        "no JSON-RPC message"
    } else if text.contains("invalid www-authenticate") || text.contains("is not readable") {
        "unreadable challenge"
    } else {
        text
    }
}
