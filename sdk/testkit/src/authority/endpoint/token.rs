//! The token endpoint (RFC 6749 §4.4, §5; RFC 8693).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use bowline_server::ConnectionFacts;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::Port;
use super::authentication::AuthenticatedClient;
use super::dpop::DpopProof;
use super::exchange::{self, TOKEN_EXCHANGE};
use super::form::Form;
use super::rejection::{Rejection, uncached};
use crate::authority::{TokenBinding, TokenRequest};

pub(super) const CLIENT_CREDENTIALS: &str = "client_credentials";

/// `POST /token`.
pub(super) async fn token(
    State(port): State<Arc<Port>>,
    Extension(facts): Extension<Arc<ConnectionFacts>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Rejection> {
    let form = Form::parse(&headers, &body)?;
    let grant = match form.required("grant_type")? {
        CLIENT_CREDENTIALS => client_credentials,
        TOKEN_EXCHANGE => {
            port.state
                .counters
                .exchanges
                .fetch_add(1, Ordering::Relaxed);
            exchange::grant
        }
        _ => {
            return Err(Rejection::new(
                "unsupported_grant_type",
                format!("only {CLIENT_CREDENTIALS} and {TOKEN_EXCHANGE} are granted here"),
            ));
        }
    };
    let party = AuthenticatedClient::authenticate(&port, &facts, &form)?;
    let proof = DpopProof::of(&port, &headers)?;
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

/// What a token says, and what the answer says besides.
pub(super) type Grant = (TokenRequest, Value);

/// RFC 6749 §4.4.
fn client_credentials(
    _: &Port,
    party: &AuthenticatedClient,
    proof: Option<&DpopProof>,
    form: &Form,
) -> Result<Grant, Rejection> {
    let confirmation = confirmation(party, proof, party.client.binding);
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

/// `cnf`: the key of the request's DPoP proof, or the certificate that authenticated its connection
/// (AS-1). Without either there is nothing to bind to.
pub(super) fn confirmation(
    party: &AuthenticatedClient,
    proof: Option<&DpopProof>,
    binding: TokenBinding,
) -> Option<Value> {
    match (proof, party.certificate) {
        (Some(proof), _) => Some(json!({ "jkt": proof.key.to_string() })),
        (None, Some(certificate)) => binding.confirmation(certificate),
        (None, None) => None,
    }
}

/// RFC 9449 §5: a token that is bound to a DPoP key has a type of its own.
pub(super) fn token_type(claims: &Value) -> &'static str {
    match claims["cnf"].get("jkt") {
        Some(_) => "DPoP",
        None => "Bearer",
    }
}
