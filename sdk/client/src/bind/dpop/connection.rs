//! One connection's side of DPoP: signs a proof for each request, and reads the response to it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bowline_proof::dpop::{
    Claims, DPOP_HEADER, DpopKey, INVALID_DPOP_PROOF, Nonce, USE_DPOP_NONCE,
};
use bowline_proof::{AccessToken, Confirmation, Demand, RequestClaims, Scheme, TokenHash};
use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue, StatusCode};
use rustls_pki_types::UnixTime;

use super::nonces::Nonces;
use super::proved::Proved;
use crate::bind::signing::{signed, within};
use crate::bind::use_count::UseCounter;
use crate::bind::{
    Answered, Attachment, BindConnection, BindingRefusal, Bound, Learned, RequestFacts,
    ResponseHead, invalid_token,
};
use crate::conn::facts::ConnectionFacts;
use crate::error::{Error, ErrorKind};
use crate::observe::{BindingUsed, Cause, CloseReason, Event, Observers, Operation, ProofKind};

/// One connection's side of [`DpopBinding`](super::DpopBinding).
pub(super) struct DpopConnection(Arc<Inner>);

struct Inner {
    key: DpopKey,
    sign_timeout: Duration,
    facts: Arc<ConnectionFacts>,
    observers: Observers,
    proved: Arc<Proved>,
    nonces: Arc<Nonces>,
}

impl DpopConnection {
    pub(super) fn new(
        key: DpopKey,
        sign_timeout: Duration,
        facts: Arc<ConnectionFacts>,
        nonces: Arc<Nonces>,
        proved: Arc<Proved>,
        observers: Observers,
    ) -> Self {
        Self(Arc::new(Inner {
            key,
            sign_timeout,
            facts,
            observers,
            proved,
            nonces,
        }))
    }
}

impl BindConnection for DpopConnection {
    fn bind(&self, request: &RequestFacts<'_>) -> Result<Bound, Error> {
        match request.token {
            Some(token) => match token.demand().map_err(invalid_token)? {
                Demand::Dpop => self.0.check_token(token)?,
                _ => return Ok(Bound::Nothing),
            },
            None if request.dpop_proof_required => {}
            None => return Ok(Bound::Nothing),
        }
        let proof = ProofRequest::new(request, self.0.nonces.newest())?;
        if self.0.key.is_fast() {
            return self.0.sign(proof).map(Bound::Attached);
        }
        Ok(self.0.start(proof))
    }

    fn learn(&self, answered: &Answered<'_>) -> Learned {
        let (request, response) = (answered.request, answered.response);
        let nonce = self.0.nonces.learn(response.headers);
        let attached = answered.attached;
        let Some(SentNonce(sent)) = attached.and_then(|attached| attached.memo.downcast_ref())
        else {
            return Learned::Nothing;
        };
        // Retry only if the response carries a nonce that the refused proof did not have.
        let has_unused_nonce = nonce.is_some() && nonce != *sent;
        let Some(error) = refusal(request, response, has_unused_nonce) else {
            return Learned::Nothing;
        };
        self.0.observers.emit(&Event::ProofRefused {
            operation: request.operation,
            connection: self.0.facts.id(),
        });
        if error == USE_DPOP_NONCE && has_unused_nonce && !request.is_retry {
            return Learned::SendAgain;
        }
        Learned::Refused(BindingRefusal {
            certificate: None,
            error: error.to_owned(),
            clock_difference: response.clock_difference(),
        })
    }

    fn closed(&self, _: CloseReason) {}
}

impl Inner {
    /// Checks that the token is bound to this client's key, and to this connection's certificate if
    /// to any.
    fn check_token(&self, token: &AccessToken) -> Result<(), Error> {
        let Confirmation { jkt, x5t_s256, .. } =
            token.confirmation().map_err(|e| invalid_token(*e))?;
        let key = self.key.thumbprint();
        if let Some(bound_to) = jkt.filter(|bound_to| *bound_to != key) {
            return Err(Error::new(
                ErrorKind::TokenBoundToOtherKey,
                format!(
                    "the access token is bound to the DPoP key {bound_to}, and this client's is \
                     {key}; ask for a token with the key in use"
                ),
            ));
        }
        let certificate = self.facts.identity().map(|identity| identity.thumbprint());
        if x5t_s256.is_some() && *x5t_s256 != certificate {
            return Err(Error::new(
                ErrorKind::TokenBoundToOtherCertificate,
                "the access token is bound to a client certificate besides its DPoP key, and this \
                 connection was not authenticated with that one",
            ));
        }
        Ok(())
    }

    /// Signs on a blocking thread, so that a slow key holds up nothing else. A fast one signs where
    /// it is ([`DpopKey::is_fast`]): the way there and back takes longer. It signs to the end
    /// even if the request has gone: then the proof is counted as abandoned.
    fn start(self: &Arc<Self>, request: ProofRequest) -> Bound {
        let (inner, limit) = (self.clone(), self.sign_timeout);
        let job = tokio::task::spawn_blocking(move || inner.sign(request));
        Bound::Pending(within(limit, signed(job)).boxed())
    }

    fn sign(&self, request: ProofRequest) -> Result<Attachment, Error> {
        let started = Instant::now();
        let claims = Claims {
            request: &request.claims,
            issued_at: UnixTime::now(),
            token: request.token.as_ref(),
            nonce: request.nonce.as_ref(),
        };
        let signed = self.key.mint(&claims);
        let proof = signed.map_err(|e| {
            Error::with_source(ErrorKind::Signing, "the key did not sign a DPoP proof", e)
        })?;
        let took = started.elapsed();
        let (operation, connection) = (request.operation, self.facts.id());
        self.observers.emit(&Event::ProofMinted {
            operation,
            connection,
            kind: ProofKind::Dpop,
            cause: self.cause(&request),
            after: None,
            took,
        });
        let uses = UseCounter::new(operation, connection, self.observers.clone());
        let memo = Arc::new(SentNonce(request.nonce));
        Ok(Attachment {
            authorization: request.authorization,
            request_bound: true,
            uses: Some(Arc::new(uses)),
            ..Attachment::with_memo(DPOP_HEADER, proof.header_value(), BindingUsed::Dpop, memo)
        })
    }

    /// The first proof of a token at this origin, the replacement of a refused one, or one of those
    /// that DPoP asks for with each request.
    fn cause(&self, request: &ProofRequest) -> Cause {
        let is_first = self.proved.is_first(request.token);
        if request.replaces_refused {
            Cause::Challenge
        } else if is_first {
            Cause::First
        } else {
            Cause::Scope
        }
    }
}

/// The nonce in a proof that was sent, if there was one.
struct SentNonce(Option<Nonce>);

/// A proof to be made.
struct ProofRequest {
    /// None at a token endpoint.
    token: Option<TokenHash>,
    /// The token with the scheme `DPoP` (RFC 9449 §7.1).
    authorization: Option<HeaderValue>,
    claims: RequestClaims,
    nonce: Option<Nonce>,
    operation: Operation,
    replaces_refused: bool,
}

impl ProofRequest {
    fn new(request: &RequestFacts<'_>, nonce: Option<Nonce>) -> Result<Self, Error> {
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
            claims,
            nonce,
            operation: request.operation,
            replaces_refused: request.is_retry,
        })
    }
}

/// The error that a response refuses the proof with, if it does.
fn refusal(
    request: &RequestFacts<'_>,
    response: &ResponseHead<'_>,
    has_unused_nonce: bool,
) -> Option<&'static str> {
    match response.status {
        StatusCode::UNAUTHORIZED => challenge_error(response.headers),
        // A token endpoint gives the error in its body (RFC 9449 §8), which is not read here. If
        // this is another 400 that happens to bring a new nonce, the retry is answered 400 too.
        StatusCode::BAD_REQUEST if request.token.is_none() && has_unused_nonce => {
            Some(USE_DPOP_NONCE)
        }
        _ => None,
    }
}

/// The error of a DPoP challenge that a proof could answer (RFC 9449 §7.1, §9).
fn challenge_error(headers: &HeaderMap) -> Option<&'static str> {
    bowline_proof::challenges(headers)
        .iter()
        .filter(|challenge| challenge.scheme.eq_ignore_ascii_case(Scheme::Dpop.name()))
        .find_map(|challenge| match challenge.error() {
            Some(USE_DPOP_NONCE) => Some(USE_DPOP_NONCE),
            Some(INVALID_DPOP_PROOF) => Some(INVALID_DPOP_PROOF),
            _ => None,
        })
}
