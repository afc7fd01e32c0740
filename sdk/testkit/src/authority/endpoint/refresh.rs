//! The refresh grant (RFC 6749 §6).

use serde_json::json;

use super::authentication::AuthenticatedClient;
use super::dpop::DpopProof;
use super::form::Form;
use super::rejection::Rejection;
use super::{Grant, Port};
use crate::authority::TokenRequest;
use crate::authority::refresh::NotAccepted;

/// # Errors
/// `invalid_grant`, `invalid_target`, `invalid_scope`.
pub(super) fn grant(
    port: &Port,
    party: &AuthenticatedClient,
    proof: Option<&DpopProof>,
    form: &Form,
) -> Result<Grant, Rejection> {
    let state = &port.state;
    let presented = form.required("refresh_token")?;
    let scope = form.scope()?;
    let resource = form.resource()?;
    let granted = state
        .use_refresh_token(presented, &party.client.id)
        .map_err(|why| {
            let why = match why {
                NotAccepted::Unknown => "is unknown, or of another client",
                NotAccepted::Revoked => "has been revoked",
                NotAccepted::UsedBefore => {
                    "has been used before: it and its successors are revoked (RFC 9700)"
                }
            };
            Rejection::new("invalid_grant", format!("the refresh_token {why}"))
        })?;
    state.counters.refreshes.increment();
    let confirmation = party.confirmation(proof, party.client.binding);
    let mut request = TokenRequest::new(&party.client.id, confirmation).subject(granted.subject);
    if let Some(format) = party.client.format {
        request = request.format(format);
    }
    if let Some(scope) = scope {
        request = request.scope(scope);
    }
    if let Some(resource) = resource {
        request = request.audience(resource);
    }
    let members = match granted.successor {
        Some(successor) => json!({ "refresh_token": successor }),
        None => json!({}),
    };
    Ok((request, members))
}
