//! RFC 9449 §4.3, on a request whose token is bound to a DPoP key.

use bowline_proof::dpop::{self, BoundToken, DpopCheck, DpopRefusal, Nonce, Verified};
use bowline_proof::{AccessToken, Confirmation};
use http::request::Parts;
use rustls_pki_types::UnixTime;

use super::rejection::Rejection;
use super::{Settings, transport};
use crate::dpop::AcceptedNonces;
use crate::{Dpop, Insertion, ProofId, ProofOwner, ReplayStore, UsedProof};

/// A proof that passed §4.3, except that its `jti` may still have been used before.
pub(super) struct CheckedDpop<'a> {
    dpop: &'a Dpop,
    pub(super) verified: Verified,
    /// The newest nonce, if the proof carries an older one.
    pub(super) newer_nonce: Option<Nonce>,
    /// The last second in which the proof would be accepted.
    until: UnixTime,
}

/// All of §4.3.
pub(super) fn check<'a>(
    token: &AccessToken,
    confirmation: &Confirmation,
    request: &Parts,
    settings: &'a Settings,
) -> Result<CheckedDpop<'a>, DpopRefusal> {
    let (Some(dpop), Some(key)) = (&settings.dpop, confirmation.jkt) else {
        return Err(DpopCheck::TokenNotBound.into());
    };
    let proof = transport::dpop_proof(request)?;
    let now = settings.now();
    let nonces = dpop.nonces.as_ref().map(|nonces| nonces.accepted(now));
    let expected = dpop::Expected {
        method: &request.method,
        path: transport::path(request),
        targets: &settings.targets,
        now,
        windows: &settings.windows,
        token: Some(BoundToken {
            hash: token.hash(),
            key,
        }),
        nonces: nonces.as_ref().map(AcceptedNonces::all),
    };
    let verified = dpop::verify(proof, &expected)?;
    let mut until = settings.accepted_until(verified.issued_at);
    if until < now {
        return Err(DpopCheck::IssuedAt.into());
    }
    let mut newer_nonce = None;
    if let Some(nonces) = &nonces {
        let nonce = verified.nonce.as_deref();
        newer_nonce = nonces.newer_than(nonce);
        until = until.min(nonces.until(nonce));
    }
    Ok(CheckedDpop {
        dpop,
        verified,
        newer_nonce,
        until,
    })
}

impl CheckedDpop<'_> {
    /// Marks the proof as used, or refuses it as a replay (§11.1).
    pub(super) async fn commit(
        &self,
        owner: ProofOwner,
        settings: &Settings,
    ) -> Result<(), Rejection> {
        let id = ProofId::from_dpop(&self.verified);
        if insert_if_fresh(&*self.dpop.replay, id, owner, self.until, settings).await? {
            Ok(())
        } else {
            Err(DpopCheck::Replay.into())
        }
    }
}

/// Marks a proof as used and returns whether it was unused before. The entry is kept through the
/// second `until`, the last one in which the proof would be accepted.
pub(super) async fn insert_if_fresh(
    store: &dyn ReplayStore,
    id: ProofId,
    owner: ProofOwner,
    until: UnixTime,
    settings: &Settings,
) -> Result<bool, Rejection> {
    let proof = UsedProof { id, owner, until };
    match store.insert(proof, settings.now()).await {
        Insertion::Fresh => Ok(true),
        Insertion::Seen => Ok(false),
        Insertion::Full => Err(Rejection::ReplayMemoryFull),
        Insertion::Unavailable => Err(Rejection::ReplayStoreUnavailable),
    }
}
