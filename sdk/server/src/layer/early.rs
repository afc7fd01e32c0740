//! What is checked before a server is asked about a token (RS-10), so that a made-up token without
//! a proof costs the authorization server nothing. Where none has to be asked, the checks keep their
//! order.

use bowline_proof::{AccessToken, Check, Demand, Refusal, Scheme};
use http::request::Parts;

use super::client::Client;
use super::proof::{self, CheckedProof};
use super::{AcceptPolicy, Settings};

/// Whether a request with this token passes only with a session-binding proof (RS-4, RS-13), as far
/// as can be told before the token is validated: by the policy, and by what the token says about
/// itself, which holds if it is genuine.
pub(super) fn demands_proof(policy: AcceptPolicy, token: &AccessToken) -> bool {
    match (policy, token.scheme()) {
        (_, Scheme::Dpop) => false,
        (AcceptPolicy::Require | AcceptPolicy::RequireOrAttested, _) => true,
        (AcceptPolicy::Follow, _) => token
            .confirmation()
            .is_ok_and(|found| found.demand() == Ok(Demand::Session)),
    }
}

/// The checked proof, where one is demanded. Otherwise nothing is checked here.
///
/// # Errors
/// The request cannot pass, whatever the authorization server would say.
pub(super) fn check<'a>(
    token: &AccessToken,
    proof: &Result<Option<&'a [u8]>, Refusal>,
    request: &Parts,
    client: &Client<'_>,
    settings: &Settings,
) -> Result<Option<CheckedProof<'a>>, Refusal> {
    let policy = settings.policy;
    let is_bearer = token.scheme() == Scheme::Bearer;
    if !is_bearer && requires_session(policy) {
        return Err(Check::BindingRequired.into());
    }
    if !(demands_proof(policy, token) || is_bearer && client.must_always_prove()) {
        return Ok(None);
    }
    check_unverified(token, client, policy)?;
    let proof = (*proof)?;
    match proof::check_if_sent(proof, token, request, client, settings)? {
        Some(checked) => Ok(Some(checked)),
        None if may_name_certificate(token) => Err(Check::ProofMissing.into()),
        // A proof is missing all the same, but only a genuine token is told so.
        None => Ok(None),
    }
}

/// Whether the token is opaque, or a JWT that is bound to a certificate.
fn may_name_certificate(token: &AccessToken) -> bool {
    token
        .jwt_confirmation()
        .is_none_or(|confirmation| confirmation.is_ok_and(|found| found.x5t_s256.is_some()))
}

/// The `cnf` of a JWT is that of the genuine token, or the token is forged. So a proof is asked for
/// only of a client that it would help.
fn check_unverified(
    token: &AccessToken,
    client: &Client<'_>,
    policy: AcceptPolicy,
) -> Result<(), Refusal> {
    // RS-3: every token that passes names a certificate.
    if requires_session(policy) && client.certificate.is_none() {
        return Err(Check::TokenCertificate.into());
    }
    let Some(confirmation) = token.jwt_confirmation() else {
        return Ok(());
    };
    let confirmation = confirmation.map_err(|_| Check::Confirmation)?;
    let demand = confirmation.demand().map_err(|_| Check::Confirmation)?;
    if confirmation.unknown_method {
        return Err(Check::Confirmation.into());
    }
    if confirmation.x5t_s256.is_some() && confirmation.x5t_s256 != client.thumbprint() {
        return Err(Check::TokenCertificate.into());
    }
    if requires_session(policy) && demand != Demand::Session {
        return Err(Check::BindingRequired.into());
    }
    Ok(())
}

/// Whether only session-bound tokens pass (RS-13).
fn requires_session(policy: AcceptPolicy) -> bool {
    match policy {
        AcceptPolicy::Require | AcceptPolicy::RequireOrAttested => true,
        AcceptPolicy::Follow => false,
    }
}
