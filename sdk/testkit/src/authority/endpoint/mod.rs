//! The HTTP endpoints. Both ports have the same router; its [`Port`] says which one a request came
//! to.

mod assertion;
mod authentication;
mod dpop;
mod exchange;
mod form;
mod introspection;
mod metadata;
mod refresh;
mod registration;
mod rejection;
mod token;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::Json;
use axum::routing::{get, post};
use bowline_proof::Targets;
use serde_json::Value;

use super::names::{INTROSPECTION_PATH, JWKS_PATH, METADATA_PATH, REGISTRATION_PATH, TOKEN_PATH};
use super::{ServerState, TokenRequest};

/// A token request has a few short parameters, two tokens and an assertion.
const MAX_REQUEST_BYTES: usize = 64 * 1024;

/// The port that a request came to.
struct Port {
    state: Arc<ServerState>,
    /// This port's origin, which a DPoP proof must name (RFC 9449 §4.3 item 9).
    targets: Targets,
}

/// What a grant decides: the token to issue, and further members of the response.
type Grant = (TokenRequest, Value);

/// The endpoints of the port whose origin is `origin`.
pub(super) fn router(state: Arc<ServerState>, origin: &str) -> Router {
    let origin = origin.parse().expect("an origin of this server");
    let targets = Targets::new([origin]);
    Router::new()
        .route(TOKEN_PATH, post(token::token))
        .route(INTROSPECTION_PATH, post(introspection::introspect))
        .route(REGISTRATION_PATH, post(registration::register))
        .route(JWKS_PATH, get(jwks))
        .route(METADATA_PATH, get(metadata::metadata))
        .layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES))
        .with_state(Arc::new(Port { state, targets }))
}

async fn jwks(State(port): State<Arc<Port>>) -> Json<Value> {
    Json(port.state.keys.jwks())
}
