//! What the egress answers for itself.

use http::header::{CONTENT_TYPE, PROXY_AUTHENTICATE, SERVER};
use http::{HeaderValue, Response, StatusCode};

use super::body::Body;
pub(crate) use super::refused::Refused;

impl Refused {
    pub(crate) fn response(self) -> Response<Body> {
        tracing::debug!(
            reason = self.reason,
            status = self.status.as_u16(),
            "a request was refused: {}",
            self.text
        );
        let mut response = Response::new(Body::text(&self.text));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        // So that an agent's log tells it from an answer of the origin.
        headers.insert(SERVER, HeaderValue::from_static("bowline-egress"));
        if self.status == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            // RFC 9110 section 15.5.8; some clients wait for it.
            let challenge = HeaderValue::from_static("Basic realm=\"bowline\"");
            headers.insert(PROXY_AUTHENTICATE, challenge);
        }
        response
    }
}
