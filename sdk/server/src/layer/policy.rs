//! What a policy demands of a token (RS-13).

use std::fmt;

use bowline_proof::{Check, Confirmation, Demand, Refusal};

use super::Settings;
use crate::TokenValidator;

/// What a token must be bound to, and for which tokens a session-binding proof is demanded (RS-13).
///
/// | policy | token with `tls_exp` | `x5t#S256` only | DPoP-bound | bearer |
/// |---|---|---|---|---|
/// | `Follow` | proof | certificate | DPoP proof | passes |
/// | `RequireBound` | proof | certificate | DPoP proof | refused |
/// | `RequireProof` | proof | proof | refused | refused |
/// | `RequireSession` | proof | refused | refused | refused |
///
/// A token with `x5t#S256` and `jkt` counts as DPoP-bound; where that is accepted, its certificate
/// is checked too (RS-3). A token whose `cnf` has no member that is known here is refused under
/// every policy (TK-5). A proof that is sent is verified under every policy.
///
/// `Follow` and `RequireBound` do not miss a proof that is left away with a certificate-bound
/// token, so a stolen token passes on another connection with the same certificate (T1), and with a
/// stolen TLS ticket (T7). `RequireProof` is for those tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AcceptPolicy {
    /// The token decides what is checked. A bearer token passes as a bearer token.
    #[default]
    Follow,
    /// No bearer tokens: a token is bound to a certificate or to a DPoP key.
    RequireBound,
    /// Every request proves its connection, with a token that names the client's certificate,
    /// whether or not it has `tls_exp`. A missing proof is answered `use_session_binding`.
    RequireProof,
    /// Only tokens that the authorization server itself marked as session-bound, with `tls_exp`.
    RequireSession,
}

impl AcceptPolicy {
    /// A short name in snake case, for logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Follow => "follow",
            Self::RequireBound => "require_bound",
            Self::RequireProof => "require_proof",
            Self::RequireSession => "require_session",
        }
    }

    /// Whether no token passes without a session-binding proof.
    #[must_use]
    pub fn proves_every_request(self) -> bool {
        demands_proof(self, None) == Ok(true)
    }
}

impl fmt::Display for AcceptPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A column of the table: what a token says that it is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// `x5t#S256` and `tls_exp`.
    Marked,
    /// `x5t#S256` only.
    Certificate,
    /// `jkt`, perhaps with `x5t#S256`.
    Dpop,
    Bearer,
}

impl TokenKind {
    /// # Errors
    /// `cnf` cannot be satisfied (TK-0..TK-2), or has no member that is known (TK-5).
    pub(super) fn of(confirmation: &Confirmation) -> Result<Self, Refusal> {
        if confirmation.unknown_method {
            return Err(Refusal::with_detail(
                Check::Confirmation,
                "TK-5: the cnf of the access token has no confirmation method that is known here",
            ));
        }
        match confirmation.demand() {
            Ok(Demand::Session) => Ok(Self::Marked),
            Ok(Demand::Dpop) => Ok(Self::Dpop),
            Ok(Demand::None) if confirmation.x5t_s256.is_some() => Ok(Self::Certificate),
            Ok(Demand::None) => Ok(Self::Bearer),
            // A later version of the proof crate may know further demands.
            Ok(_) | Err(_) => Err(Check::Confirmation.into()),
        }
    }
}

/// Whether a request with this token passes only with a session-binding proof: the whole table, and
/// the only place that knows it. `None` is a token of which nothing is known yet, because it is
/// opaque and was not validated.
///
/// # Errors
/// The policy refuses the token, whatever comes with it (RS-13).
pub(super) fn demands_proof(
    policy: AcceptPolicy,
    token: Option<TokenKind>,
) -> Result<bool, Refusal> {
    use AcceptPolicy::{Follow, RequireBound, RequireProof, RequireSession};
    use TokenKind::{Bearer, Certificate, Dpop, Marked};
    let refused = |detail| Err(Refusal::with_detail(Check::BindingRequired, detail));
    match (policy, token) {
        (_, Some(Marked)) => Ok(true),
        (Follow, _) => Ok(false),
        (RequireBound, None | Some(Certificate | Dpop)) => Ok(false),
        (RequireProof | RequireSession, None) | (RequireProof, Some(Certificate)) => Ok(true),
        (RequireBound, Some(Bearer)) => {
            refused("an access token that is bound to a certificate or a key is required here")
        }
        (RequireProof, Some(Bearer)) => {
            refused("an access token that is bound to the client certificate is required here")
        }
        (RequireProof, Some(Dpop)) => {
            refused("a DPoP-bound access token is not accepted here: it does not name a connection")
        }
        (RequireSession, Some(_)) => Err(Check::BindingRequired.into()),
    }
}

/// The refusal of a request without the proof that is demanded (RS-4). Only of a token with
/// `tls_exp` it says that the token asks for it.
pub(super) fn missing_proof(token: Option<TokenKind>) -> Refusal {
    match token {
        Some(TokenKind::Marked) => Check::ProofMissing.into(),
        _ => Refusal::with_detail(
            Check::ProofMissing,
            "a session-binding proof is required here",
        ),
    }
}

/// Options that contradict the policy (RS-13, GW-4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPolicy {
    /// A validator that validates nothing, with a policy that lets tokens pass without a proof.
    #[error(
        "the policy {0} lets tokens pass without a proof, and the validator validates none of them \
         (UpstreamValidates, GW-4): use AcceptPolicy::RequireProof or RequireSession"
    )]
    BindingOnly(AcceptPolicy),
    /// [`BindingLayer::dpop`](crate::BindingLayer::dpop) with a policy that refuses DPoP-bound
    /// tokens.
    #[error(
        "the policy {0} refuses DPoP-bound tokens: do not configure DPoP, or use \
         AcceptPolicy::Follow or RequireBound"
    )]
    Dpop(AcceptPolicy),
}

pub(super) fn check(
    settings: &Settings,
    validator: &impl TokenValidator,
) -> Result<(), InvalidPolicy> {
    let policy = settings.policy;
    if validator.is_binding_only() && !policy.proves_every_request() {
        return Err(InvalidPolicy::BindingOnly(policy));
    }
    if settings.dpop.is_some() && demands_proof(policy, Some(TokenKind::Dpop)).is_err() {
        return Err(InvalidPolicy::Dpop(policy));
    }
    Ok(())
}
