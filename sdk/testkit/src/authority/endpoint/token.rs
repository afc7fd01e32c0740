//! The token endpoint (RFC 6749 §4.4, §5, §6; RFC 8693).

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde_json::json;

use super::authentication::AuthenticatedClient;
use super::dpop::DpopProof;
use super::form::{Form, FormRequest};
use super::rejection::{Rejection, uncached};
use super::{Grant, Port, exchange, refresh};
use crate::authority::TokenRequest;
use crate::authority::names::{CLIENT_CREDENTIALS, REFRESH_TOKEN, TOKEN_EXCHANGE};
use crate::authority::token::token_type;

/// `POST /token`.
pub(super) async fn token(
    State(port): State<Arc<Port>>,
    request: FormRequest,
) -> Result<Response, Rejection> {
    let FormRequest {
        facts,
        headers,
        form,
    } = request;
    let grant = match form.required("grant_type")? {
        CLIENT_CREDENTIALS => client_credentials,
        TOKEN_EXCHANGE => {
            port.state.counters.exchanges.increment();
            exchange::grant
        }
        REFRESH_TOKEN => refresh::grant,
        _ => {
            return Err(Rejection::new(
                "unsupported_grant_type",
                format!(
                    "only {CLIENT_CREDENTIALS}, {TOKEN_EXCHANGE} and {REFRESH_TOKEN} are granted \
                     here"
                ),
            ));
        }
    };
    let party = AuthenticatedClient::authenticate(&port, &facts, &form)?;
    let proof = DpopProof::from_headers(&port, &headers)?;
    let (request, mut answer) = grant(&port, &party, proof.as_ref(), &form)?;

    let (token, claims) = port.state.issue(&request);
    let lifetime = claims["exp"].as_u64().zip(claims["iat"].as_u64());
    answer["access_token"] = json!(token);
    answer["token_type"] = json!(token_type(&claims));
    answer["expires_in"] = json!(lifetime.map(|(exp, iat)| exp.saturating_sub(iat)));
    if let Some(scope) = claims.get("scope") {
        answer["scope"] = scope.clone();
    }
    Ok(uncached(
        StatusCode::OK,
        answer,
        proof.and_then(|proof| proof.newer_nonce),
    ))
}

/// RFC 6749 §4.4.
fn client_credentials(
    _: &Port,
    party: &AuthenticatedClient,
    proof: Option<&DpopProof>,
    form: &Form,
) -> Result<Grant, Rejection> {
    let confirmation = party.confirmation(proof, party.client.binding);
    let mut request = TokenRequest::new(&party.client.id, confirmation);
    if let Some(format) = party.client.format {
        request = request.format(format);
    }
    if let Some(scope) = form.scope()? {
        request = request.scope(scope);
    }
    if let Some(resource) = form.resource()? {
        request = request.audience(resource);
    }
    Ok((request, json!({})))
}
