//! One connection's side of DPoP: a proof for each request, and what its answer teaches.

use std::any::Any;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bowline_proof::dpop::DpopKey;
use bowline_proof::{
    AccessToken, BindingError, Challenge, Confirmation, Demand, Scheme, TokenHash,
};
use http::{HeaderMap, StatusCode};
use lru::LruCache;

use super::mint::Order;
use super::nonces::Nonces;
use super::record::Record;
use crate::bind::{
    Answer, Attachment, BindConnection, BindingRefusal, Bound, Learned, RequestFacts,
};
use crate::connection::ConnectionFacts;
use crate::error::{Error, ErrorKind};
use crate::observe::{CloseReason, Event, Observers};

/// One connection's side of [`DpopBinding`](super::DpopBinding).
pub(super) struct Proving(Arc<Inner>);

pub(super) struct Inner {
    pub(super) key: DpopKey,
    pub(super) sign_timeout: Duration,
    pub(super) facts: Arc<ConnectionFacts>,
    pub(super) observers: Observers,
    /// The tokens that were proved on this connection, to tell why a proof was needed; none for a
    /// token endpoint.
    pub(super) proved: Mutex<LruCache<Option<TokenHash>, ()>>,
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
        if error == BindingError::UseDpopNonce && has_news && !request.again {
            return Learned::SendAgain;
        }
        Learned::Refused(BindingRefusal {
            certificate: None,
            error: error.as_str().to_owned(),
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
}

/// Whether the answer refuses the proof, and how.
fn refusal(
    request: &RequestFacts<'_>,
    answer: &Answer<'_>,
    has_news: bool,
) -> Option<BindingError> {
    match answer.status {
        StatusCode::UNAUTHORIZED => challenge_error(answer.headers),
        // A token endpoint says what is wrong in its body (RFC 9449 §8), which is not read here.
        // Another 400 that happens to bring a new nonce is answered 400 once more.
        StatusCode::BAD_REQUEST if request.token.is_none() && has_news => {
            Some(BindingError::UseDpopNonce)
        }
        _ => None,
    }
}

/// The error of a DPoP challenge that a proof could answer (RFC 9449 §7.1, §9).
fn challenge_error(headers: &HeaderMap) -> Option<BindingError> {
    bowline_proof::challenges(headers)
        .iter()
        .filter(|challenge| challenge.scheme.eq_ignore_ascii_case(Scheme::Dpop.name()))
        .filter_map(Challenge::binding_error)
        .find(|error| error.is_dpop())
}

fn invalid_token(e: bowline_proof::ConfirmationError) -> Error {
    Error::with_source(
        ErrorKind::InvalidToken,
        "the access token's `cnf` cannot be satisfied",
        e,
    )
}
