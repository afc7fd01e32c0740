//! Making one proof: its claims and its signature. It knows nothing of the connection's other
//! proofs.

use std::sync::Arc;
use std::time::Instant;

use bowline_proof::{AccessToken, Proof, ProofClaims, RequestClaims, TokenHash};
use rustls_pki_types::UnixTime;

use super::history::MintCause;
use super::record::IssuedProof;
use crate::bind::{RequestFacts, TokenInUse, TokenSourceId};
use crate::conn::facts::{ConnectionFacts, TlsFacts};
use crate::conn::identity::Identity;
use crate::error::{Error, ErrorKind};
use crate::observe::{Cause, Event, Observers, Operation, ProofKind};

/// A proof to be made.
pub(super) struct ProofRequest {
    pub(super) token: TokenHash,
    pub(super) source: Option<TokenSourceId>,
    pub(super) operation: Operation,
    pub(super) identity: Arc<Identity>,
    pub(super) generation: u32,
    /// The cause, where the request itself shows it; the token's history tells the others.
    pub(super) cause: Option<Cause>,
    /// For a proof that is for one request alone (PR-6).
    pub(super) claims: Option<RequestClaims>,
}

impl ProofRequest {
    pub(super) fn reusable(
        request: &RequestFacts<'_>,
        token: &AccessToken,
        identity: Arc<Identity>,
        generation: u32,
        cause: Option<Cause>,
    ) -> Self {
        Self {
            token: *token.hash(),
            source: request.source,
            operation: request.operation,
            identity,
            generation,
            cause,
            claims: None,
        }
    }

    /// A proof for a connection that is to take over.
    pub(super) fn ahead(in_use: &TokenInUse, identity: Arc<Identity>) -> Self {
        Self {
            token: in_use.token,
            source: in_use.source,
            operation: in_use.operation,
            identity,
            generation: 0,
            cause: Some(Cause::Ahead),
            claims: None,
        }
    }

    /// Signs the proof. `cause` is called once it is signed, and tells why it was needed.
    pub(super) fn mint(
        &self,
        facts: &ConnectionFacts,
        observers: &Observers,
        cause: impl FnOnce() -> MintCause,
    ) -> Result<Arc<IssuedProof>, Error> {
        let kind = match self.claims {
            Some(_) => ProofKind::Request,
            None => ProofKind::Connection,
        };
        let started = Instant::now();
        let proof = self.sign(facts)?;
        let took = started.elapsed();
        self.identity.signings().took(took);
        let MintCause { cause, after } = cause();
        observers.emit(&Event::ProofMinted {
            operation: self.operation,
            connection: facts.id(),
            kind,
            cause,
            after,
            took,
        });
        Ok(Arc::new(IssuedProof::new(
            proof,
            kind,
            self.generation,
            cause == Cause::Challenge,
            self.operation,
            facts.id(),
            observers.clone(),
        )))
    }

    fn sign(&self, facts: &ConnectionFacts) -> Result<Proof, Error> {
        let exporter = facts.tls().map(TlsFacts::exporter);
        let exporter = exporter
            .ok_or_else(|| Error::new(ErrorKind::PlaintextRefused, "no TLS, no exporter value"))?;
        let claims = ProofClaims {
            token: &self.token,
            exporter,
            issued_at: UnixTime::now(),
            request: self.claims.clone(),
        };
        let signed = self.identity.proof_key().mint(&claims);
        signed.map_err(|e| {
            Error::with_source(
                ErrorKind::Signing,
                "the key did not sign a session-binding proof",
                e,
            )
        })
    }
}
