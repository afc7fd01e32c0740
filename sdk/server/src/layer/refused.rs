//! Refusals as responses (RS-10).

use bowline_proof::{Challenge, Check, Refusal};
use http::header::{CONNECTION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode, Version};

use crate::TokenError;

/// The challenge for a refusal: its error and its description, which name the check and no expected value.
pub(super) fn challenge<B: Default>(refusal: Refusal, resource_metadata: Option<&str>) -> Response<B> {
    let check = refusal.check();
    let mut challenge = Challenge::bearer();
    if let Some(error) = check.error() {
        challenge = challenge
            .with("error", error)
            .with("error_description", refusal.to_string());
    }
    if let Some(url) = resource_metadata {
        challenge = challenge.with("resource_metadata", url);
    }
    let mut response = Response::new(B::default());
    *response.status_mut() = check.status();
    response.headers_mut().insert(WWW_AUTHENTICATE, challenge.header_value());
    response.extensions_mut().insert(check);
    response
}

/// The refusal of RS-1, after which the connection is of no more use. HTTP/2 has no header for that; its connections are
/// drained from below.
pub(super) fn expired<B: Default>(version: Version, resource_metadata: Option<&str>) -> Response<B> {
    let mut response = challenge(Check::Certificate.into(), resource_metadata);
    if version < Version::HTTP_2 {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Whether the token is valid cannot be said now.
pub(super) fn unavailable<B: Default>(error: &TokenError) -> Response<B> {
    let mut response = Response::new(B::default());
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    let seconds = error.retry_after().as_secs().max(1);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    response
}

/// This server is wired up wrongly.
pub(super) fn without_facts<B: Default>() -> Response<B> {
    let mut response = Response::new(B::default());
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}
