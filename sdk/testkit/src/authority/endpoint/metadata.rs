//! Authorization server metadata (RFC 8414 §2).

use std::sync::Arc;

use axum::extract::State;
use axum::response::Json;
use bowline_proof::Algorithm;
use serde_json::{Value, json};

use super::Port;
use crate::authority::ClientAuthentication;
use crate::authority::names::{
    CLIENT_CREDENTIALS, INTROSPECTION_PATH, JWKS_PATH, REFRESH_TOKEN, REGISTRATION_PATH,
    TOKEN_EXCHANGE, TOKEN_PATH,
};

/// `GET /.well-known/oauth-authorization-server`.
pub(super) async fn metadata(State(port): State<Arc<Port>>) -> Json<Value> {
    let state = &port.state;
    let methods = ClientAuthentication::NAMES;
    let algorithms = Algorithm::ALL.map(Algorithm::name);
    Json(json!({
        "issuer": state.issuer,
        "token_endpoint": state.url(TOKEN_PATH),
        "introspection_endpoint": state.url(INTROSPECTION_PATH),
        "registration_endpoint": state.url(REGISTRATION_PATH),
        "jwks_uri": state.url(JWKS_PATH),
        // Required by RFC 8414 §2; there is no authorization endpoint.
        "response_types_supported": [],
        "grant_types_supported": [CLIENT_CREDENTIALS, TOKEN_EXCHANGE, REFRESH_TOKEN],
        "token_endpoint_auth_methods_supported": methods,
        "token_endpoint_auth_signing_alg_values_supported": algorithms,
        "introspection_endpoint_auth_methods_supported": methods,
        "introspection_endpoint_auth_signing_alg_values_supported": algorithms,
        "dpop_signing_alg_values_supported": algorithms,
        "tls_client_certificate_bound_access_tokens": true,
        // TK-3 defines this as a member of the client's registration; here it means that the server
        // supports it.
        "tls_session_bound_access_tokens": true,
        // RFC 8705 §5: only these ask for a client certificate.
        "mtls_endpoint_aliases": {
            "token_endpoint": state.mtls_url(TOKEN_PATH),
            "introspection_endpoint": state.mtls_url(INTROSPECTION_PATH),
        },
    }))
}
