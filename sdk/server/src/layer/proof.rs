//! RS-5 to RS-9 and RS-11, on a request that comes with a session-binding proof.

use bowline_proof::{AccessToken, Check, Expected, Refusal, Verified};
use http::request::Parts;

use super::client::{Attestation, Client};
use super::rejection::Rejection;
use super::{Settings, dpop, transport};
use crate::certificate::ClientCertificate;
use crate::proof_cache::JtiError;
use crate::{CloseReason, ConnectionFacts, ProofId};

/// A proof that passed RS-5..RS-8 and RS-9, except that its `jti` may have been used before.
pub(super) enum CheckedProof<'a> {
    /// The same proof passed with this token on this connection before; it has no request claims
    /// (RS-11).
    Cached,
    New {
        proof: &'a [u8],
        verified: Verified,
    },
}

/// RS-5..RS-9, except for the used `jti` values: see [`CheckedProof::commit`].
pub(super) fn check<'a>(
    proof: &'a [u8],
    certificate: &ClientCertificate,
    token: &AccessToken,
    request: &Parts,
    client: &Client<'_>,
    settings: &Settings,
) -> Result<CheckedProof<'a>, Refusal> {
    if client.proofs.has_passed(token, proof) {
        return Ok(CheckedProof::Cached);
    }
    let expected = Expected {
        exporter: client.exporter,
        token: token.hash(),
        now: settings.clock.now(),
        handshake_at: client.handshake_at,
        method: &request.method,
        path: transport::path(request),
        targets: &settings.targets,
        windows: &settings.windows,
    };
    let verified = certificate.verifier.verify(proof, &expected)?;
    Ok(CheckedProof::New { proof, verified })
}

impl CheckedProof<'_> {
    pub(super) fn has_all_request_claims(&self) -> bool {
        match self {
            Self::Cached => false,
            Self::New { verified, .. } => verified.has_all_request_claims(),
        }
    }

    /// Marks the `jti` as used (RS-9), or caches the proof if it is reusable (RS-11).
    pub(super) async fn commit(
        &self,
        token: &AccessToken,
        facts: &ConnectionFacts,
        client: &Client<'_>,
        settings: &Settings,
    ) -> Result<(), Rejection> {
        let Self::New { proof, verified } = self else {
            return Ok(());
        };
        match (verified.jti(), &client.attestation) {
            (Some(jti), None) => commit_jti(jti, facts, settings)?,
            (Some(jti), Some(attestation)) => {
                commit_attested_jti(jti, attestation, verified, settings).await?
            }
            (None, _) => {}
        }
        if verified.is_reusable() {
            client.proofs.insert(token, proof, settings.cached_proofs);
        }
        Ok(())
    }
}

/// RS-9 on a connection that this server terminates: RS-6 refuses the proof on any other.
fn commit_jti(jti: &str, facts: &ConnectionFacts, settings: &Settings) -> Result<(), Refusal> {
    let left = facts
        .proofs
        .use_jti(jti, settings.jti_quota)
        .map_err(|refused| match refused {
            JtiError::Seen => Check::Replay,
            JtiError::QuotaFull => Check::ReplayQuota,
        })?;
    // Before it is full, so that requests in flight still pass and the client opens a new
    // connection in time.
    if left <= settings.jti_quota / 10 {
        facts.drain(CloseReason::JtiQuota);
    }
    Ok(())
}

/// RS-9 behind a proxy: requests of one client connection may reach this node and others over
/// several connections of the proxy.
async fn commit_attested_jti(
    jti: &str,
    attestation: &Attestation<'_>,
    verified: &Verified,
    settings: &Settings,
) -> Result<(), Rejection> {
    let id = ProofId::from_attested(attestation.connection, jti);
    let store = &*attestation.proxies.replay;
    if dpop::insert_if_fresh(store, id, verified.issued_at, settings).await? {
        Ok(())
    } else {
        Err(Check::Replay.into())
    }
}
