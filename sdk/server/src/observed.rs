//! What a policy that is only observed would have said about a request (RS-13).

use bowline_proof::Check;
use bowline_proof::dpop::DpopCheck;

/// What the policy would have said about a request that passes because it is only observed: see
/// [`BindingLayer::observe`](crate::BindingLayer::observe).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Observed {
    /// All checks held: the request would have passed.
    Held,
    /// It would have been refused for want of a proof. That breaks a client only if it does not
    /// answer challenges.
    ProofMissing(FailedCheck),
    /// It would have been refused because its proof failed, or is not the kind of proof that is
    /// required.
    ProofFailed(FailedCheck),
    /// It would have been refused with any proof (RS-3, RS-13, TK-0..TK-5).
    Refused(FailedCheck),
}

/// The first check that a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FailedCheck {
    /// A check of the token or of the session-binding proof.
    Session(Check),
    /// A check of DPoP.
    Dpop(DpopCheck),
}

impl Observed {
    /// A short name in snake case, for metric labels.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::ProofMissing(_) => "proof_missing",
            Self::ProofFailed(_) => "proof_failed",
            Self::Refused(_) => "refused",
        }
    }

    /// The first check that failed, unless all held.
    #[must_use]
    pub fn check(self) -> Option<FailedCheck> {
        match self {
            Self::Held => None,
            Self::ProofMissing(check) | Self::ProofFailed(check) | Self::Refused(check) => {
                Some(check)
            }
        }
    }

    /// The count that a request belongs to that this check would have refused. The challenge that
    /// the refusal would have carried tells: it asks for a proof, says that the proof is not valid,
    /// or that the token is not.
    pub(crate) fn failed(check: FailedCheck) -> Self {
        match check {
            // A nonce is asked for as a proof is: clients answer it.
            FailedCheck::Session(Check::ProofMissing)
            | FailedCheck::Dpop(DpopCheck::Missing | DpopCheck::Nonce) => Self::ProofMissing(check),
            FailedCheck::Session(Check::NoToken) => Self::Refused(check),
            check if check.error() == Some("invalid_token") => Self::Refused(check),
            check => Self::ProofFailed(check),
        }
    }
}

impl FailedCheck {
    /// The name of the check: see [`Check::name`] and [`DpopCheck::name`].
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Session(check) => check.name(),
            Self::Dpop(check) => check.name(),
        }
    }

    /// The requirement that the check enforces, such as `RS-6`.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::Session(check) => check.id(),
            Self::Dpop(check) => check.id(),
        }
    }

    fn error(self) -> Option<&'static str> {
        match self {
            Self::Session(check) => check.error(),
            Self::Dpop(check) => check.error(),
        }
    }
}

#[cfg(test)]
mod tests;
