//! Text that agents wrote, as far as an error or a log may quote it.

use bowline_transport::head::{content_type, has_media_type};
use bowline_transport::text::printable_url;
use http::{HeaderMap, Uri};

pub(crate) use bowline_transport::text::{printable, shortened};

/// A URL as an error may quote it; empty if it is invalid.
pub(crate) fn shown_url(url: &str) -> String {
    url.parse::<Uri>()
        .map_or_else(|_| String::new(), |_| printable_url(url))
}

/// Describes a body that is not A2A: its media type, and the beginning of its text.
pub(crate) fn describe(fields: &HeaderMap, bytes: &[u8]) -> String {
    let text = printable(&String::from_utf8_lossy(bytes));
    match content_type(fields) {
        _ if bytes.is_empty() => "no text".to_owned(),
        // Markup is of no use in a log.
        Some(_) if is_html(fields) => "an HTML page".to_owned(),
        Some(media_type) => format!("{}: {text}", printable(&media_type)),
        None => format!("text without a media type: {text}"),
    }
}

pub(crate) fn is_html(fields: &HeaderMap) -> bool {
    has_media_type(fields, "text/html") || has_media_type(fields, "application/xhtml+xml")
}
