//! RS-5 to RS-9 and RS-11, on a request that comes with a session-binding proof.

use bowline_proof::{AccessToken, Check, Expected, Refusal, Verified};
use http::request::Parts;
use rustls_pki_types::UnixTime;

use super::client::{Attestation, Client};
use super::rejection::Rejection;
use super::{Settings, dpop, transport};
use crate::certificate::ClientCertificate;
use crate::used_jtis::{JtiError, JtiUse};
use crate::{CloseReason, ConnectionFacts, ProofId, ProofOwner};

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

/// RS-5..RS-9, except for the used `jti` values (see [`CheckedProof::commit`]), on a request that
/// may come without a proof.
pub(super) fn check_if_sent<'a>(
    proof: Option<&'a [u8]>,
    token: &AccessToken,
    request: &Parts,
    client: &Client<'_>,
    settings: &Settings,
) -> Result<Option<CheckedProof<'a>>, Refusal> {
    match (proof, client.certificate) {
        (Some(found), Some(certificate)) => {
            check(found, certificate, token, request, client, settings).map(Some)
        }
        (Some(_), None) => Err(Refusal::with_detail(
            Check::ProofThumbprint,
            "the proof is for a client certificate, and this connection has none",
        )), // RS-5
        (None, _) => Ok(None),
    }
}

fn check<'a>(
    proof: &'a [u8],
    certificate: &ClientCertificate,
    token: &AccessToken,
    request: &Parts,
    client: &Client<'_>,
    settings: &Settings,
) -> Result<CheckedProof<'a>, Refusal> {
    if client.proofs.has_passed(token, proof, settings.generation) {
        return Ok(CheckedProof::Cached);
    }
    let expected = Expected {
        exporter: client.exporter,
        token: token.hash(),
        now: settings.now(),
        handshake_at: client.handshake_at,
        method: &request.method,
        path: transport::path(request),
        targets: &settings.targets,
        windows: &settings.windows,
    };
    let verified = certificate.verifier.verify(proof, &expected)?;
    let is_for_one_request = verified.jti().is_some();
    if is_for_one_request && settings.accepted_until(verified.issued_at) < settings.now() {
        return Err(Check::IssuedAt.into());
    }
    Ok(CheckedProof::New { proof, verified })
}

impl CheckedProof<'_> {
    pub(super) fn has_all_request_claims(&self) -> bool {
        match self {
            Self::Cached => false,
            Self::New { verified, .. } => verified.has_all_request_claims(),
        }
    }

    /// Marks the `jti` as used (RS-9).
    pub(super) async fn use_jti(
        &self,
        owner: impl Fn() -> ProofOwner,
        facts: &ConnectionFacts,
        client: &Client<'_>,
        settings: &Settings,
    ) -> Result<(), Rejection> {
        let Self::New { verified, .. } = self else {
            return Ok(());
        };
        let Some(jti) = verified.jti() else {
            return Ok(());
        };
        let (until, owner) = (settings.accepted_until(verified.issued_at), owner());
        match &client.attestation {
            None => commit_jti(jti, owner, until, facts, settings),
            Some(attestation) => {
                let id = ProofId::from_attested(attestation.connection, jti);
                commit_attested_jti(id, owner, until, attestation, settings).await
            }
        }
    }

    /// Undoes [`use_jti`](Self::use_jti), on a connection that this server terminates.
    pub(super) fn forget_jti(&self, client: &Client<'_>) {
        if let Self::New { verified, .. } = self
            && let Some(jti) = verified.jti()
        {
            client.proofs.forget_jti(jti);
        }
    }

    /// Caches the proof if it is reusable (RS-11).
    pub(super) fn cache(&self, token: &AccessToken, client: &Client<'_>, settings: &Settings) {
        if let Self::New { proof, verified } = self
            && verified.is_reusable()
        {
            let (tokens, generation) = (settings.cached_proofs, settings.generation);
            client.proofs.insert(token, proof, tokens, generation);
        }
    }
}

/// RS-9 on a connection that this server terminates: RS-6 refuses the proof on any other.
fn commit_jti(
    jti: &str,
    owner: ProofOwner,
    until: UnixTime,
    facts: &ConnectionFacts,
    settings: &Settings,
) -> Result<(), Rejection> {
    let wanted = JtiUse {
        jti,
        owner,
        now: settings.now().as_secs(),
        until: until.as_secs(),
        quota: settings.jti_quota,
        total: &settings.jti_total,
    };
    let left = facts
        .proofs
        .use_jti(&wanted)
        .map_err(|refused| match refused {
            JtiError::Seen => Rejection::from(Check::Replay),
            JtiError::QuotaFull => Check::ReplayQuota.into(),
            JtiError::TotalFull => Rejection::ReplayMemoryFull,
        })?;
    // Before it is full, so that requests in flight still pass and the client opens a new
    // connection in time.
    if left <= settings.jti_quota / 10 && !settings.observe {
        facts.drain(CloseReason::JtiQuota);
    }
    Ok(())
}

/// RS-9 behind a proxy: requests of one client connection may reach this node and others over
/// several connections of the proxy.
async fn commit_attested_jti(
    id: ProofId,
    owner: ProofOwner,
    until: UnixTime,
    attestation: &Attestation<'_>,
    settings: &Settings,
) -> Result<(), Rejection> {
    let store = &*attestation.proxies.replay;
    if dpop::insert_if_fresh(store, id, owner, until, settings).await? {
        Ok(())
    } else {
        Err(Check::Replay.into())
    }
}
