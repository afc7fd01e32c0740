//! Checks a request by RS-1 to RS-13, in this order, except for what [`early`] brings forward.
//!
//! A token with the scheme `DPoP` passes through the same checks. Those of RFC 9449 §4.3 come after
//! RS-3 and before RS-4, the first check of a session-binding proof. The `jti` of the DPoP proof is
//! marked as used after all checks.

use std::sync::Arc;

use bowline_proof::dpop::{DpopCheck, Nonce};
use bowline_proof::{AccessToken, Check, Confirmation, Refusal, Scheme};
use http::request::Parts;

use super::client::{self, Client};
use super::policy::{self, TokenKind, demands_proof};
use super::proof::{self, CheckedProof};
use super::rejection::Rejection;
use super::{AcceptPolicy, RequireRequestBound, Settings, dpop, early, transport};
use crate::event::report;
use crate::proxies::ForwardedFields;
use crate::{
    BindingClass, CloseReason, ConnectionFacts, Observed, ProofOwner, Requester, ServerEvent,
    TokenErrorKind, TokenValidator, ValidToken, VerifiedBinding, reserved_fields,
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
    /// Writes the log line and reports the events.
    pub(super) fn report(&self, settings: &Settings) {
        let (binding, observer) = (&self.binding, settings.observer.as_deref());
        let connection = binding.connection;
        let event = ServerEvent::Verified {
            connection,
            class: binding.class,
            marked: binding.is_marked(),
            proof: self.proof,
            cached: self.cached,
            request_bound: binding.request_bound,
        };
        report(observer, &event);
        if let Some(outcome) = binding.observed {
            if let Some(check) = outcome.check() {
                let (id, check) = (check.id(), check.name());
                tracing::debug!(%connection, id, check, "request would be refused");
            }
            report(
                observer,
                &ServerEvent::Observed {
                    connection,
                    outcome,
                },
            );
        }
    }
}

/// RS-1: why the connection's certificate counts no longer, if so: it is past its `notAfter`, or does
/// not pass since the roots were replaced. It is checked for every request, also on public paths.
pub(super) fn certificate_end(facts: &ConnectionFacts, settings: &Settings) -> Option<CloseReason> {
    let certificate = facts.certificate()?;
    if certificate.verify_if_replaced().is_err() {
        return Some(CloseReason::CertificateRefused);
    }
    let has_expired = settings.clock.now() > certificate.not_after();
    has_expired.then_some(CloseReason::Certificate)
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
    let presented = presented_token(request, &proof, &client, settings)?;
    let token = &presented.token;
    let early = if presented.is_cached {
        Some(CheckedProof::Cached)
    } else if validator.asks(token) && !settings.observe {
        early::check(token, &proof, request, &client, settings)?
    } else {
        None
    };
    let requester = client.requester(facts);
    let valid = validate(validator, token, &requester).await?;
    let checks = BindingChecks {
        request,
        facts,
        settings,
        client: &client,
        token,
        valid: &valid,
        requester: &requester,
    };
    let outcome = match presented.misplaced {
        Some(refusal) => Err(refusal.into()),
        None => checks.run(proof, early).await,
    };
    if settings.observe {
        checks.observed(outcome)
    } else {
        outcome
    }
}

/// A valid token, and what its binding is checked against.
struct BindingChecks<'a> {
    request: &'a Parts,
    facts: &'a ConnectionFacts,
    settings: &'a Settings,
    client: &'a Client<'a>,
    token: &'a AccessToken,
    valid: &'a ValidToken,
    requester: &'a Requester,
}

impl<'a> BindingChecks<'a> {
    /// TK-2 to TK-5, RS-3 to RS-13 and GW-4.
    async fn run(
        &self,
        proof: Result<Option<&'a [u8]>, Refusal>,
        early: Option<CheckedProof<'a>>,
    ) -> Result<Passed, Rejection> {
        let (request, settings, client, token) =
            (self.request, self.settings, self.client, self.token);
        if self.valid.is_unvalidated() && reserved_fields::announce_form(&request.headers) {
            return Err(Refusal::with_detail(
                Check::TokenTransport,
                "GW-4: a form body may hold another access token and is not accepted with one",
            )
            .into());
        }
        let confirmation = self.valid.confirmation().map_err(|_| Check::Confirmation)?;
        let kind = token_kind(confirmation, token.scheme(), settings)?;
        check_certificate_binding(confirmation, client)?;
        let dpop = match kind {
            TokenKind::Dpop => Some(dpop::check(token, confirmation, request, settings)?),
            _ => None,
        };
        let proof = match early {
            Some(passed) => Some(passed),
            None => proof::check_if_sent(proof?, token, request, client, settings)?,
        };
        let demanded = demands_proof(self.policy(), Some(kind));
        if proof.is_none() && demanded == Ok(true) {
            return Err(policy::missing_proof(Some(kind)).into()); // RS-4
        }
        let request_bound = dpop.is_some()
            || proof
                .as_ref()
                .is_some_and(CheckedProof::has_all_request_claims);
        check_request_bound(request_bound, request, &settings.require_request_bound)?;
        demanded?; // RS-13
        if proof.is_none() && client.must_prove(kind) {
            return Err(policy::missing_proof(Some(kind)).into()); // GW-3
        }
        let class = verified_class(kind, proof.is_some(), client);
        if class == BindingClass::ProxyAttested && !settings.accept_proxy_attested {
            return Err(Refusal::with_detail(
                Check::BindingRequired,
                "GW-3: the attestation of a proxy does not suffice here",
            )
            .into());
        }
        self.check_scope()?;
        // After all checks, so that a refused request neither uses up a `jti` nor caches a proof.
        let owner = || ProofOwner::of(self.valid.claims(), self.requester);
        if let Some(proof) = &proof {
            proof.use_jti(owner, self.facts, client, settings).await?;
        }
        if let Some(dpop) = &dpop
            && let Err(rejection) = dpop.commit(owner(), settings).await
        {
            if let Some(proof) = &proof {
                proof.forget_jti(client);
            }
            return Err(rejection);
        }
        if let Some(proof) = &proof {
            proof.cache(token, client, settings);
        }
        Ok(Passed {
            proof: proof.is_some() || dpop.is_some(),
            // If there is a DPoP proof as well, its signature was verified.
            cached: dpop.is_none() && matches!(proof, Some(CheckedProof::Cached)),
            binding: VerifiedBinding {
                class,
                marked: kind == TokenKind::Marked,
                attested_by: client
                    .attestation
                    .as_ref()
                    .map(|attestation| attestation.proxy),
                dpop_key: dpop.as_ref().map(|proof| proof.verified.key),
                request_bound,
                ..self.binding()
            },
            newer_nonce: dpop.and_then(|proof| proof.newer_nonce),
        })
    }

    /// The policy; of unverified claims (GW-4) always a proof is demanded, also where a wrapper of
    /// the validator does not say that they are unverified.
    fn policy(&self) -> AcceptPolicy {
        let policy = self.settings.policy;
        if self.valid.is_unvalidated() && !policy.proves_every_request() {
            AcceptPolicy::RequireProof
        } else {
            policy
        }
    }

    /// The request passes, whatever the checks say that are only observed (RS-13).
    fn observed(&self, outcome: Result<Passed, Rejection>) -> Result<Passed, Rejection> {
        let rejection = match outcome {
            Ok(mut passed) => {
                passed.binding.observed = Some(Observed::Held);
                return Ok(passed);
            }
            Err(rejection) => rejection,
        };
        let Some(observed) = rejection.observed() else {
            return Err(rejection);
        };
        // It comes last, and refuses all the same.
        self.check_scope()?;
        Ok(Passed {
            binding: VerifiedBinding {
                observed: Some(observed),
                ..self.binding()
            },
            newer_nonce: rejection.nonce(self.settings),
            proof: false,
            cached: false,
        })
    }

    /// Of a request of which nothing but the token is verified.
    fn binding(&self) -> VerifiedBinding {
        VerifiedBinding {
            class: BindingClass::None,
            marked: false,
            connection: self.facts.id(),
            certificate: self.client.certificate.map(Arc::clone),
            attested_by: None,
            dpop_key: None,
            request_bound: false,
            resumed: self.facts.is_resumed(),
            token: self.valid.clone(),
            observed: None,
        }
    }

    /// RS-10.
    fn check_scope(&self) -> Result<(), Rejection> {
        match self.settings.required_scope.for_request(self.request) {
            Some(scope) if !scope.is_granted(self.valid.claims()) => Err(Rejection::Scope(scope)),
            _ => Ok(()),
        }
    }
}

/// The token of a request.
struct PresentedToken {
    token: AccessToken,
    /// It passed RS-5..RS-8 before with the same proof (RS-11).
    is_cached: bool,
    /// Why it would be refused where it is, if that is only observed (TK-0).
    misplaced: Option<Refusal>,
}

fn presented_token(
    request: &Parts,
    proof: &Result<Option<&[u8]>, Refusal>,
    client: &Client<'_>,
    settings: &Settings,
) -> Result<PresentedToken, Refusal> {
    let placed = transport::authorization(request).and_then(|field| {
        let cached = match proof {
            Ok(Some(proof)) => client
                .proofs
                .lookup(field.as_bytes(), proof, settings.generation),
            _ => None,
        };
        let is_cached = cached.is_some();
        let token = match cached {
            Some(token) => token,
            None => transport::access_token(field, settings.dpop.is_some()).map_err(|refusal| {
                // RS-13, where that is known by the scheme.
                let kind = transport::is_dpop(request).then_some(TokenKind::Dpop);
                match (refusal.check(), demands_proof(settings.policy, kind)) {
                    (Check::NoToken, Err(refused)) => refused,
                    _ => refusal,
                }
            })?,
        };
        Ok(PresentedToken {
            token,
            is_cached,
            misplaced: None,
        })
    });
    match placed {
        Err(refusal) if settings.observe && refusal.check() != Check::Token => {
            let token = transport::only_token(request)?.ok_or(refusal)?;
            Ok(PresentedToken {
                token,
                is_cached: false,
                misplaced: Some(refusal),
            })
        }
        placed => placed,
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

/// What the token says that it is bound to. It is refused if that binding is not supported
/// (TK-0..TK-5), or does not match the scheme (RFC 9449 §7.1, §7.2).
fn token_kind(
    confirmation: &Confirmation,
    scheme: Scheme,
    settings: &Settings,
) -> Result<TokenKind, Rejection> {
    match (TokenKind::of(confirmation)?, scheme) {
        (TokenKind::Dpop, Scheme::Dpop) => Ok(TokenKind::Dpop),
        (_, Scheme::Dpop) => Err(DpopCheck::TokenNotBound.into()),
        // Bound to a DPoP key, but presented with the scheme Bearer, which does not prove
        // possession.
        (TokenKind::Dpop, _) if settings.dpop.is_some() => Err(DpopCheck::BearerScheme.into()),
        (TokenKind::Dpop, _) => {
            demands_proof(settings.policy, Some(TokenKind::Dpop))?; // RS-13
            Err(Refusal::with_detail(
                Check::Confirmation,
                "the access token is bound to a DPoP key, and this server does not accept such \
                 tokens",
            )
            .into())
        }
        (kind, _) => Ok(kind),
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
    if matches!(required, RequireRequestBound::Never) {
        return Ok(());
    }
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

/// What was verified (RS-13). What a proxy attests is reported as such (GW-3).
fn verified_class(token: TokenKind, has_proof: bool, client: &Client<'_>) -> BindingClass {
    match token {
        TokenKind::Dpop => BindingClass::Dpop,
        // Anybody can make a proof for a stolen one.
        TokenKind::Bearer => BindingClass::Bearer,
        TokenKind::Marked | TokenKind::Certificate if client.attestation.is_some() => {
            BindingClass::ProxyAttested
        }
        TokenKind::Marked | TokenKind::Certificate if has_proof => BindingClass::Session,
        TokenKind::Marked | TokenKind::Certificate => BindingClass::Certificate,
    }
}
