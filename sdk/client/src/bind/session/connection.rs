//! One connection's proofs: at most one reusable proof for each token, however many requests ask
//! for it at once.

use std::any::Any;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bowline_proof::{AccessToken, Demand, RequestClaims, TokenHash};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use http::{HeaderMap, StatusCode};
use lru::LruCache;

use super::history::{Memory, Need};
use super::mint::Order;
use super::record::Record;
use super::{BindingPolicy, Policy, ProofScope};
use crate::bind::use_count::{signed, within};
use crate::bind::{
    Answer, Attachment, BindConnection, BindingRefusal, Bound, Learned, RequestFacts,
};
use crate::conn::facts::{ConnectionFacts, Presented};
use crate::conn::identity::Identity;
use crate::error::{Error, ErrorKind};
use crate::observe::{Cause, CloseReason, Event, Observers, ProofKind};

/// A signing that several requests may wait for.
type Minting = Shared<BoxFuture<'static, Result<Arc<Record>, Error>>>;

/// One connection's side of the session binding.
pub(super) struct Table(Arc<Inner>);

struct Inner {
    policy: Policy,
    facts: Arc<ConnectionFacts>,
    memory: Arc<Memory>,
    observers: Observers,
    state: Mutex<State>,
}

struct State {
    slots: LruCache<TokenHash, Slot>,
    /// Set when the connection has ended.
    closed: Option<CloseReason>,
}

/// What is known of one token on this connection.
#[derive(Default)]
struct Slot {
    /// Whether a proof was made for this token here, of either kind: [`Memory`] counts this
    /// connection as a holder.
    proved: bool,
    /// Whether a request has claimed the pair ([`ProofScope::Adaptive`]).
    claimed: bool,
    /// Counts the reusable proofs; see [`Record::generation`].
    generation: u32,
    shared: Reusable,
    /// After a fresh proof was refused: no other is made before this ends (CL-5).
    pause: Option<Pause>,
}

/// The reusable proof (PR-8).
#[derive(Default)]
enum Reusable {
    #[default]
    None,
    Minting(Minting),
    Ready(Arc<Record>),
}

#[derive(Clone, Copy)]
struct Pause {
    until: Instant,
    length: Duration,
}

const FIRST_PAUSE: Duration = Duration::from_secs(5);
const MAX_PAUSE: Duration = Duration::from_secs(300);

impl Table {
    pub(super) fn new(
        policy: Policy,
        facts: Arc<ConnectionFacts>,
        memory: Arc<Memory>,
        observers: Observers,
    ) -> Self {
        let bound = NonZeroUsize::new(policy.proofs_per_connection).unwrap_or(NonZeroUsize::MIN);
        Self(Arc::new(Inner {
            policy,
            facts,
            memory,
            observers,
            state: Mutex::new(State {
                slots: LruCache::sparse(bound),
                closed: None,
            }),
        }))
    }
}

impl BindConnection for Table {
    fn bind(&self, request: &RequestFacts<'_>) -> Result<Bound, Error> {
        let Some(token) = request.token else {
            return Ok(Bound::Nothing);
        };
        let wanted = self.0.wants_proof(request, token)?;
        let bound_to = confirmation(token)?.x5t_s256;
        if !wanted && bound_to.is_none() {
            return Ok(Bound::Nothing);
        }
        let identity = self.0.identity()?;
        if bound_to.is_some_and(|thumbprint| thumbprint != identity.thumbprint()) {
            return Err(Error::new(
                ErrorKind::TokenBoundToOtherCertificate,
                "the access token is bound to another certificate than this client's; \
                 ask for a token with the certificate in use",
            ));
        }
        if !wanted {
            return Ok(Bound::Nothing);
        }
        let alone = match self.0.policy.proof_scope {
            _ if request.request_bound => true,
            ProofScope::Connection => false,
            ProofScope::Request => true,
            ProofScope::Adaptive => self.0.claim(token),
        };
        match alone {
            true => self.0.for_one_request(request, token, identity.clone()),
            false => Ok(self.0.reusable(request, token, identity)),
        }
    }

    fn holds(&self, token: &AccessToken) -> bool {
        let state = self.0.lock();
        let slot = state.slots.peek(token.hash());
        slot.is_some_and(|slot| matches!(slot.shared, Reusable::Ready(_)))
    }

    fn learn(
        &self,
        request: &RequestFacts<'_>,
        attached: Option<&Attachment>,
        answer: &Answer<'_>,
    ) -> Learned {
        let record = attached.and_then(|attached| {
            let memo: &dyn Any = &*attached.memo;
            memo.downcast_ref::<Record>()
        });
        let Some(token) = request.token else {
            return Learned::Nothing;
        };
        if answer.status != StatusCode::UNAUTHORIZED {
            if let Some(record) = record
                && !answer.status.is_server_error()
            {
                record.accept();
            }
            return Learned::Nothing;
        }
        let Some(error) = binding_error(answer.headers) else {
            return Learned::Nothing;
        };
        match record {
            Some(record) => self.0.refused(request, token, record, error, answer),
            None if error == USE_SESSION_BINDING => self.0.challenged(token),
            None => Learned::Nothing,
        }
    }

    fn closed(&self, reason: CloseReason) {
        let mut state = self.0.lock();
        state.closed = Some(reason);
        for (token, slot) in state.slots.iter() {
            if slot.proved {
                self.0.memory.closed(token, reason);
            }
        }
        state.slots.clear();
    }
}

impl Inner {
    fn wants_proof(&self, request: &RequestFacts<'_>, token: &AccessToken) -> Result<bool, Error> {
        let demand = token.demand().map_err(invalid_token)?;
        match demand {
            Demand::Session => Ok(true),
            Demand::None => Ok(request.proof_required
                || self.policy.binding == BindingPolicy::Require
                || self.memory.was_challenged(token.hash())),
            // DPoP is the other binding's ([`crate::dpop`]); or whatever a later version of the
            // proof crate can name.
            _ => Err(Error::new(
                ErrorKind::UnsupportedBinding,
                "the access token asks for another kind of proof than a session-binding proof",
            )),
        }
    }

    /// The identity that authenticated this connection (PR-4).
    fn identity(&self) -> Result<&Arc<Identity>, Error> {
        let Some(tls) = self.facts.tls() else {
            return Err(Error::new(
                ErrorKind::PlaintextRefused,
                "the access token needs a TLS connection to be bound to, and this one is plaintext",
            ));
        };
        match tls.presented() {
            Presented::Certificate(identity) => Ok(identity),
            Presented::NotRequested => Err(Error::new(
                ErrorKind::ClientCertificateNotRequested,
                format!(
                    "{} did not ask for a client certificate, and the access token must be proved with one: \
                     switch client authentication on at the server",
                    self.facts.origin()
                ),
            )),
            Presented::Nothing => Err(Error::new(
                ErrorKind::NoIdentity,
                "the access token must be proved with a client certificate, and this client has none that the \
                 server takes: give the client an identity",
            )),
        }
    }

    /// The fast path: a proof that is there costs a lock, a look-up and three reference counts.
    fn reusable(
        self: &Arc<Self>,
        request: &RequestFacts<'_>,
        token: &AccessToken,
        identity: &Arc<Identity>,
    ) -> Bound {
        let mut state = self.lock();
        // Its proofs are gone, and another would never be written.
        if state.closed.is_some() {
            return Bound::ConnectionEnded;
        }
        if let Some(Reusable::Ready(record)) =
            state.slots.get(token.hash()).map(|slot| &slot.shared)
            && !self.is_over_age(record)
        {
            let record = record.clone();
            drop(state);
            self.observers.emit(&Event::ProofReused {
                operation: request.operation,
                connection: self.facts.id(),
            });
            return Bound::Attached(record.attachment());
        }
        let slot = self.slot(&mut state, token.hash());
        let identity = identity.clone();
        let order = match &slot.shared {
            Reusable::Ready(_) => {
                slot.generation += 1;
                Order::reusable(request, token, identity, slot.generation, Some(Cause::Age))
            }
            Reusable::Minting(mint) => return self.wait_for(mint.clone(), request),
            Reusable::None => Order::reusable(request, token, identity, slot.generation, None),
        };
        let mint = self.start(order);
        slot.shared = Reusable::Minting(mint.clone());
        let limit = self.policy.sign_timeout;
        Bound::Pending(async move { Ok(within(limit, mint).await?.attachment()) }.boxed())
    }

    /// Joins a signing that another request has started: its proof is reused before it exists.
    fn wait_for(&self, mint: Minting, request: &RequestFacts<'_>) -> Bound {
        let (observers, operation, connection) =
            (self.observers.clone(), request.operation, self.facts.id());
        let limit = self.policy.sign_timeout;
        let wait = async move {
            let record = within(limit, mint).await?;
            observers.emit(&Event::ProofReused {
                operation,
                connection,
            });
            Ok(record.attachment())
        };
        Bound::Pending(wait.boxed())
    }

    /// Whether this is the first request of its (token, connection): a fact, not a guess from
    /// history, so that no concurrency makes it two.
    fn claim(&self, token: &AccessToken) -> bool {
        let mut state = self.lock();
        let slot = self.slot(&mut state, token.hash());
        !std::mem::replace(&mut slot.claimed, true)
    }

    /// A proof with per-request claims is nobody else's (CL-3).
    fn for_one_request(
        self: &Arc<Self>,
        request: &RequestFacts<'_>,
        token: &AccessToken,
        identity: Arc<Identity>,
    ) -> Result<Bound, Error> {
        let claims = RequestClaims::new(request.method, request.uri).map_err(|e| {
            Error::with_source(
                ErrorKind::InvalidRequest,
                "no `htu` can be made of the request's URI",
                e,
            )
        })?;
        let order = Order {
            request: Some(claims),
            ..Order::reusable(
                request,
                token,
                identity,
                0,
                request.again.then_some(Cause::Challenge),
            )
        };
        if self.lock().closed.is_some() {
            return Ok(Bound::ConnectionEnded);
        }
        let inner = self.clone();
        let limit = self.policy.sign_timeout;
        let job = tokio::task::spawn_blocking(move || inner.sign(&order));
        Ok(Bound::Pending(
            async move { Ok(within(limit, signed(job)).await?.attachment()) }.boxed(),
        ))
    }

    /// A token that shows no demand was refused for want of a proof: from now on it carries one, if
    /// it can.
    fn challenged(&self, token: &AccessToken) -> Learned {
        self.memory.challenged(token.hash());
        match self.identity() {
            Ok(_) => Learned::SendAgain,
            Err(_) => Learned::Nothing,
        }
    }

    /// CL-5: one replacement per generation, however many requests were refused with it.
    fn refused(
        self: &Arc<Self>,
        request: &RequestFacts<'_>,
        token: &AccessToken,
        record: &Record,
        error: &'static str,
        answer: &Answer<'_>,
    ) -> Learned {
        self.observers.emit(&Event::ProofRefused {
            operation: request.operation,
            connection: self.facts.id(),
        });
        let Ok(identity) = self.identity() else {
            return Learned::Nothing;
        };
        let mut state = self.lock();
        if state.closed.is_some() {
            return Learned::SendAgain;
        }
        let slot = self.slot(&mut state, token.hash());
        let is_reusable = record.kind == ProofKind::Connection;
        if is_reusable && record.generation < slot.generation {
            return Learned::SendAgain;
        }
        if record.was_accepted() {
            slot.pause = None;
        } else if (record.is_replacement && slot.starts_pause()) || slot.is_paused() {
            return Learned::Refused(BindingRefusal {
                certificate: Some(identity.thumbprint()),
                error: error.to_owned(),
                clock_difference: answer.clock_difference(),
            });
        }
        if is_reusable {
            slot.generation += 1;
            let order = Order::reusable(
                request,
                token,
                identity.clone(),
                slot.generation,
                Some(Cause::Challenge),
            );
            slot.shared = Reusable::Minting(self.start(order));
        }
        Learned::SendAgain
    }

    /// Signs on a blocking thread, so that a slow key holds up nothing else, and files the proof
    /// there, so that it is not lost when every request that asked for it has gone.
    fn start(self: &Arc<Self>, order: Order) -> Minting {
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

    fn sign(&self, order: &Order) -> Result<Arc<Record>, Error> {
        order.fill(&self.facts, &self.observers, || self.count(order))
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

    fn is_over_age(&self, record: &Record) -> bool {
        self.policy
            .max_proof_age
            .is_some_and(|limit| record.age() > limit)
    }

    fn slot<'a>(&self, state: &'a mut State, token: &TokenHash) -> &'a mut Slot {
        if !state.slots.contains(token)
            && let Some((evicted, slot)) = state.slots.push(*token, Slot::default())
            && slot.proved
        {
            self.memory.closed(&evicted, CloseReason::Evicted);
        }
        state.slots.get_or_insert_mut(*token, Slot::default)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    fn is_paused(&self) -> bool {
        self.pause.is_some_and(|pause| Instant::now() < pause.until)
    }

    /// A fresh proof was refused: pauses, unless the pause after the last such refusal is over and
    /// it may be tried once more.
    fn starts_pause(&mut self) -> bool {
        let (length, try_once_more) = match self.pause {
            Some(pause) if Instant::now() < pause.until => return true,
            Some(pause) => ((pause.length * 2).min(MAX_PAUSE), true),
            None => (FIRST_PAUSE, false),
        };
        self.pause = Some(Pause {
            until: Instant::now() + length,
            length,
        });
        !try_once_more
    }
}

fn confirmation(token: &AccessToken) -> Result<&bowline_proof::Confirmation, Error> {
    token.confirmation().map_err(|e| invalid_token(*e))
}

fn invalid_token(e: bowline_proof::ConfirmationError) -> Error {
    Error::with_source(
        ErrorKind::InvalidToken,
        "the access token's `cnf` cannot be satisfied",
        e,
    )
}

const USE_SESSION_BINDING: &str = "use_session_binding";

/// The error of a challenge that a proof can answer (RS-10).
fn binding_error(headers: &HeaderMap) -> Option<&'static str> {
    bowline_proof::challenges(headers)
        .iter()
        .find_map(|challenge| match challenge.error() {
            Some(USE_SESSION_BINDING) => Some(USE_SESSION_BINDING),
            Some("invalid_proof") => Some("invalid_proof"),
            _ => None,
        })
}
