//! What the egress answers for itself.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, SERVER};
use http::{HeaderValue, Response, StatusCode};

use super::body::Body;

/// Why a request is not passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) status: StatusCode,
    /// A short name in snake case, for counts.
    pub(crate) reason: &'static str,
    text: String,
}

impl Refused {
    pub(crate) fn new(status: StatusCode, reason: &'static str, text: impl Into<String>) -> Self {
        Self {
            status,
            reason,
            text: text.into(),
        }
    }

    pub(crate) fn response(self) -> Response<Body> {
        tracing::debug!(
            reason = self.reason,
            status = self.status.as_u16(),
            "a request was refused: {}",
            self.text
        );
        let mut response = Response::new(Body::Whole(Bytes::from(format!("{}\n", self.text))));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        // So that an agent's log tells it from an answer of the origin.
        headers.insert(SERVER, HeaderValue::from_static("bowline-egress"));
        response
    }
}
