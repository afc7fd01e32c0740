//! Making one proof: signing it away from the runtime, finding its cause, filing it for reuse.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use bowline_proof::{AccessToken, Proof, ProofClaims, RequestClaims, TokenHash};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use rustls_pki_types::UnixTime;

use super::memory::Need;
use super::record::Record;
use super::table::{Inner, Reusable};
use crate::bind::{RequestFacts, TokenSourceId};
use crate::connection::TlsFacts;
use crate::error::{Error, ErrorKind};
use crate::identity::Identity;
use crate::observe::{Cause, Event, Operation, ProofKind};
use crate::signing::signed;

/// A signing that several requests may wait for.
pub(super) type Minting = Shared<BoxFuture<'static, Result<Arc<Record>, Error>>>;

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

impl Inner {
    /// Signs on a blocking thread, so that a slow key holds up nothing else, and files the proof
    /// there, so that it is not lost when every request that asked for it has gone.
    pub(super) fn start(self: &Arc<Self>, order: Order) -> Minting {
        let inner = self.clone();
        let job = tokio::task::spawn_blocking(move || {
            // A key that panics must not leave the requests of this token waiting for it for ever.
            let signed =
                catch_unwind(AssertUnwindSafe(|| inner.sign(&order))).unwrap_or_else(|_| {
                    Err(Error::new(
                        ErrorKind::Signing,
                        "the key panicked instead of signing",
                    ))
                });
            inner.file(&order, &signed);
            signed
        });
        signed(job).boxed().shared()
    }

    pub(super) fn sign(&self, order: &Order) -> Result<Arc<Record>, Error> {
        let kind = match order.request {
            Some(_) => ProofKind::Request,
            None => ProofKind::Connection,
        };
        let started = Instant::now();
        let proof = self.mint(order)?;
        let took = started.elapsed();
        let need = self.count(order);
        self.observers.emit(&Event::ProofMinted {
            operation: order.operation,
            connection: self.facts.id(),
            kind,
            cause: need.cause,
            after: need.after,
            took,
        });
        Ok(Arc::new(Record::new(
            proof,
            kind,
            order.generation,
            need.cause == Cause::Challenge,
            order.operation,
            self.facts.id(),
            self.observers.clone(),
        )))
    }

    fn mint(&self, order: &Order) -> Result<Proof, Error> {
        let exporter = self.facts.tls().map(TlsFacts::exporter);
        let exporter = exporter
            .ok_or_else(|| Error::new(ErrorKind::PlaintextRefused, "no TLS, no exporter value"))?;
        let claims = ProofClaims {
            token: &order.token,
            exporter,
            issued_at: UnixTime::now(),
            request: order.request.clone(),
        };
        let signed = order.identity.proof_key().mint(&claims);
        signed.map_err(|e| {
            Error::with_source(
                ErrorKind::Signing,
                "the key did not sign a session-binding proof",
                e,
            )
        })
    }

    /// Decides the cause, and tells the memory that this connection holds a proof of the token.
    fn count(&self, order: &Order) -> Need {
        let mut state = self.lock();
        let closed = state.closed;
        let slot = self.slot(&mut state, &order.token);
        let sent_before = std::mem::replace(&mut slot.proved, true);
        let known = order.cause.or(sent_before.then_some(Cause::Scope));
        let need = match known {
            Some(cause) if sent_before => Need { cause, after: None },
            known => {
                let certificate = order.identity.thumbprint();
                let need = self.memory.prove(&order.token, order.source, certificate);
                known.map_or(need, |cause| Need { cause, after: None })
            }
        };
        if let Some(reason) = closed {
            // Too late for this connection: nobody will close this slot.
            state.slots.pop(&order.token);
            self.memory.closed(&order.token, reason);
        }
        need
    }

    fn file(&self, order: &Order, signed: &Result<Arc<Record>, Error>) {
        let mut state = self.lock();
        let Some(slot) = state.slots.peek_mut(&order.token) else {
            return;
        };
        if slot.generation != order.generation {
            return;
        }
        slot.shared = match signed {
            Ok(record) => Reusable::Ready(record.clone()),
            // The next request tries again.
            Err(_) => Reusable::None,
        };
    }
}
