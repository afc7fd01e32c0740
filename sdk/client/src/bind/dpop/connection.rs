//! One connection's side of DPoP: a proof for each request, and what its answer teaches.

use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bowline_proof::dpop::{Claims, DpopKey, INVALID_DPOP_PROOF, Nonce, USE_DPOP_NONCE};
use bowline_proof::{AccessToken, Confirmation, Demand, RequestClaims, Scheme, TokenHash};
use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue, StatusCode};
use lru::LruCache;
use rustls_pki_types::UnixTime;

use super::nonces::Nonces;
use super::record::Record;
use crate::bind::use_count::{signed, within};
use crate::bind::{
    Answer, Attachment, BindConnection, BindingRefusal, Bound, Learned, RequestFacts,
};
use crate::conn::facts::ConnectionFacts;
use crate::error::{Error, ErrorKind};
use crate::observe::{Cause, CloseReason, Event, Observers, Operation, ProofKind};

/// One connection's side of [`DpopBinding`](super::DpopBinding).
pub(super) struct Proving(Arc<Inner>);

struct Inner {
    key: DpopKey,
    sign_timeout: Duration,
    facts: Arc<ConnectionFacts>,
    observers: Observers,
    /// The tokens that were proved on this connection, to tell why a proof was needed; none for a
    /// token endpoint.
    proved: Mutex<LruCache<Option<TokenHash>, ()>>,
    nonces: Arc<Nonces>,
}

impl Proving {
    pub(super) fn new(
        key: DpopKey,
        sign_timeout: Duration,
        facts: Arc<ConnectionFacts>,
        nonces: Arc<Nonces>,
        observers: Observers,
    ) -> Self {
        Self(Arc::new(Inner {
            key,
            sign_timeout,
            facts,
            observers,
            // Bounded where it is filled; lru would otherwise reserve the whole bound for every
            // connection.
            proved: Mutex::new(LruCache::unbounded()),
            nonces,
        }))
    }
}

impl BindConnection for Proving {
    fn bind(&self, request: &RequestFacts<'_>) -> Result<Bound, Error> {
        match request.token {
            Some(token) => match token.demand().map_err(invalid_token)? {
                Demand::Dpop => self.0.check_token(token)?,
                _ => return Ok(Bound::Nothing),
            },
            None if request.dpop_proof_required => {}
            None => return Ok(Bound::Nothing),
        }
        let order = Order::new(request, self.0.nonces.newest())?;
        Ok(self.0.start(order))
    }

    fn learn(
        &self,
        request: &RequestFacts<'_>,
        attached: Option<&Attachment>,
        answer: &Answer<'_>,
    ) -> Learned {
        let nonce = self.0.nonces.learn(answer.headers);
        let record = attached.and_then(|attached| {
            let memo: &dyn Any = &*attached.memo;
            memo.downcast_ref::<Record>()
        });
        let Some(record) = record else {
            return Learned::Nothing;
        };
        // Worth another proof only if that would say something else.
        let has_news = nonce.is_some() && nonce != record.nonce;
        let Some(error) = refusal(request, answer, has_news) else {
            return Learned::Nothing;
        };
        self.0.observers.emit(&Event::ProofRefused {
            operation: request.operation,
            connection: self.0.facts.id(),
        });
        if error == USE_DPOP_NONCE && has_news && !request.again {
            return Learned::SendAgain;
        }
        Learned::Refused(BindingRefusal {
            certificate: None,
            error: error.to_owned(),
            clock_difference: answer.clock_difference(),
        })
    }

    fn closed(&self, _: CloseReason) {}
}

impl Inner {
    /// Whether this client, on this connection, is who the token is bound to.
    fn check_token(&self, token: &AccessToken) -> Result<(), Error> {
        let Confirmation { jkt, x5t_s256, .. } =
            token.confirmation().map_err(|e| invalid_token(*e))?;
        let key = self.key.thumbprint();
        if let Some(bound_to) = jkt.filter(|bound_to| *bound_to != key) {
            return Err(Error::new(
                ErrorKind::TokenBoundToOtherKey,
                format!(
                    "the access token is bound to the DPoP key {bound_to}, and this client's is {key}; \
                     ask for a token with the key in use"
                ),
            ));
        }
        let certificate = self.facts.identity().map(|identity| identity.thumbprint());
        if x5t_s256.is_some() && *x5t_s256 != certificate {
            return Err(Error::new(
                ErrorKind::TokenBoundToOtherCertificate,
                "the access token is bound to a client certificate besides its DPoP key, and this connection was not \
                 authenticated with that one",
            ));
        }
        Ok(())
    }

    /// Signs on a blocking thread, so that a slow key holds up nothing else. It signs to the end
    /// even if the request has gone: then the proof is counted as abandoned.
    fn start(self: &Arc<Self>, order: Order) -> Bound {
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

/// A proof to be made.
struct Order {
    /// None at a token endpoint.
    token: Option<TokenHash>,
    authorization: Option<HeaderValue>,
    request: RequestClaims,
    nonce: Option<Nonce>,
    operation: Operation,
    replaces_refused: bool,
}

impl Order {
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
            request: claims,
            nonce,
            operation: request.operation,
            replaces_refused: request.again,
        })
    }
}

/// Whether the answer refuses the proof, and how.
fn refusal(
    request: &RequestFacts<'_>,
    answer: &Answer<'_>,
    has_news: bool,
) -> Option<&'static str> {
    match answer.status {
        StatusCode::UNAUTHORIZED => challenge_error(answer.headers),
        // A token endpoint says what is wrong in its body (RFC 9449 §8), which is not read here.
        // Another 400 that happens to bring a new nonce is answered 400 once more.
        StatusCode::BAD_REQUEST if request.token.is_none() && has_news => Some(USE_DPOP_NONCE),
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

fn invalid_token(e: bowline_proof::ConfirmationError) -> Error {
    Error::with_source(
        ErrorKind::InvalidToken,
        "the access token's `cnf` cannot be satisfied",
        e,
    )
}
