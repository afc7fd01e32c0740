//! Readings of a response's head.

#[cfg(test)]
mod tests;

use bowline_proof::{BindingError, Challenge};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};

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

/// Whether a response with this status and these fields says that nobody acted on its request, so
/// that any request can be sent again (CL-7).
///
/// That follows from 403, 404, 405, 413, 421, 425 and 429, from a 307 or 308 that was not followed,
/// and from a 401 by which the resource refused the token or the proof
/// ([`is_refused_before_processing`]). Any other status may be that of a gateway in front of a server
/// that acted (502, 504), or of a server that acted and then failed (400, 408, 500).
pub fn is_unprocessed(status: StatusCode, headers: &HeaderMap) -> bool {
    match status {
        StatusCode::FORBIDDEN
        | StatusCode::NOT_FOUND
        | StatusCode::METHOD_NOT_ALLOWED
        | StatusCode::PAYLOAD_TOO_LARGE
        | StatusCode::MISDIRECTED_REQUEST
        | StatusCode::TOO_EARLY
        | StatusCode::TOO_MANY_REQUESTS
        | StatusCode::TEMPORARY_REDIRECT
        | StatusCode::PERMANENT_REDIRECT => true,
        StatusCode::UNAUTHORIZED => bowline_proof::challenges(headers)
            .iter()
            .filter(|challenge| challenge.is_for_tokens())
            .filter_map(Challenge::error)
            .any(is_refused_before_processing),
        _ => false,
    }
}

/// Whether a `Bearer` or `DPoP` challenge with this `error` says that the resource refused the token
/// or the proof before it acted (CL-7). A 401 without it may be one that a gateway passes on.
pub fn is_refused_before_processing(error: &str) -> bool {
    matches!(
        error,
        "invalid_token" | "invalid_proof" | "use_session_binding" | "use_dpop_nonce"
    )
}
