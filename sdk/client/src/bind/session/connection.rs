//! One connection's proofs: at most one reusable proof for each token, however many requests ask
//! for it at once.
//!
//! Each token has an entry, whose reusable proof goes through these states:
//!
//! ```text
//!            request            signed
//!    None ------------> Pending --------> Ready --+
//!     ^                    |   ^                  |  too old, or refused:
//!     |   key failed       |   |                  |  generation + 1, sign again
//!     +--------------------+   +------------------+
//! ```
//!
//! While a proof is pending, any number of requests wait for it. A refusal counts only against the
//! generation that was refused. Example: requests A and B carry generation 0, and both are refused.
//! A's refusal starts the signing of generation 1. B's refusal finds that its proof is of an older
//! generation, and B is sent again with generation 1: one signature for both.

mod ahead;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bowline_proof::{
    AccessToken, BindingError, Challenge, Demand, RequestClaims, Scheme, TokenHash,
};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use http::{HeaderMap, StatusCode};

use super::history::{MintCause, TokenHistory};
use super::mint::ProofRequest;
use super::record::IssuedProof;
use super::token_filter::TokenFilter;
use super::{BindingPolicy, ProofScope, SessionPolicy};
use crate::bind::signing::{signed, within};
use crate::bind::{
    Answered, BindConnection, BindingRefusal, Bound, Learned, RequestFacts, ResponseHead,
    TokenSourceId, TokensInUse, invalid_token,
};
use crate::cache::Cache;
use crate::conn::facts::{ConnectionFacts, Presented};
use crate::conn::identity::Identity;
use crate::error::{Error, ErrorKind};
use crate::observe::{Cause, CloseReason, Event, Observers, ProofKind};

use ahead::LastUse;

/// A signing that several requests may wait for.
type PendingProof = Shared<BoxFuture<'static, Result<Arc<IssuedProof>, Error>>>;

/// One connection's side of the session binding.
pub(super) struct SessionConnection(Arc<Inner>);

struct Inner {
    policy: SessionPolicy,
    facts: Arc<ConnectionFacts>,
    history: Arc<TokenHistory>,
    observers: Observers,
    state: Mutex<State>,
    /// The tokens that had a reusable proof here.
    proved: TokenFilter,
}

struct State {
    entries: Cache<TokenHash, TokenEntry>,
    /// Set when the connection has ended.
    closed: Option<CloseReason>,
}

/// What is known of one token on this connection.
#[derive(Default)]
struct TokenEntry {
    /// Whether a proof was made for this token here, of either kind: [`TokenHistory`] counts this
    /// connection as a holder.
    proved: bool,
    /// Whether a request was the first of the pair ([`ProofScope::Adaptive`]).
    claimed: bool,
    /// Counts the reusable proofs; see [`IssuedProof::generation`].
    generation: u32,
    reusable: Reusable,
    /// After a fresh proof was refused: no other is made before this ends (CL-5).
    pause: Option<Pause>,
    /// The last request that carried the reusable proof, for a successor connection.
    used: Option<LastUse>,
}

/// The reusable proof (PR-8).
#[derive(Default)]
enum Reusable {
    #[default]
    None,
    Pending(PendingProof),
    Ready(Arc<IssuedProof>),
}

#[derive(Clone, Copy)]
struct Pause {
    until: Instant,
    length: Duration,
}

const FIRST_PAUSE: Duration = Duration::from_secs(5);
const MAX_PAUSE: Duration = Duration::from_secs(300);

impl SessionConnection {
    pub(super) fn new(
        policy: SessionPolicy,
        facts: Arc<ConnectionFacts>,
        history: Arc<TokenHistory>,
        observers: Observers,
    ) -> Self {
        Self(Arc::new(Inner {
            policy,
            facts,
            history,
            observers,
            state: Mutex::new(State {
                entries: Cache::new(policy.proofs_per_connection),
                closed: None,
            }),
            proved: TokenFilter::new(),
        }))
    }
}

impl BindConnection for SessionConnection {
    fn bind(&self, request: &RequestFacts<'_>) -> Result<Bound, Error> {
        let Some(token) = request.token else {
            return Ok(Bound::Nothing);
        };
        let wants_proof = self.0.wants_proof(request, token)?;
        let bound_to = confirmation(token)?.x5t_s256;
        if !wants_proof && bound_to.is_none() {
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
        if !wants_proof {
            return Ok(Bound::Nothing);
        }
        let request_bound = request.request_bound
            || match self.0.policy.proof_scope {
                ProofScope::Connection => false,
                ProofScope::Request => true,
                ProofScope::Adaptive => self.0.claim(token),
            };
        if request_bound {
            self.0.request_bound(request, token, identity.clone())
        } else {
            Ok(self.0.reusable(request, token, identity))
        }
    }

    fn holds(&self, token: &AccessToken) -> bool {
        if !self.0.proved.may_hold(token.hash()) {
            return false;
        }
        let state = self.0.lock();
        let entry = state.entries.get(token.hash());
        entry.is_some_and(|entry| matches!(entry.reusable, Reusable::Ready(_)))
    }

    fn learn(&self, answered: &Answered<'_>) -> Learned {
        let Answered {
            request,
            attached,
            response,
        } = *answered;
        let proof: Option<&IssuedProof> =
            attached.and_then(|attached| attached.memo.downcast_ref());
        let Some(token) = request.token else {
            return Learned::Nothing;
        };
        if response.status != StatusCode::UNAUTHORIZED {
            if let Some(proof) = proof
                && !response.status.is_server_error()
            {
                proof.accept();
            }
            return Learned::Nothing;
        }
        let Some(error) = binding_error(response.headers) else {
            return Learned::Nothing;
        };
        match proof {
            Some(proof) => self.0.refused(request, token, proof, error, response),
            None if error == BindingError::UseSessionBinding => self.0.challenged(request, token),
            None => Learned::Nothing,
        }
    }

    fn in_use(&self, within: Duration) -> TokensInUse {
        self.0.in_use(within)
    }

    fn prove_ahead(&self, in_use: TokensInUse) -> Option<BoxFuture<'static, ()>> {
        self.0.prove_ahead(in_use)
    }

    fn closed(&self, reason: CloseReason) {
        let mut state = self.0.lock();
        state.closed = Some(reason);
        for (token, entry) in state.entries.iter() {
            if entry.proved {
                self.0.history.closed(token, reason);
            }
        }
        state.entries.clear();
    }
}

impl Inner {
    fn wants_proof(&self, request: &RequestFacts<'_>, token: &AccessToken) -> Result<bool, Error> {
        let demand = token.demand().map_err(invalid_token)?;
        match demand {
            Demand::Session => Ok(true),
            Demand::None => Ok(request.proof_required
                || self.policy.binding == BindingPolicy::Require
                || self
                    .history
                    .was_challenged(token.hash(), source_of_bound(request, token))),
            // DPoP tokens go to the other binding ([`crate::bind::dpop`]); a later version of the
            // proof crate may know further demands.
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
                    "{} did not ask for a client certificate, and the access token must be proved \
                     with one: switch client authentication on at the server",
                    self.facts.origin()
                ),
            )),
            Presented::Nothing => Err(Error::new(
                ErrorKind::NoIdentity,
                "the access token must be proved with a client certificate, and this client has \
                 none that the server takes: give the client an identity",
            )),
        }
    }

    /// The reusable proof, if it is ready or pending; otherwise starts to sign it. A proof that is
    /// ready costs a lock, a look-up and four reference counts.
    fn reusable(
        self: &Arc<Self>,
        request: &RequestFacts<'_>,
        token: &AccessToken,
        identity: &Arc<Identity>,
    ) -> Bound {
        let is_noted = self.policy.proof_scope == ProofScope::Connection;
        let now = Instant::now();
        let mut state = self.lock();
        // Its proofs are gone, and another would never be written.
        if state.closed.is_some() {
            return Bound::ConnectionEnded;
        }
        if let Some(entry) = state.entries.get_mut(token.hash())
            && let Reusable::Ready(proof) = &entry.reusable
            && !self.is_over_age(proof)
        {
            if let Some(used) = &mut entry.used {
                used.at = Some(now);
            }
            let proof = proof.clone();
            drop(state);
            self.observers.emit(&Event::ProofReused {
                operation: request.operation,
                connection: self.facts.id(),
            });
            return Bound::Attached(proof.attachment());
        }
        let entry = self.entry(&mut state, token.hash());
        if is_noted {
            entry.used = Some(LastUse::by(request, token, now));
        }
        let cause = match &entry.reusable {
            Reusable::Pending(pending) => return self.wait_for(pending.clone(), request),
            Reusable::Ready(_) => {
                entry.generation += 1;
                Some(Cause::Age)
            }
            Reusable::None => None,
        };
        let generation = entry.generation;
        let pending = self.start(ProofRequest::reusable(
            request,
            token,
            identity.clone(),
            generation,
            cause,
        ));
        entry.reusable = Reusable::Pending(pending.clone());
        let limit = self.policy.sign_timeout;
        Bound::Shared(async move { Ok(within(limit, pending).await?.attachment()) }.boxed())
    }

    /// Waits for a signing that another request has started, whose proof this request will reuse.
    fn wait_for(&self, pending: PendingProof, request: &RequestFacts<'_>) -> Bound {
        let (observers, operation, connection) =
            (self.observers.clone(), request.operation, self.facts.id());
        let limit = self.policy.sign_timeout;
        let wait = async move {
            let proof = within(limit, pending).await?;
            observers.emit(&Event::ProofReused {
                operation,
                connection,
            });
            Ok(proof.attachment())
        };
        Bound::Shared(wait.boxed())
    }

    /// Whether this is the first request of its (token, connection). Decided under the lock, so
    /// that of concurrent requests exactly one is the first.
    fn claim(&self, token: &AccessToken) -> bool {
        let mut state = self.lock();
        let entry = self.entry(&mut state, token.hash());
        !std::mem::replace(&mut entry.claimed, true)
    }

    /// A proof with per-request claims, which no other request carries (CL-3).
    fn request_bound(
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
        let cause = request.is_retry.then_some(Cause::Challenge);
        let wanted = ProofRequest {
            claims: Some(claims),
            ..ProofRequest::reusable(request, token, identity, 0, cause)
        };
        if self.lock().closed.is_some() {
            return Ok(Bound::ConnectionEnded);
        }
        let inner = self.clone();
        let limit = self.policy.sign_timeout;
        let turn = wanted.identity.signings().request();
        let job = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            inner.mint(&wanted)
        });
        Ok(Bound::Pending(
            async move { Ok(within(limit, signed(job)).await?.attachment()) }.boxed(),
        ))
    }

    /// A token that shows no demand was refused because it had no proof: its requests carry one
    /// from now on, if this connection can make one.
    fn challenged(&self, request: &RequestFacts<'_>, token: &AccessToken) -> Learned {
        let source = source_of_bound(request, token);
        self.history.challenged(token.hash(), source);
        match self.identity() {
            Ok(_) => Learned::SendAgain,
            Err(_) => Learned::Nothing,
        }
    }

    /// CL-5: one replacement for each generation, however many requests were refused with it.
    fn refused(
        self: &Arc<Self>,
        request: &RequestFacts<'_>,
        token: &AccessToken,
        proof: &IssuedProof,
        error: BindingError,
        response: &ResponseHead<'_>,
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
        let entry = self.entry(&mut state, token.hash());
        let is_reusable = proof.kind == ProofKind::Connection;
        if is_reusable && proof.generation < entry.generation {
            return Learned::SendAgain;
        }
        if proof.was_accepted() {
            entry.pause = None;
        } else if (proof.is_replacement && entry.starts_pause()) || entry.is_paused() {
            return Learned::Refused(BindingRefusal {
                certificate: Some(identity.thumbprint()),
                error: error.as_str().to_owned(),
                clock_difference: response.clock_difference(),
            });
        }
        if is_reusable {
            entry.generation += 1;
            entry.reusable = Reusable::Pending(self.start(ProofRequest::reusable(
                request,
                token,
                identity.clone(),
                entry.generation,
                Some(Cause::Challenge),
            )));
        }
        Learned::SendAgain
    }

    /// Signs on a blocking thread, so that a slow key holds up nothing else, and stores the proof
    /// from there, so that it is not lost when every request that asked for it has gone.
    fn start(self: &Arc<Self>, wanted: ProofRequest) -> PendingProof {
        let inner = self.clone();
        // What is made ahead has its turn already.
        let is_for_request = wanted.cause != Some(Cause::Ahead);
        let turn = is_for_request.then(|| wanted.identity.signings().request());
        let job = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            // A key that panics must not leave the requests of this token waiting for ever.
            let minted =
                catch_unwind(AssertUnwindSafe(|| inner.mint(&wanted))).unwrap_or_else(|_| {
                    Err(Error::new(
                        ErrorKind::Signing,
                        "the key panicked instead of signing",
                    ))
                });
            inner.store(&wanted, &minted);
            minted
        });
        signed(job).boxed().shared()
    }

    fn mint(&self, wanted: &ProofRequest) -> Result<Arc<IssuedProof>, Error> {
        wanted.mint(&self.facts, &self.observers, || self.cause(wanted))
    }

    /// Decides the cause, and tells the history that this connection holds a proof of the token.
    fn cause(&self, wanted: &ProofRequest) -> MintCause {
        let mut state = self.lock();
        let closed = state.closed;
        let entry = self.entry(&mut state, &wanted.token);
        let sent_before = std::mem::replace(&mut entry.proved, true);
        let known = wanted.cause.or(sent_before.then_some(Cause::Scope));
        let minted = match known {
            Some(cause) if sent_before => MintCause { cause, after: None },
            known => {
                let certificate = wanted.identity.thumbprint();
                let from_history = self
                    .history
                    .prove(&wanted.token, wanted.source, certificate);
                known.map_or(from_history, |cause| MintCause { cause, after: None })
            }
        };
        if let Some(reason) = closed {
            // The connection has ended already: `closed` will not come to remove this entry.
            state.entries.remove(&wanted.token);
            self.history.closed(&wanted.token, reason);
        }
        minted
    }

    fn store(&self, wanted: &ProofRequest, minted: &Result<Arc<IssuedProof>, Error>) {
        let mut state = self.lock();
        let Some(entry) = state.entries.get_mut(&wanted.token) else {
            return;
        };
        if entry.generation != wanted.generation {
            return;
        }
        entry.reusable = match minted {
            Ok(proof) => {
                self.proved.add(&wanted.token);
                Reusable::Ready(proof.clone())
            }
            // The next request tries again.
            Err(_) => Reusable::None,
        };
    }

    fn is_over_age(&self, proof: &IssuedProof) -> bool {
        self.policy
            .max_proof_age
            .is_some_and(|limit| proof.age() > limit)
    }

    fn entry<'a>(&self, state: &'a mut State, token: &TokenHash) -> &'a mut TokenEntry {
        let (entry, replaced) = state.entries.get_or_insert_with(token, TokenEntry::default);
        if let Some((token, replaced)) = replaced
            && replaced.proved
        {
            self.history.closed(&token, CloseReason::Evicted);
        }
        entry
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TokenEntry {
    fn is_paused(&self) -> bool {
        self.pause.is_some_and(|pause| Instant::now() < pause.until)
    }

    /// A fresh proof was refused. Starts a pause, and returns whether the refusal is final: it is
    /// not if the pause after the last such refusal has ended, which allows one more attempt.
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

/// The source of a certificate-bound token (`cnf.x5t#S256`).
fn source_of_bound(request: &RequestFacts<'_>, token: &AccessToken) -> Option<TokenSourceId> {
    let confirmation = token.confirmation().ok()?;
    request.source.filter(|_| confirmation.x5t_s256.is_some())
}

/// The error of a challenge that a proof can answer (RS-10). Session-bound tokens go with the scheme
/// `Bearer` (TK-0), so only a challenge of that scheme is about them: what another one means by
/// `error` is unknown, and its 401 may be one that a gateway passes on after it acted.
fn binding_error(headers: &HeaderMap) -> Option<BindingError> {
    bowline_proof::challenges(headers)
        .iter()
        .filter(|challenge| challenge.scheme.eq_ignore_ascii_case(Scheme::Bearer.name()))
        .filter_map(Challenge::binding_error)
        .find(|error| {
            matches!(
                error,
                BindingError::UseSessionBinding | BindingError::InvalidProof
            )
        })
}
