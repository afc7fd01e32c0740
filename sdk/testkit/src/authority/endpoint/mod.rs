//! The HTTP endpoints. The same router serves both ports; a [`Port`] knows which one it is.

mod assertion;
mod authentication;
mod dpop;
mod exchange;
mod form;
mod introspection;
mod metadata;
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

use super::ServerState;

pub(super) const TOKEN: &str = "/token";
pub(super) const INTROSPECTION: &str = "/introspect";
pub(super) const REGISTRATION: &str = "/register";
pub(super) const JWKS: &str = "/jwks";
pub(super) const METADATA: &str = "/.well-known/oauth-authorization-server";

/// A token request is a few short parameters, two tokens and an assertion.
const MAX_REQUEST_BYTES: usize = 64 * 1024;

/// Where a request came in.
struct Port {
    state: Arc<ServerState>,
    /// This port's origin, which a DPoP proof must name (RFC 9449 §4.3 item 9).
    targets: Targets,
}

/// The endpoints of the port that is known as `origin`.
pub(super) fn router(state: Arc<ServerState>, origin: &str) -> Router {
    let origin = origin.parse().expect("an origin of this server");
    let targets = Targets::new([origin]);
    Router::new()
        .route(TOKEN, post(token::token))
        .route(INTROSPECTION, post(introspection::introspect))
        .route(REGISTRATION, post(registration::register))
        .route(JWKS, get(jwks))
        .route(METADATA, get(metadata::metadata))
        .layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES))
        .with_state(Arc::new(Port { state, targets }))
}

async fn jwks(State(port): State<Arc<Port>>) -> Json<Value> {
    Json(port.state.keys.jwks())
}
