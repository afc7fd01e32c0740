//! Introspection (RFC 7662): the claims of a token, for a resource server that cannot read them.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde_json::json;

use super::Port;
use super::authentication::{self, AuthenticatedClient};
use super::form::FormRequest;
use super::rejection::{Rejection, uncached};
use crate::authority::token::token_type;

/// `POST /introspect`. Any authenticated client gets an answer, also one without `client_id` but
/// with a certificate of the PKI: RFC 7662 §2.1 leaves the method open. `token_type_hint` is
/// ignored.
pub(super) async fn introspect(
    State(port): State<Arc<Port>>,
    FormRequest { facts, form, .. }: FormRequest,
) -> Result<Response, Rejection> {
    match form.value("client_id").or(form.value("client_assertion")) {
        Some(_) => drop(AuthenticatedClient::authenticate(&port, &facts, &form)?),
        None => authentication::any_client_of_pki(&port, &facts)?,
    }
    let token = form.required("token")?;
    // RFC 7662 §2.2: the answer for an inactive token has no other member. `cnf` is among the
    // claims (TK-1).
    let answer = match port.state.validate(token) {
        Ok(mut claims) => {
            claims["active"] = json!(true);
            claims["token_type"] = json!(token_type(&claims));
            claims
        }
        Err(_) => json!({ "active": false }),
    };
    Ok(uncached(StatusCode::OK, answer, None))
}
