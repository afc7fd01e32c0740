//! The client's end of the TLS connection: as this server knows it, or as a trusted proxy attests
//! it.

use std::sync::Arc;

use bowline_proof::{Check, ExporterValue, Refusal, Thumbprint};
use rustls_pki_types::UnixTime;

use super::Settings;
use super::policy::TokenKind;
use crate::certificate::ClientCertificate;
use crate::owner::Owner;
use crate::proof_cache::ProofCache;
use crate::proxies::{AttestedConnection, ForwardedFields};
use crate::{ConnectionFacts, Requester, TrustedProxies};

/// What RS-3 to RS-9 compare a request with.
pub(super) struct Client<'a> {
    pub(super) certificate: Option<&'a Arc<ClientCertificate>>,
    pub(super) exporter: &'a ExporterValue,
    /// The earliest `iat` of a reusable proof (RS-8).
    pub(super) handshake_at: UnixTime,
    pub(super) proofs: &'a ProofCache,
    pub(super) attestation: Option<Attestation<'a>>,
}

/// The proxy that attests the client, and the connection that it attests (GW-3).
pub(super) struct Attestation<'a> {
    pub(super) proxies: &'a TrustedProxies,
    pub(super) proxy: Thumbprint,
    pub(super) connection: &'a [u8; 32],
}

/// What a trusted proxy attests of the client, if it does.
pub(super) fn attested_connection(
    forwarded: &ForwardedFields,
    facts: &ConnectionFacts,
    settings: &Settings,
) -> Result<Option<Arc<AttestedConnection>>, Refusal> {
    let Some(proxies) = &settings.trusted_proxies else {
        return Ok(None);
    };
    let refused = |detail| Refusal::with_detail(Check::Certificate, detail);
    let attested = proxies
        .attested_connection(forwarded, facts)
        .map_err(refused)?;
    if let Some(attested) = &attested {
        let now = settings.clock.now();
        // RS-1. The proxy verified the chain at the time of its handshake with the client.
        if now > attested.certificate.not_after() || now < attested.certificate.not_before() {
            return Err(refused(
                "GW-3: the attested client certificate has expired or is not valid yet",
            ));
        }
    }
    Ok(attested)
}

impl<'a> Client<'a> {
    pub(super) fn new(
        facts: &'a ConnectionFacts,
        attested: Option<&'a AttestedConnection>,
        settings: &'a Settings,
    ) -> Self {
        match (attested, &settings.trusted_proxies, &facts.certificate) {
            (Some(attested), Some(proxies), Some(proxy)) => Self {
                certificate: Some(&attested.certificate),
                exporter: &attested.exporter,
                handshake_at: UnixTime::since_unix_epoch(std::time::Duration::ZERO),
                proofs: &attested.proofs,
                attestation: Some(Attestation {
                    proxies,
                    proxy: proxy.thumbprint(),
                    connection: &attested.key,
                }),
            },
            _ => Self {
                certificate: facts.certificate.as_ref(),
                exporter: &facts.exporter,
                handshake_at: facts.handshake_at,
                proofs: &facts.proofs,
                attestation: None,
            },
        }
    }

    /// The party that the request is counted for. Behind a proxy that is the client, not the proxy.
    pub(super) fn requester(&self, facts: &ConnectionFacts) -> Requester {
        Requester::new(Owner::of(
            self.certificate.map(|found| &**found),
            facts.peer(),
        ))
    }

    /// Whether a request with a token of this kind must carry a session-binding proof because a
    /// proxy attests the client (GW-3).
    pub(super) fn must_prove(&self, token: TokenKind) -> bool {
        match (&self.attestation, token) {
            (None, _) | (Some(_), TokenKind::Dpop) => false,
            (Some(attestation), TokenKind::Certificate) => {
                !attestation.proxies.certificates_without_proof
            }
            (Some(_), _) => true,
        }
    }

    /// Whether this is so whatever the kind of a token with the scheme `Bearer` will be.
    pub(super) fn must_always_prove(&self) -> bool {
        self.must_prove(TokenKind::Certificate) && self.must_prove(TokenKind::Bearer)
    }

    pub(super) fn thumbprint(&self) -> Option<Thumbprint> {
        self.certificate.map(|certificate| certificate.thumbprint())
    }
}
