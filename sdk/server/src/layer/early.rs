//! What is checked before a server is asked about a token (RS-10), so that a made-up token without
//! a proof costs the authorization server nothing. Where none has to be asked, the checks keep their
//! order.

use bowline_proof::{AccessToken, Check, Refusal, Scheme};
use http::request::Parts;

use super::Settings;
use super::client::Client;
use super::policy::{self, TokenKind, demands_proof};
use super::proof::{self, CheckedProof};

/// The checked proof, where one is demanded, by the policy and by what the token says about itself,
/// which holds if it is genuine. Otherwise nothing is checked here.
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
    if token.scheme() == Scheme::Dpop {
        return Ok(None);
    }
    let shown = token.jwt_confirmation();
    let bound_to = shown.and_then(|shown| shown.ok()?.x5t_s256);
    // The `cnf` of a JWT is that of the genuine token, or the token is forged.
    let kind = shown
        .map(|shown| TokenKind::of(shown.map_err(|_| Check::Confirmation)?))
        .transpose()?;
    let demanded = demands_proof(policy, kind);
    if demanded == Ok(false) && !client.must_always_prove() {
        return Ok(None);
    }
    // RS-3, so that a proof is asked for only of a client whom it would help: every token that
    // passes names a certificate.
    let needs_certificate = policy.proves_every_request() && client.certificate.is_none();
    if needs_certificate || bound_to.is_some() && bound_to != client.thumbprint() {
        return Err(Check::TokenCertificate.into());
    }
    demanded?;
    let proof = (*proof)?;
    match proof::check_if_sent(proof, token, request, client, settings)? {
        Some(checked) => Ok(Some(checked)),
        None if shown.is_none() || bound_to.is_some() => Err(policy::missing_proof(kind)),
        // A proof is missing all the same, but only a genuine token is told so.
        None => Ok(None),
    }
}
