//! `BindingPolicy::Auto`: each token goes to the binding that it asks for (TK-0..TK-2, RFC 9449 §6).

use std::sync::Arc;

use bowline_proof::{AccessToken, Demand};

use crate::bind::{Answer, Attachment, Bind, BindConnection, Bound, Learned, RequestFacts};
use crate::conn::facts::ConnectionFacts;
use crate::error::{Error, ErrorKind};
use crate::observe::CloseReason;

/// Both bindings of a client. DPoP has those tokens that ask for it, the session binding all
/// others: also those whose `cnf` nobody can satisfy, which it refuses.
pub(crate) struct ByDemand {
    session: Arc<dyn Bind>,
    dpop: Option<Arc<dyn Bind>>,
}

impl ByDemand {
    /// `dpop` is none where the client has no DPoP key.
    pub(crate) fn new(session: Arc<dyn Bind>, dpop: Option<Arc<dyn Bind>>) -> Self {
        Self { session, dpop }
    }
}

impl Bind for ByDemand {
    fn open(&self, facts: &Arc<ConnectionFacts>) -> Arc<dyn BindConnection> {
        Arc::new(Both {
            session: self.session.open(facts),
            dpop: self.dpop.as_ref().map(|dpop| dpop.open(facts)),
        })
    }
}

struct Both {
    session: Arc<dyn BindConnection>,
    dpop: Option<Arc<dyn BindConnection>>,
}

impl BindConnection for Both {
    fn bind(&self, request: &RequestFacts<'_>) -> Result<Bound, Error> {
        match &self.dpop {
            _ if !asks_for_dpop(request) => self.session.bind(request),
            Some(dpop) => dpop.bind(request),
            None => Err(Error::new(
                ErrorKind::UnsupportedBinding,
                "the request asks for a DPoP proof, by its access token (cnf.jkt, or the scheme DPoP) or by DpopProofRequired, \
                 and this client has no DPoP key: give it the key that its tokens are bound to, with Builder::dpop_key",
            )),
        }
    }

    fn learn(
        &self,
        request: &RequestFacts<'_>,
        attached: Option<&Attachment>,
        answer: &Answer<'_>,
    ) -> Learned {
        let for_dpop = asks_for_dpop(request);
        let mut learned = Learned::Nothing;
        if let Some(dpop) = &self.dpop {
            // Any response may bring a nonce (RFC 9449 §8.2).
            learned = dpop.learn(request, attached, answer);
        }
        match for_dpop {
            true => learned,
            false => self.session.learn(request, attached, answer),
        }
    }

    fn holds(&self, token: &AccessToken) -> bool {
        // A DPoP proof is always new.
        !is_dpop(token) && self.session.holds(token)
    }

    fn closed(&self, reason: CloseReason) {
        self.session.closed(reason);
        if let Some(dpop) = &self.dpop {
            dpop.closed(reason);
        }
    }
}

fn asks_for_dpop(request: &RequestFacts<'_>) -> bool {
    request.token.map_or(request.dpop_proof_required, is_dpop)
}

fn is_dpop(token: &AccessToken) -> bool {
    token.demand() == Ok(Demand::Dpop)
}
