//! Readings of a response's head.

use bowline_proof::{BindingError, Challenge};
use http::HeaderMap;
use http::header::CONTENT_TYPE;

/// What `Content-Type` says, parameters included.
pub fn content_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_TYPE)?;
    Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// The media type in lower case, without parameters (RFC 9110 §8.3.1).
pub fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = content_type(headers)?;
    Some(
        value
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase(),
    )
}

/// Whether the media type is `expected`, which has no parameters. Compares without case and
/// parameters (RFC 9110 §8.3.1).
pub fn has_media_type(headers: &HeaderMap, expected: &str) -> bool {
    media_type(headers).is_some_and(|media_type| media_type.eq_ignore_ascii_case(expected))
}

/// The error of a challenge that asks for a proof, not for another token (RS-10; RFC 9449 §7.1,
/// §9). The client has dealt with those that it could.
pub fn binding_error(headers: &HeaderMap) -> Option<&'static str> {
    bowline_proof::challenges(headers)
        .iter()
        .find_map(Challenge::binding_error)
        .map(BindingError::as_str)
}
