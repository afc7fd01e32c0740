//! Readings of a response's head.

#[cfg(test)]
mod tests;

use bowline_client::Origin;
use bowline_proof::{BindingError, Challenge};
use http::header::{CONTENT_TYPE, LOCATION};
use http::response::Parts;
use http::{HeaderMap, StatusCode, Uri};
use url::Url;

/// As much of a redirect's target as an error message shows.
const MAX_TARGET: usize = 512;

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

/// Superseded by [`redirect`](crate::redirect), with [`onward`]: both go once `bowline-mcp` and
/// `bowline-a2a` follow redirects with that.
pub const MAX_REDIRECTS: usize = 10;

/// Where a response sends a request to `from` on to, if to the same origin: 307 and 308, which ask
/// for the same request elsewhere. Any other redirect is the caller's to judge.
///
/// Nothing is sent along: what follows is a request of its own, and its token and proof stay at
/// their origin (CL-6).
pub fn onward(from: &Uri, head: &Parts) -> Option<Uri> {
    if !matches!(
        head.status,
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT
    ) {
        return None;
    }
    let location = head.headers.get(LOCATION)?.to_str().ok()?;
    let target = Url::parse(&from.to_string()).ok()?.join(location).ok()?;
    let target = Uri::try_from(target.as_str()).ok()?;
    // Also refuses user information in the target.
    let origin = Origin::from_uri(&target).ok()?;
    (Origin::from_uri(from).ok()? == origin).then_some(target)
}

/// A URL, or where a redirect leads, as far as it may be shown: a query or user information may be
/// secret.
pub fn shown_target(location: &str) -> Option<String> {
    let uri: Uri = location.parse().ok()?;
    let path = uri.path();
    let host = uri
        .authority()
        .and_then(|authority| authority.as_str().rsplit('@').next());
    let shown = match (uri.scheme_str(), host) {
        (Some(scheme), Some(host)) => format!("{scheme}://{host}{path}"),
        (None, Some(host)) => host.to_owned(),
        _ => path.to_owned(),
    };
    (shown.len() <= MAX_TARGET).then_some(shown)
}
