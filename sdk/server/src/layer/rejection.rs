//! Why a request does not pass, as a log line, an event and a response (RS-10, RFC 9449 §7.1).

use std::time::Duration;

use bowline_proof::dpop::{DpopCheck, DpopRefusal, NONCE_HEADER, Nonce};
use bowline_proof::{Challenge, Check, Refusal, Scheme};
use http::header::{CONNECTION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode, Version};

use super::Settings;
use crate::event::{report, report_dpop_refusal, report_refusal};
use crate::{ConnectionFacts, FailedCheck, Limit, Observed, Scope, ServerEvent, TokenError};

/// Why a request does not pass.
pub(super) enum Rejection {
    /// A check refuses it.
    Check(Refusal),
    /// A check of DPoP refuses it.
    Dpop(DpopRefusal),
    /// The token's scope does not include this one.
    Scope(Scope),
    /// RS-2 cannot be decided.
    TokenUnavailable(TokenError),
    /// The client has presented too many tokens that are not valid.
    Limited(TokenError),
    /// There is no room for another used proof, or none for this client's.
    ReplayMemoryFull,
    /// The store of used proofs cannot be reached.
    ReplayStoreUnavailable,
}

impl From<Refusal> for Rejection {
    fn from(refusal: Refusal) -> Self {
        Self::Check(refusal)
    }
}

impl From<Check> for Rejection {
    fn from(check: Check) -> Self {
        Self::Check(check.into())
    }
}

impl From<DpopRefusal> for Rejection {
    fn from(refusal: DpopRefusal) -> Self {
        Self::Dpop(refusal)
    }
}

impl From<DpopCheck> for Rejection {
    fn from(check: DpopCheck) -> Self {
        Self::Dpop(check.into())
    }
}

impl Rejection {
    /// Writes the log line and reports the event.
    pub(super) fn report(&self, settings: &Settings, facts: &ConnectionFacts) {
        let (observer, connection) = (settings.observer.as_deref(), facts.id());
        if let Some(limit) = self.limit() {
            settings.limits.reached(limit, &facts.owner());
        }
        match self {
            Self::Check(refusal) => report_refusal(observer, connection, *refusal),
            Self::Scope(_) => report_refusal(observer, connection, Check::Scope.into()),
            Self::Dpop(refusal) => report_dpop_refusal(observer, connection, *refusal),
            Self::ReplayStoreUnavailable => {
                tracing::warn!(%connection, "the store of used proofs cannot be reached");
                report(observer, &ServerEvent::Unavailable { connection });
            }
            Self::ReplayMemoryFull | Self::Limited(_) => {
                tracing::debug!(%connection, "request refused: a limit was reached");
            }
            Self::TokenUnavailable(error) => {
                let cause = std::error::Error::source(error);
                tracing::warn!(%connection, %error, cause, "a token could not be validated");
                report(observer, &ServerEvent::Unavailable { connection });
            }
        }
    }

    /// What the request is counted as where this is only observed (RS-13). `None`: it is refused
    /// all the same.
    pub(super) fn observed(&self) -> Option<Observed> {
        let check = match self {
            Self::Check(refusal) => match refusal.check() {
                Check::Certificate | Check::Token | Check::Scope => return None,
                check => FailedCheck::Session(check),
            },
            Self::Dpop(refusal) => FailedCheck::Dpop(refusal.check()),
            // It cannot be remembered that the proof was used.
            Self::ReplayMemoryFull => FailedCheck::Session(Check::ReplayQuota),
            Self::ReplayStoreUnavailable => {
                tracing::warn!("the store of used proofs cannot be reached");
                FailedCheck::Session(Check::ReplayQuota)
            }
            Self::Scope(_) | Self::TokenUnavailable(_) | Self::Limited(_) => return None,
        };
        Some(Observed::failed(check))
    }

    /// The nonce that the challenge would carry (RFC 9449 §9). A client must learn it also where
    /// the request passes because it is only observed.
    pub(super) fn nonce(&self, settings: &Settings) -> Option<Nonce> {
        match self {
            Self::Dpop(_) => newest_nonce(settings),
            _ => None,
        }
    }

    /// The limit that was reached, if that is why.
    fn limit(&self) -> Option<Limit> {
        match self {
            Self::Check(refusal) if refusal.check() == Check::ReplayQuota => Some(Limit::JtiQuota),
            Self::ReplayMemoryFull => Some(Limit::UsedProofs),
            Self::Limited(_) => Some(Limit::InactiveTokens),
            _ => None,
        }
    }

    /// The response. `scheme` is the one that the request's token came with, if it came with one.
    pub(super) fn into_response<B: Default>(
        self,
        scheme: Scheme,
        settings: &Settings,
    ) -> Response<B> {
        match self {
            Self::Check(refusal) => challenge(refusal, scheme, settings),
            Self::Scope(required) => insufficient_scope(&required, scheme, settings),
            Self::Dpop(refusal) => dpop_challenge(refusal, settings),
            // Entries expire every second.
            Self::ReplayMemoryFull | Self::ReplayStoreUnavailable => {
                retry_after(UNAVAILABLE, Duration::from_secs(1))
            }
            Self::TokenUnavailable(error) => retry_after(UNAVAILABLE, error.retry_after()),
            Self::Limited(error) => retry_after(StatusCode::TOO_MANY_REQUESTS, error.retry_after()),
        }
    }
}

/// The response of RS-1, after which the connection is of no more use. HTTP/2 has no header that
/// says so: its connections are drained by the code that serves them.
pub(super) fn certificate_expired<B: Default>(
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

/// 400: nothing is said about tokens, because none was looked at.
pub(super) fn bad_request<B: Default>() -> Response<B> {
    let mut response = Response::new(B::default());
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response
}

/// 425: the client sends it again after the handshake (RFC 8470 §5.2).
pub(super) fn too_early<B: Default>() -> Response<B> {
    let mut response = Response::new(B::default());
    *response.status_mut() = StatusCode::TOO_EARLY;
    response
}

/// 500: the application did not pass the connection's facts along.
pub(super) fn without_facts<B: Default>() -> Response<B> {
    let mut response = Response::new(B::default());
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}

/// The challenge for a refusal: its error and its description, which name the check and no expected
/// value.
fn challenge<B: Default>(refusal: Refusal, scheme: Scheme, settings: &Settings) -> Response<B> {
    let check = refusal.check();
    let mut challenge = challenge_for_scheme(scheme, settings);
    if let Some(error) = check.error() {
        challenge = challenge
            .with("error", error)
            .with("error_description", refusal.to_string());
    }
    let mut response = challenged(check.status(), challenge, settings);
    // Without a token we cannot know which scheme the client will use, so offer both (RFC 9449
    // §7.2).
    if check == Check::NoToken && settings.dpop.is_some() {
        let other = with_metadata(Challenge::dpop(), settings).header_value();
        response.headers_mut().append(WWW_AUTHENTICATE, other);
    }
    response.extensions_mut().insert(check);
    response
}

/// 403, with the scope that would suffice (RFC 6750 §3.1).
fn insufficient_scope<B: Default>(
    required: &Scope,
    scheme: Scheme,
    settings: &Settings,
) -> Response<B> {
    let check = Check::Scope;
    let challenge = challenge_for_scheme(scheme, settings)
        .with("error", check.error().unwrap_or_default())
        .with("error_description", Refusal::from(check).to_string())
        .with("scope", required.as_str());
    let mut response = challenged(check.status(), challenge, settings);
    response.extensions_mut().insert(check);
    response
}

fn challenge_for_scheme(scheme: Scheme, settings: &Settings) -> Challenge {
    match scheme {
        Scheme::Dpop if settings.dpop.is_some() => Challenge::dpop(),
        _ => Challenge::bearer(),
    }
}

/// The challenge for a refusal by a check of DPoP. Where nonces are required, it carries the nonce
/// for the next proof (RFC 9449 §9).
fn dpop_challenge<B: Default>(refusal: DpopRefusal, settings: &Settings) -> Response<B> {
    let check = refusal.check();
    let challenge = Challenge::dpop()
        .with("error", check.error().unwrap_or_default())
        .with("error_description", refusal.to_string());
    let mut response = challenged(StatusCode::UNAUTHORIZED, challenge, settings);
    if let Some(nonce) = newest_nonce(settings) {
        let headers = response.headers_mut();
        headers.insert(NONCE_HEADER, nonce.header_value());
    }
    response.extensions_mut().insert(check);
    response
}

fn newest_nonce(settings: &Settings) -> Option<Nonce> {
    let nonces = settings.dpop.as_ref()?.nonces.as_ref()?;
    Some(nonces.newest(settings.now()))
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

const UNAVAILABLE: StatusCode = StatusCode::SERVICE_UNAVAILABLE;

/// The check could not be decided now, or the client must wait: for a second at least.
fn retry_after<B: Default>(status: StatusCode, time: Duration) -> Response<B> {
    let mut response = Response::new(B::default());
    *response.status_mut() = status;
    let seconds = HeaderValue::from(time.as_secs().max(1));
    response.headers_mut().insert(RETRY_AFTER, seconds);
    response
}
