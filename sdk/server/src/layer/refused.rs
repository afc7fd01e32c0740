//! Refusals as responses (RS-10, RFC 9449 §7.1).

use bowline_proof::dpop::{DpopRefusal, NONCE_HEADER};
use bowline_proof::{Challenge, Check, Refusal, Scheme};
use http::header::{CONNECTION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode, Version};

use super::Settings;
use crate::{Scope, TokenError};

/// The challenge for a refusal: its error and its description, which name the check and no expected
/// value. `scheme` is the one with which the token came, if it came.
pub(super) fn challenge<B: Default>(
    refusal: Refusal,
    scheme: Scheme,
    settings: &Settings,
) -> Response<B> {
    let check = refusal.check();
    let mut challenge = of_scheme(scheme, settings);
    if let Some(error) = check.error() {
        challenge = challenge
            .with("error", error)
            .with("error_description", refusal.to_string());
    }
    let mut response = challenged(check.status(), challenge, settings);
    // Who has shown no token may come back with one of either kind (RFC 9449 §7.2).
    if check == Check::NoToken && settings.dpop.is_some() {
        let other = with_metadata(Challenge::dpop(), settings).header_value();
        response.headers_mut().append(WWW_AUTHENTICATE, other);
    }
    response.extensions_mut().insert(check);
    response
}

/// 403, with the scope that would suffice (RFC 6750 §3.1).
pub(super) fn insufficient_scope<B: Default>(
    required: &Scope,
    scheme: Scheme,
    settings: &Settings,
) -> Response<B> {
    let check = Check::Scope;
    let challenge = of_scheme(scheme, settings)
        .with("error", check.error().unwrap_or_default())
        .with("error_description", Refusal::from(check).to_string())
        .with("scope", required.as_str());
    let mut response = challenged(check.status(), challenge, settings);
    response.extensions_mut().insert(check);
    response
}

fn of_scheme(scheme: Scheme, settings: &Settings) -> Challenge {
    match scheme {
        Scheme::Dpop if settings.dpop.is_some() => Challenge::dpop(),
        _ => Challenge::bearer(),
    }
}

/// The challenge for a refusal by a check of DPoP. It brings the nonce for the next proof, where
/// one is required (RFC 9449 §9).
pub(super) fn dpop_challenge<B: Default>(refusal: DpopRefusal, settings: &Settings) -> Response<B> {
    let check = refusal.check();
    let challenge = Challenge::dpop()
        .with("error", check.error().unwrap_or_default())
        .with("error_description", refusal.to_string());
    let mut response = challenged(StatusCode::UNAUTHORIZED, challenge, settings);
    if let Some(nonces) = settings.dpop.as_ref().and_then(|dpop| dpop.nonces.as_ref()) {
        let [newest, _] = nonces.accepted(settings.clock.now());
        response
            .headers_mut()
            .insert(NONCE_HEADER, newest.header_value());
    }
    response.extensions_mut().insert(check);
    response
}

fn challenged<B: Default>(
    status: StatusCode,
    challenge: Challenge,
    settings: &Settings,
) -> Response<B> {
    let mut response = Response::new(B::default());
    *response.status_mut() = status;
    let challenge = with_metadata(challenge, settings).header_value();
    response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    response
}

fn with_metadata(challenge: Challenge, settings: &Settings) -> Challenge {
    match &settings.resource_metadata {
        Some(url) => challenge.with("resource_metadata", url),
        None => challenge,
    }
}

/// The refusal of RS-1, after which the connection is of no more use. HTTP/2 has no header for
/// that; its connections are drained from below.
pub(super) fn expired<B: Default>(
    version: Version,
    scheme: Scheme,
    settings: &Settings,
) -> Response<B> {
    let mut response = challenge(Check::Certificate.into(), scheme, settings);
    if version < Version::HTTP_2 {
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Whether the token is valid cannot be said now.
pub(super) fn unavailable<B: Default>(error: &TokenError) -> Response<B> {
    try_later(error.retry_after().as_secs().max(1))
}

/// Whether the proof was used before cannot be said now.
pub(super) fn replay_unknown<B: Default>() -> Response<B> {
    try_later(REPLAY_RETRY_SECONDS)
}

/// Each second some entries of a full store expire.
const REPLAY_RETRY_SECONDS: u64 = 1;

fn try_later<B: Default>(seconds: u64) -> Response<B> {
    let mut response = Response::new(B::default());
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response
        .headers_mut()
        .insert(RETRY_AFTER, HeaderValue::from(seconds));
    response
}

/// This server is wired up wrongly.
pub(super) fn without_facts<B: Default>() -> Response<B> {
    let mut response = Response::new(B::default());
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}
