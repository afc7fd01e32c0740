//! RS-1 to RS-13, in order.
//!
//! A token with the scheme `DPoP` takes the same way; RFC 9449 §4.3 comes after RS-3 and before RS-4, where a session's
//! proof is looked at, and its `jti` is used up last of all.

use bowline_proof::dpop::{DpopCheck, DpopRefusal, Nonce};
use bowline_proof::{AccessToken, Check, Confirmation, Demand, Expected, Refusal, Scheme, Verified};
use http::request::Parts;

use super::dpop;
use super::{Policy, Settings, transport};
use crate::facts::ClientCertificate;
use crate::memory::JtiRefused;
use crate::{
    Binding, BindingClass, ConnectionFacts, ServerEvent, TokenError, TokenErrorKind, TokenValidator, ValidToken,
};

/// Why a request does not pass.
pub(super) enum Refused {
    /// A check says no.
    By(Refusal),
    /// A check of DPoP says no.
    ByDpop(DpopRefusal),
    /// RS-2 cannot be decided.
    Unavailable(TokenError),
    /// RFC 9449 §11.1 cannot be decided, for this reason.
    ReplayStore(&'static str),
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self::By(refusal)
    }
}

impl From<Check> for Refused {
    fn from(check: Check) -> Self {
        Self::By(check.into())
    }
}

impl From<DpopRefusal> for Refused {
    fn from(refusal: DpopRefusal) -> Self {
        Self::ByDpop(refusal)
    }
}

impl From<DpopCheck> for Refused {
    fn from(check: DpopCheck) -> Self {
        Self::ByDpop(check.into())
    }
}

/// How a request passed.
pub(super) struct Passed {
    pub(super) binding: Binding,
    /// What the response is to tell a DPoP client (RFC 9449 §8.2).
    pub(super) newer_nonce: Option<Nonce>,
    cached: bool,
}

impl Passed {
    pub(super) fn event(&self) -> ServerEvent {
        ServerEvent::Verified {
            connection: self.binding.connection,
            class: self.binding.class,
            cached: self.cached,
            per_request_claims: self.binding.per_request_claims,
        }
    }
}

/// RS-1: past its `notAfter` a certificate vouches for nothing, whatever the request asks for.
pub(super) fn certificate_has_expired(facts: &ConnectionFacts, settings: &Settings) -> bool {
    facts
        .certificate()
        .is_some_and(|certificate| settings.clock.now() > certificate.not_after())
}

/// All checks on one request, except the expiry of the certificate, which comes before any other.
pub(super) async fn check<V: TokenValidator>(
    request: &Parts,
    facts: &ConnectionFacts,
    settings: &Settings,
    validator: &V,
) -> Result<Passed, Refused> {
    let token = transport::access_token(request, settings)?;
    let valid = validate(validator, &token).await?;
    let confirmation = valid.confirmation().map_err(|_| Check::Confirmation)?;
    let class = class(confirmation, token.scheme(), settings)?;
    check_certificate_binding(confirmation, facts)?;
    let dpop = match class {
        BindingClass::Dpop => Some(dpop::check(&token, confirmation, request, settings)?),
        _ => None,
    };
    let proof = match (transport::proof(request)?, facts.certificate()) {
        (Some(proof), Some(certificate)) => Some(check_proof(proof, certificate, &token, request, facts, settings)?),
        (Some(_), None) => {
            let detail = "the proof is for a client certificate, and this connection has none";
            return Err(Refusal::with_detail(Check::ProofThumbprint, detail).into()); // RS-5
        }
        (None, _) if class == BindingClass::Session => return Err(Check::ProofMissing.into()), // RS-4
        (None, _) => None,
    };
    let per_request_claims = dpop.is_some() || proof.as_ref().is_some_and(CheckedProof::has_all_request_claims);
    if settings.request_claims.are_demanded(request) && !per_request_claims {
        return Err(Check::RequestClaimsRequired.into()); // RS-12
    }
    if settings.policy == Policy::Require && class != BindingClass::Session {
        return Err(Check::BindingRequired.into()); // RS-13
    }
    // Last of all, so that a request that is refused uses up no `jti` and leaves no proof behind.
    if let Some(proof) = &proof {
        proof.settle(&token, facts, settings)?;
    }
    if let Some(proof) = &dpop {
        proof.settle(settings).await?;
    }
    Ok(Passed {
        cached: matches!(proof, Some(CheckedProof::SeenBefore)),
        binding: Binding {
            class,
            connection: facts.id(),
            thumbprint: facts.certificate().map(ClientCertificate::thumbprint),
            dpop_key: dpop.as_ref().map(|proof| proof.verified.key),
            per_request_claims,
            resumed: facts.is_resumed(),
            token: valid,
        },
        newer_nonce: dpop.and_then(|proof| proof.newer_nonce),
    })
}

/// RS-2.
async fn validate<V: TokenValidator>(validator: &V, token: &AccessToken) -> Result<ValidToken, Refused> {
    validator.validate(token).await.map_err(|error| match error.kind() {
        TokenErrorKind::Invalid => Refusal::with_detail(Check::Token, error.detail()).into(),
        TokenErrorKind::Unavailable => Refused::Unavailable(error),
    })
}

/// What the token is bound to; refused if that cannot be satisfied (TK-0..TK-2), or goes with another scheme
/// (RFC 9449 §7.1, §7.2).
fn class(confirmation: &Confirmation, scheme: Scheme, settings: &Settings) -> Result<BindingClass, Refused> {
    match (confirmation.demand().map_err(|_| Check::Confirmation)?, scheme) {
        (Demand::Dpop, Scheme::Dpop) => Ok(BindingClass::Dpop),
        (_, Scheme::Dpop) => Err(DpopCheck::TokenNotBound.into()),
        (Demand::Session, _) => Ok(BindingClass::Session),
        (Demand::None, _) if confirmation.x5t_s256.is_some() => Ok(BindingClass::Certificate),
        (Demand::None, _) => Ok(BindingClass::Bearer),
        // Bound to a key of which the scheme Bearer proves nothing.
        (Demand::Dpop, _) if settings.dpop.is_some() => Err(DpopCheck::BearerScheme.into()),
        _ => Err(Refusal::with_detail(
            Check::Confirmation,
            "the access token is bound to a DPoP key, and this server takes no such tokens",
        )
        .into()),
    }
}

/// RS-3. Without a client certificate there is nothing to equal.
fn check_certificate_binding(confirmation: &Confirmation, facts: &ConnectionFacts) -> Result<(), Refusal> {
    match confirmation.x5t_s256 {
        Some(_) if confirmation.x5t_s256 != facts.certificate().map(ClientCertificate::thumbprint) => {
            Err(Check::TokenCertificate.into())
        }
        _ => Ok(()),
    }
}

/// RS-5..RS-9, less the memory of `jti`: see [`CheckedProof::settle`].
fn check_proof<'a>(
    proof: &'a [u8],
    certificate: &ClientCertificate,
    token: &AccessToken,
    request: &Parts,
    facts: &ConnectionFacts,
    settings: &Settings,
) -> Result<CheckedProof<'a>, Refusal> {
    if facts.memory.has_passed(token.hash(), proof) {
        return Ok(CheckedProof::SeenBefore);
    }
    let expected = Expected {
        exporter: facts.exporter(),
        token: token.hash(),
        now: settings.clock.now(),
        handshake_at: facts.handshake_at(),
        method: &request.method,
        path: transport::path(request),
        targets: &settings.targets,
        windows: &settings.windows,
    };
    let verified = certificate.verifier.verify(proof, &expected)?;
    Ok(CheckedProof::New { proof, verified })
}

/// A proof that passed RS-5..RS-8, and RS-9 but for its `jti`.
enum CheckedProof<'a> {
    /// This very proof passed with this token on this connection; it has no per-request claims (RS-11).
    SeenBefore,
    New {
        proof: &'a [u8],
        verified: Verified,
    },
}

impl CheckedProof<'_> {
    fn has_all_request_claims(&self) -> bool {
        match self {
            Self::SeenBefore => false,
            Self::New { verified, .. } => verified.has_all_request_claims(),
        }
    }

    /// Uses up the `jti` (RS-9), or remembers the proof if it is a reusable one (RS-11).
    fn settle(&self, token: &AccessToken, facts: &ConnectionFacts, settings: &Settings) -> Result<(), Refusal> {
        let Self::New { proof, verified } = self else {
            return Ok(());
        };
        if let Some(jti) = verified.jti() {
            let left = facts
                .memory
                .use_up(jti, settings.jti_quota)
                .map_err(|refused| match refused {
                    JtiRefused::Seen => Check::Replay,
                    JtiRefused::QuotaFull => Check::ReplayQuota,
                })?;
            // Before it is full, so that what is in flight still passes and the client moves on in time.
            if left <= settings.jti_quota / 10 {
                facts.drain.notify_one();
            }
        }
        if verified.is_reusable() {
            facts.memory.remember(*token.hash(), proof, settings.remembered_proofs);
        }
        Ok(())
    }
}
