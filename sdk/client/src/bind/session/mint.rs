//! Making one proof: what goes into it, its signature, its record. Knows nothing of the table.

use std::sync::Arc;
use std::time::Instant;

use bowline_proof::{AccessToken, Proof, ProofClaims, RequestClaims, TokenHash};
use rustls_pki_types::UnixTime;

use super::history::Need;
use super::record::Record;
use crate::bind::{RequestFacts, TokenSourceId};
use crate::conn::facts::{ConnectionFacts, TlsFacts};
use crate::conn::identity::Identity;
use crate::error::{Error, ErrorKind};
use crate::observe::{Cause, Event, Observers, Operation, ProofKind};

/// A proof to be made.
pub(super) struct Order {
    pub(super) token: TokenHash,
    pub(super) source: Option<TokenSourceId>,
    pub(super) operation: Operation,
    pub(super) identity: Arc<Identity>,
    pub(super) generation: u32,
    /// What the order itself knows of the cause; [`Memory`] knows the rest.
    pub(super) cause: Option<Cause>,
    pub(super) request: Option<RequestClaims>,
}

impl Order {
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
            request: None,
        }
    }
}

impl Order {
    /// Signs the proof. `count` is called once it is signed, and tells why it was needed.
    pub(super) fn fill(
        &self,
        facts: &ConnectionFacts,
        observers: &Observers,
        count: impl FnOnce() -> Need,
    ) -> Result<Arc<Record>, Error> {
        let kind = match self.request {
            Some(_) => ProofKind::Request,
            None => ProofKind::Connection,
        };
        let started = Instant::now();
        let proof = self.mint(facts)?;
        let took = started.elapsed();
        let need = count();
        observers.emit(&Event::ProofMinted {
            operation: self.operation,
            connection: facts.id(),
            kind,
            cause: need.cause,
            after: need.after,
            took,
        });
        Ok(Arc::new(Record::new(
            proof,
            kind,
            self.generation,
            need.cause == Cause::Challenge,
            self.operation,
            facts.id(),
            observers.clone(),
        )))
    }

    fn mint(&self, facts: &ConnectionFacts) -> Result<Proof, Error> {
        let exporter = facts.tls().map(TlsFacts::exporter);
        let exporter = exporter
            .ok_or_else(|| Error::new(ErrorKind::PlaintextRefused, "no TLS, no exporter value"))?;
        let claims = ProofClaims {
            token: &self.token,
            exporter,
            issued_at: UnixTime::now(),
            request: self.request.clone(),
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
