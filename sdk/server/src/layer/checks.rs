//! Checks a request by RS-1 to RS-13, in this order, except for what [`early`] brings forward.
//!
//! A token with the scheme `DPoP` passes through the same checks. Those of RFC 9449 §4.3 come after
//! RS-3 and before RS-4, the first check of a session-binding proof. The `jti` of the DPoP proof is
//! marked as used after all checks.

use std::sync::Arc;

use bowline_proof::dpop::{DpopCheck, Nonce};
use bowline_proof::{AccessToken, Check, Confirmation, Demand, Refusal, Scheme};
use http::request::Parts;

use super::client::{self, Client};
use super::proof::{self, CheckedProof};
use super::rejection::Rejection;
use super::{AcceptPolicy, RequireRequestBound, Settings, dpop, early, transport};
use crate::proxies::ForwardedFields;
use crate::{
    BindingClass, ConnectionFacts, ProofOwner, Requester, ServerEvent, TokenErrorKind,
    TokenValidator, ValidToken, VerifiedBinding, reserved_fields,
};

/// How a request passed.
pub(super) struct Passed {
    pub(super) binding: VerifiedBinding,
    /// The nonce that the response gives to a DPoP client (RFC 9449 §8.2).
    pub(super) newer_nonce: Option<Nonce>,
    proof: bool,
    cached: bool,
}

impl Passed {
    pub(super) fn event(&self) -> ServerEvent {
        ServerEvent::Verified {
            connection: self.binding.connection,
            class: self.binding.class,
            proof: self.proof,
            cached: self.cached,
            request_bound: self.binding.request_bound,
        }
    }
}

/// RS-1: whether the connection's certificate is past its `notAfter`. It is checked for every
/// request, also on public paths.
pub(super) fn certificate_has_expired(facts: &ConnectionFacts, settings: &Settings) -> bool {
    facts
        .certificate()
        .is_some_and(|certificate| settings.clock.now() > certificate.not_after())
}

/// All checks on one request, except the expiry of the connection's certificate, which is checked
/// before.
pub(super) async fn check<V: TokenValidator>(
    request: &Parts,
    forwarded: &ForwardedFields,
    facts: &ConnectionFacts,
    settings: &Settings,
    validator: &V,
) -> Result<Passed, Rejection> {
    // RS-1, for a client behind a proxy.
    let attested = client::attested_connection(forwarded, facts, settings)?;
    let client = Client::new(facts, attested.as_deref(), settings);
    // A malformed proof is reported later, at RS-4.
    let proof = transport::proof(request);
    let (token, is_cached) = token(request, &proof, &client, settings)?;
    let early = if is_cached {
        Some(CheckedProof::Cached)
    } else if validator.asks(&token) {
        early::check(&token, &proof, request, &client, settings)?
    } else {
        None
    };
    let requester = client.requester(facts);
    let valid = validate(validator, &token, &requester).await?;
    let confirmation = valid.confirmation().map_err(|_| Check::Confirmation)?;
    let class = token_class(confirmation, token.scheme(), settings)?;
    check_certificate_binding(confirmation, &client)?;
    let dpop = match class {
        BindingClass::Dpop => Some(dpop::check(&token, confirmation, request, settings)?),
        _ => None,
    };
    let proof = match early {
        Some(passed) => Some(passed),
        None => proof::check_if_sent(proof?, &token, request, &client, settings)?,
    };
    if proof.is_none() && class == BindingClass::Session {
        return Err(Check::ProofMissing.into()); // RS-4
    }
    let request_bound = dpop.is_some()
        || proof
            .as_ref()
            .is_some_and(CheckedProof::has_all_request_claims);
    check_request_bound(request_bound, request, &settings.require_request_bound)?;
    check_policy(class, &client, settings.policy)?;
    if proof.is_none() && client.must_prove(class) {
        return Err(Check::ProofMissing.into()); // GW-3
    }
    check_scope(&valid, request, settings)?;
    // After all checks, so that a refused request neither uses up a `jti` nor caches a proof.
    if let Some(proof) = &proof {
        let owner = || ProofOwner::of(valid.claims(), &requester);
        proof
            .commit(&token, owner, facts, &client, settings)
            .await?;
    }
    if let Some(proof) = &dpop {
        let owner = ProofOwner::of(valid.claims(), &requester);
        proof.commit(owner, settings).await?;
    }
    Ok(Passed {
        proof: proof.is_some() || dpop.is_some(),
        // If there is a DPoP proof as well, its signature was verified.
        cached: dpop.is_none() && matches!(proof, Some(CheckedProof::Cached)),
        binding: VerifiedBinding {
            class: reported_class(class, &client),
            connection: facts.id(),
            certificate: client.certificate.map(Arc::clone),
            attested_by: client
                .attestation
                .as_ref()
                .map(|attestation| attestation.proxy),
            dpop_key: dpop.as_ref().map(|proof| proof.verified.key),
            request_bound,
            resumed: facts.is_resumed(),
            token: valid,
        },
        newer_nonce: dpop.and_then(|proof| proof.newer_nonce),
    })
}

/// The token, and whether it passed RS-5..RS-8 before with the same proof (RS-11).
fn token(
    request: &Parts,
    proof: &Result<Option<&[u8]>, Refusal>,
    client: &Client<'_>,
    settings: &Settings,
) -> Result<(AccessToken, bool), Refusal> {
    let field = transport::authorization(request)?;
    let cached = match proof {
        Ok(Some(proof)) => client.proofs.lookup(field.as_bytes(), proof),
        _ => None,
    };
    match cached {
        Some(token) => Ok((token, true)),
        None => Ok((transport::access_token(field, settings)?, false)),
    }
}

/// RS-2.
async fn validate<V: TokenValidator>(
    validator: &V,
    token: &AccessToken,
    requester: &Requester,
) -> Result<ValidToken, Rejection> {
    validator
        .validate_for(token, requester)
        .await
        .map_err(|error| match error.kind() {
            TokenErrorKind::Invalid => Refusal::with_detail(Check::Token, error.detail()).into(),
            TokenErrorKind::Unavailable => Rejection::TokenUnavailable(error),
            TokenErrorKind::Limited => Rejection::Limited(error),
        })
}

/// What the token is bound to. It is refused if that binding is not supported (TK-0..TK-5), or does
/// not match the scheme (RFC 9449 §7.1, §7.2).
fn token_class(
    confirmation: &Confirmation,
    scheme: Scheme,
    settings: &Settings,
) -> Result<BindingClass, Rejection> {
    if confirmation.unknown_method {
        return Err(Refusal::with_detail(
            Check::Confirmation,
            "TK-5: the cnf of the access token has no confirmation method that is known here",
        )
        .into());
    }
    match (
        confirmation.demand().map_err(|_| Check::Confirmation)?,
        scheme,
    ) {
        (Demand::Dpop, Scheme::Dpop) => Ok(BindingClass::Dpop),
        (_, Scheme::Dpop) => Err(DpopCheck::TokenNotBound.into()),
        (Demand::Session, _) => Ok(BindingClass::Session),
        (Demand::None, _) if confirmation.x5t_s256.is_some() => Ok(BindingClass::Certificate),
        (Demand::None, _) => Ok(BindingClass::Bearer),
        // Bound to a DPoP key, but presented with the scheme Bearer, which does not prove
        // possession.
        (Demand::Dpop, _) if settings.dpop.is_some() => Err(DpopCheck::BearerScheme.into()),
        _ => Err(Refusal::with_detail(
            Check::Confirmation,
            "the access token is bound to a DPoP key, and this server does not accept such tokens",
        )
        .into()),
    }
}

/// RS-3. Without a client certificate a certificate-bound token is always refused.
fn check_certificate_binding(
    confirmation: &Confirmation,
    client: &Client<'_>,
) -> Result<(), Refusal> {
    match confirmation.x5t_s256 {
        Some(_) if confirmation.x5t_s256 != client.thumbprint() => {
            Err(Check::TokenCertificate.into())
        }
        _ => Ok(()),
    }
}

/// RS-12.
fn check_request_bound(
    is_bound: bool,
    request: &Parts,
    required: &RequireRequestBound,
) -> Result<(), Refusal> {
    if reserved_fields::override_method(&request.headers)
        && required.forbids_method_override(request)
    {
        return Err(Refusal::with_detail(
            Check::RequestClaimsRequired,
            "RS-12: a field that overrides the method is not accepted here",
        ));
    }
    if required.applies_to(request) && !is_bound {
        return Err(Check::RequestClaimsRequired.into());
    }
    Ok(())
}

/// RS-13.
fn check_policy(
    class: BindingClass,
    client: &Client<'_>,
    policy: AcceptPolicy,
) -> Result<(), Refusal> {
    let is_attested = client.attestation.is_some();
    match (policy, class) {
        (AcceptPolicy::Follow, _) | (AcceptPolicy::RequireOrAttested, BindingClass::Session) => {
            Ok(())
        }
        (AcceptPolicy::Require, BindingClass::Session) if !is_attested => Ok(()),
        (AcceptPolicy::Require, BindingClass::Session) => Err(Refusal::with_detail(
            Check::BindingRequired,
            "GW-3: the attestation of a proxy does not suffice here",
        )),
        _ => Err(Check::BindingRequired.into()),
    }
}

/// RS-10.
fn check_scope(token: &ValidToken, request: &Parts, settings: &Settings) -> Result<(), Rejection> {
    match settings.required_scope.for_request(request) {
        Some(scope) if !scope.is_granted(token.claims()) => Err(Rejection::Scope(scope)),
        _ => Ok(()),
    }
}

/// GW-3: a binding that a proxy attests is reported as such.
fn reported_class(class: BindingClass, client: &Client<'_>) -> BindingClass {
    match class {
        BindingClass::Session | BindingClass::Certificate if client.attestation.is_some() => {
            BindingClass::ProxyAttested
        }
        class => class,
    }
}
