//! Making one proof: signing it away from the runtime, and finding its cause.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use bowline_proof::dpop::{Claims, Nonce};
use bowline_proof::{RequestClaims, Scheme, TokenHash};
use futures_util::FutureExt;
use http::HeaderValue;
use rustls_pki_types::UnixTime;

use super::connection::Inner;
use super::record::Record;
use crate::bind::{Attachment, Bound, RequestFacts};
use crate::error::{Error, ErrorKind};
use crate::observe::{Cause, Event, Operation, ProofKind};
use crate::signing::{signed, within};

/// A proof to be made.
pub(super) struct Order {
    /// None at a token endpoint.
    token: Option<TokenHash>,
    authorization: Option<HeaderValue>,
    request: RequestClaims,
    nonce: Option<Nonce>,
    operation: Operation,
    replaces_refused: bool,
}

impl Order {
    pub(super) fn new(request: &RequestFacts<'_>, nonce: Option<Nonce>) -> Result<Self, Error> {
        let claims = RequestClaims::new(request.method, request.uri).map_err(|e| {
            Error::with_source(
                ErrorKind::InvalidRequest,
                "no `htu` can be made of the request's URI",
                e,
            )
        })?;
        Ok(Self {
            token: request.token.map(|token| *token.hash()),
            authorization: request
                .token
                .map(|token| token.authorization_as(Scheme::Dpop).clone()),
            request: claims,
            nonce,
            operation: request.operation,
            replaces_refused: request.again,
        })
    }
}

impl Inner {
    /// Signs on a blocking thread, so that a slow key holds up nothing else. It signs to the end
    /// even if the request has gone: then the proof is counted as abandoned.
    pub(super) fn start(self: &Arc<Self>, order: Order) -> Bound {
        let (inner, limit) = (self.clone(), self.sign_timeout);
        let job = tokio::task::spawn_blocking(move || inner.sign(order));
        Bound::Pending(within(limit, signed(job)).boxed())
    }

    fn sign(&self, order: Order) -> Result<Attachment, Error> {
        let started = Instant::now();
        let claims = Claims {
            request: &order.request,
            issued_at: UnixTime::now(),
            token: order.token.as_ref(),
            nonce: order.nonce.as_ref(),
        };
        let signed = self.key.mint(&claims);
        let proof = signed.map_err(|e| {
            Error::with_source(ErrorKind::Signing, "the key did not sign a DPoP proof", e)
        })?;
        let took = started.elapsed();
        let (operation, connection) = (order.operation, self.facts.id());
        self.observers.emit(&Event::ProofMinted {
            operation,
            connection,
            kind: ProofKind::Dpop,
            cause: self.cause(&order),
            after: None,
            took,
        });
        let record = Record::new(
            proof,
            order.nonce,
            operation,
            connection,
            self.observers.clone(),
        );
        Ok(Arc::new(record).attachment(order.authorization))
    }

    /// The first proof of a token on this connection, the replacement of a refused one, or one of
    /// those that DPoP asks for with each request.
    fn cause(&self, order: &Order) -> Cause {
        let mut proved = self.proved.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = proved.put(order.token, ()).is_none();
        if proved.len() > MAX_PROVED {
            proved.pop_lru();
        }
        match is_first {
            _ if order.replaces_refused => Cause::Challenge,
            true => Cause::First,
            false => Cause::Scope,
        }
    }
}

/// A token that is forgotten and comes back is counted as the first once more.
const MAX_PROVED: usize = 1000;
