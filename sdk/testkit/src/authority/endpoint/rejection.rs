//! Error responses (RFC 6749 §5.2), and the header fields of all responses.

use axum::response::{IntoResponse, Json, Response};
use bowline_proof::dpop::{NONCE_HEADER, Nonce};
use http::{StatusCode, header};
use serde_json::{Value, json};

/// An error response. The description says which parameter is at fault and why.
#[derive(Debug)]
pub(super) struct Rejection {
    status: StatusCode,
    error: &'static str,
    description: String,
    /// The nonce for the next DPoP proof (RFC 9449 §8).
    nonce: Option<Nonce>,
}

impl Rejection {
    pub(super) fn new(error: &'static str, description: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            error,
            description: description.into(),
            nonce: None,
        }
    }

    pub(super) fn invalid_request(description: impl Into<String>) -> Self {
        Self::new("invalid_request", description)
    }

    pub(super) fn invalid_target(description: impl Into<String>) -> Self {
        Self::new("invalid_target", description)
    }

    pub(super) fn invalid_client(description: impl Into<String>) -> Self {
        Self {
            status: StatusCode::UNAUTHORIZED,
            ..Self::new("invalid_client", description)
        }
    }

    pub(super) fn missing(parameter: &str) -> Self {
        Self::invalid_request(format!("the parameter {parameter} is missing"))
    }

    /// Adds a nonce for the next DPoP proof.
    pub(super) fn nonce(mut self, nonce: Option<Nonce>) -> Self {
        self.nonce = nonce;
        self
    }
}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        let body = json!({ "error": self.error, "error_description": self.description });
        uncached(self.status, body, self.nonce)
    }
}

/// RFC 6749 §5.1: responses of these endpoints must not be stored.
pub(super) fn uncached(status: StatusCode, body: Value, nonce: Option<Nonce>) -> Response {
    let mut response = (status, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response();
    if let Some(nonce) = nonce {
        response
            .headers_mut()
            .insert(NONCE_HEADER, nonce.header_value());
    }
    response
}
