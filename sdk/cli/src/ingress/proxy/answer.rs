//! What the ingress answers for itself, beside the binding layer's challenges.

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use metrics::counter;

use super::body::Body;

/// Why a request is not passed on. Found among the extensions of the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) status: StatusCode,
    /// A short name in snake case: a metric label.
    pub(crate) reason: &'static str,
    text: &'static str,
}

impl Refused {
    pub(crate) fn new(status: StatusCode, reason: &'static str, text: &'static str) -> Self {
        Self {
            status,
            reason,
            text,
        }
    }
}

/// The response, counted.
pub(super) fn refusal(refused: Refused) -> Response<Body> {
    counter!("bowline_ingress_refused_total", "reason" => refused.reason).increment(1);
    tracing::debug!(
        reason = refused.reason,
        status = refused.status.as_u16(),
        "a request was refused: {}",
        refused.text
    );
    let mut response = Response::new(Body::text(refused.text));
    *response.status_mut() = refused.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    if refused.status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response.extensions_mut().insert(refused);
    response
}
