//! Text that agents wrote, as far as an error or a log may quote it.

use a2a::A2AError;
use bowline_transport::head::{content_type, has_media_type};
use bowline_transport::redact::SentTokens;
use bowline_transport::text::printable_url;
use http::response::Parts;
use http::{HeaderMap, Uri};

pub(crate) use bowline_transport::text::{printable, shortened};

/// A URL as an error may quote it; empty if it is invalid.
pub(crate) fn shown_url(url: &str) -> String {
    url.parse::<Uri>()
        .map_or_else(|_| String::new(), |_| printable_url(url))
}

/// The tokens that a call was sent with, which its response must not show in an error (EX-7).
/// [`AgentEndpoint::send`](crate::endpoint::AgentEndpoint::send) puts them into the response.
pub(crate) fn sent_tokens(head: &Parts) -> SentTokens {
    head.extensions.get().cloned().unwrap_or_default()
}

/// An error that the agent reported, without the tokens that it was sent and without any JWS. Its
/// text stays otherwise as it is: programs and models read it.
pub(crate) fn redacted(sent: &SentTokens, mut error: A2AError) -> A2AError {
    error.message = sent.redact(&error.message);
    error.details = error
        .details
        .and_then(|details| sent.redact_value(&details));
    error
}

/// Describes a body that is not A2A: its media type, and the beginning of its text.
pub(crate) fn describe(head: &Parts, bytes: &[u8]) -> String {
    let fields = &head.headers;
    let sent = sent_tokens(head);
    let text = sent.printable(&String::from_utf8_lossy(bytes));
    match content_type(fields) {
        _ if bytes.is_empty() => "no text".to_owned(),
        // Markup is of no use in a log.
        Some(_) if is_html(fields) => "an HTML page".to_owned(),
        Some(media_type) => format!("{}: {text}", sent.printable(&media_type)),
        None => format!("text without a media type: {text}"),
    }
}

pub(crate) fn is_html(fields: &HeaderMap) -> bool {
    has_media_type(fields, "text/html") || has_media_type(fields, "application/xhtml+xml")
}
