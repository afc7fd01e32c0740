//! Each request goes to the binding that its token asks for (TK-0..TK-2, RFC 9449 §6).

use std::sync::Arc;
use std::time::Duration;

use bowline_proof::{AccessToken, Demand};
use futures_util::future::BoxFuture;

use crate::bind::{Answered, Bind, BindConnection, Bound, Learned, RequestFacts, TokensInUse};
use crate::conn::facts::ConnectionFacts;
use crate::error::{Error, ErrorKind};
use crate::observe::CloseReason;

/// Both bindings of a client. DPoP gets the tokens that ask for it. The session binding gets all
/// others, also those whose `cnf` cannot be satisfied, which it refuses.
pub(crate) struct BindingSelector {
    session: Arc<dyn Bind>,
    dpop: Option<Arc<dyn Bind>>,
}

impl BindingSelector {
    /// `dpop` is none where the client has no DPoP key.
    pub(crate) fn new(session: Arc<dyn Bind>, dpop: Option<Arc<dyn Bind>>) -> Self {
        Self { session, dpop }
    }
}

impl Bind for BindingSelector {
    fn open(&self, facts: &Arc<ConnectionFacts>) -> Arc<dyn BindConnection> {
        Arc::new(SelectedBinding {
            session: self.session.open(facts),
            dpop: self.dpop.as_ref().map(|dpop| dpop.open(facts)),
        })
    }
}

/// One connection's side of [`BindingSelector`].
struct SelectedBinding {
    session: Arc<dyn BindConnection>,
    dpop: Option<Arc<dyn BindConnection>>,
}

impl BindConnection for SelectedBinding {
    fn bind(&self, request: &RequestFacts<'_>) -> Result<Bound, Error> {
        if !request.asks_for_dpop {
            return self.session.bind(request);
        }
        match &self.dpop {
            Some(dpop) => dpop.bind(request),
            None => Err(Error::new(
                ErrorKind::UnsupportedBinding,
                "the request asks for a DPoP proof, by its access token (cnf.jkt, or the scheme \
                 DPoP) or by DpopProofRequired, and this client has no DPoP key: give it the key \
                 that its tokens are bound to, with Builder::dpop_key",
            )),
        }
    }

    fn learn(&self, answered: &Answered<'_>) -> Learned {
        // Any response may bring a nonce (RFC 9449 §8.2), also one to a session-bound request.
        let from_dpop = match &self.dpop {
            Some(dpop) => dpop.learn(answered),
            None => Learned::Nothing,
        };
        if answered.request.asks_for_dpop {
            from_dpop
        } else {
            self.session.learn(answered)
        }
    }

    fn holds(&self, token: &AccessToken) -> bool {
        // A DPoP proof is always new. Asked of each connection of an origin, and most hold none: so
        // the token's demand is read last.
        self.session.holds(token) && !is_dpop(token)
    }

    /// DPoP proofs are made for one request each.
    fn in_use(&self, within: Duration) -> TokensInUse {
        self.session.in_use(within)
    }

    fn prove_ahead(&self, tokens: TokensInUse) -> Option<BoxFuture<'static, ()>> {
        self.session.prove_ahead(tokens)
    }

    fn closed(&self, reason: CloseReason) {
        self.session.closed(reason);
        if let Some(dpop) = &self.dpop {
            dpop.closed(reason);
        }
    }
}

/// Whether a request asks for a DPoP proof: by its token, or because the caller does.
pub(crate) fn asks_for_dpop(token: Option<&AccessToken>, dpop_proof_required: bool) -> bool {
    token.map_or(dpop_proof_required, is_dpop)
}

fn is_dpop(token: &AccessToken) -> bool {
    token.demand() == Ok(Demand::Dpop)
}
