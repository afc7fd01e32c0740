//! Setting a client up.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::recent_origins::RecentOrigins;
use super::recent_tokens::RecentTokens;
use super::{Client, Inner};
use bowline_proof::dpop::DpopKey;
use http::uri::Authority;

use crate::bind::Bind;
use crate::bind::dpop::DpopBinding;
use crate::bind::select::BindingSelector;
use crate::bind::session::{BindingPolicy, ProofScope, SessionBinding, SessionPolicy};
use crate::config::{HttpVersions, Limits, Timeouts};
use crate::conn::dial::Connector;
use crate::conn::identities::Identities;
use crate::conn::identity::Identity;
use crate::conn::proxy::Proxies;
use crate::conn::tls::Trust;
use crate::error::{Error, ErrorKind};
use crate::observe::stats::Stats;
use crate::observe::{Observer, Observers};
use crate::origin::Origin;
use crate::pool::Pool;

/// What a [`Client`] is made of; every setting has a default that works.
#[derive(Default)]
pub struct Builder {
    identity: Option<Arc<Identity>>,
    retired: Vec<Arc<Identity>>,
    proxies: Proxies,
    places: Vec<(Origin, Vec<Authority>)>,
    limits: Limits,
    ping: Option<Duration>,
    trust: Trust,
    binding: BindingPolicy,
    proof_scope: ProofScope,
    scopes: HashMap<Origin, ProofScope>,
    http: HttpVersions,
    timeouts: Timeouts,
    max_proof_age: Option<Duration>,
    dpop_key: Option<DpopKey>,
    plaintext_on_loopback: bool,
    replay_limit: Option<usize>,
    observers: Vec<Arc<dyn Observer>>,
    bind: Option<Arc<dyn Bind>>,
}

impl Builder {
    /// The certificate and key that this client authenticates with. Without one, tokens that demand
    /// a proof fail.
    #[must_use]
    pub fn identity(mut self, identity: impl Into<Arc<Identity>>) -> Self {
        self.identity = Some(identity.into());
        self
    }

    /// One more certificate, used only for the tokens that are bound to it (CL-8).
    #[must_use]
    pub fn retired_identity(mut self, identity: impl Into<Arc<Identity>>) -> Self {
        self.retired.push(identity.into());
        self
    }

    /// How many connections there may be and for how long, and of how many access tokens something
    /// is kept.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// How often a quiet h2 connection is sent a PING; one that does not answer within 10 s is
    /// closed. Default `None`, never: some servers take PINGs for abuse, and
    /// [`Timeouts::dead_peer`] notices a peer that has vanished.
    #[must_use]
    pub fn ping(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.ping = interval.into();
        self
    }

    /// Which CONNECT proxies to go through. Default [`Proxies::environment`].
    #[must_use]
    pub fn proxies(mut self, proxies: Proxies) -> Self {
        self.proxies = proxies;
        self
    }

    /// Connects to one of these places for requests to `origin`, in place of its own host and port:
    /// what curl's `--connect-to` and `--resolve` do. They are tried in order. A host name is
    /// resolved as usual; the port is 443 where none is given.
    ///
    /// All else is as without: the server's certificate must name the host of `origin`, and `Host`,
    /// proofs and the pool know that one alone. Through a proxy, CONNECT names the place, and
    /// `NO_PROXY` is compared with it.
    ///
    /// [`build`](Self::build) fails for a plaintext origin: nothing would tell whether the right
    /// server had answered.
    #[must_use]
    pub fn connect_to(
        mut self,
        origin: Origin,
        places: impl IntoIterator<Item = Authority>,
    ) -> Self {
        self.places.push((origin, places.into_iter().collect()));
        self
    }

    /// Which servers to trust. Default: the operating system's verifier.
    #[must_use]
    pub fn trust(mut self, trust: Trust) -> Self {
        self.trust = trust;
        self
    }

    /// Whether requests carry a session-binding proof. Default [`BindingPolicy::Auto`].
    #[must_use]
    pub fn binding(mut self, binding: BindingPolicy) -> Self {
        self.binding = binding;
        self
    }

    /// The key that DPoP-bound tokens (RFC 9449) are bound to. A token goes with a DPoP proof if
    /// its `cnf.jkt` says so, or if it comes with the scheme `DPoP`. Without a key such tokens
    /// fail.
    #[must_use]
    pub fn dpop_key(mut self, key: DpopKey) -> Self {
        self.dpop_key = Some(key);
        self
    }

    /// What a proof covers. Default [`ProofScope::Connection`].
    #[must_use]
    pub fn proof_scope(mut self, proof_scope: ProofScope) -> Self {
        self.proof_scope = proof_scope;
        self
    }

    /// What a proof for requests to `origin` covers, in place of [`proof_scope`](Self::proof_scope).
    #[must_use]
    pub fn proof_scope_for(mut self, origin: Origin, proof_scope: ProofScope) -> Self {
        self.scopes.insert(origin, proof_scope);
        self
    }

    /// Which HTTP versions are offered. Default [`HttpVersions::Auto`].
    #[must_use]
    pub fn http_versions(mut self, http: HttpVersions) -> Self {
        self.http = http;
        self
    }

    /// How long each step may take.
    #[must_use]
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// Replaces a reusable proof once it is older than this. Off by default: the exporter value
    /// dates it already (RS-8).
    #[must_use]
    pub fn max_proof_age(mut self, age: Duration) -> Self {
        self.max_proof_age = Some(age);
        self
    }

    /// Allows plaintext `http` to `localhost` and loopback addresses (CL-6). Such requests carry no
    /// proof.
    #[must_use]
    pub fn allow_plaintext_on_loopback(mut self) -> Self {
        self.plaintext_on_loopback = true;
        self
    }

    /// How many bytes of a request's body are kept in case it must be sent again, after a
    /// challenge (CL-5) or a lost connection (CL-7). Default 64 KiB; the copy shares the body's
    /// memory and goes when the response's head has come.
    #[must_use]
    pub fn replay_limit(mut self, bytes: usize) -> Self {
        self.replay_limit = Some(bytes);
        self
    }

    /// Adds an observer of every event.
    #[must_use]
    pub fn observer(mut self, observer: impl Into<Arc<dyn Observer>>) -> Self {
        self.observers.push(observer.into());
        self
    }

    /// Replaces session-binding proofs and DPoP by another binding to the connection;
    /// [`Builder::binding`], [`Builder::proof_scope`], [`Builder::proof_scope_for`],
    /// [`Builder::max_proof_age`] and [`Builder::dpop_key`] then have no effect.
    #[must_use]
    pub fn bind(mut self, bind: impl Into<Arc<dyn Bind>>) -> Self {
        self.bind = Some(bind.into());
        self
    }

    /// Makes the client. Opens nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration) if no TLS configuration can be
    /// made of this, or a place of [`connect_to`](Self::connect_to) cannot be used.
    pub fn build(self) -> Result<Client, Error> {
        let stats = Arc::new(Stats::default());
        let mut observers: Vec<Arc<dyn Observer>> = vec![stats.clone()];
        observers.extend(self.observers);
        let observers = Observers(observers.into());
        let policy = SessionPolicy {
            binding: self.binding,
            proof_scope: self.proof_scope,
            max_proof_age: self.max_proof_age,
            sign_timeout: self.timeouts.sign,
            proofs_per_connection: self.limits.proofs_per_connection,
            tokens_per_origin: self.limits.tokens_per_origin,
        };
        let binding = self.bind.unwrap_or_else(|| {
            let session = Arc::new(SessionBinding::new(policy, self.scopes, observers.clone()));
            let dpop = self.dpop_key.map(|key| {
                Arc::new(DpopBinding::new(key, self.timeouts.sign, observers.clone())) as _
            });
            Arc::new(BindingSelector::new(session, dpop))
        });
        self.proxies.check()?;
        let connector = Connector {
            proxies: self.proxies,
            places: read_places(self.places)?,
            ping: self.ping,
            http: self.http,
            timeouts: self.timeouts,
            binding,
            observers,
        };
        let identities = Identities::new(self.identity, self.retired, self.trust, self.http)?;
        let identities = Arc::new(identities);
        Ok(Client(Arc::new(Inner {
            pool: Pool::new(connector, identities.clone(), self.limits),
            identities,
            plaintext_on_loopback: self.plaintext_on_loopback,
            replay_limit: self.replay_limit.unwrap_or(COPY_LIMIT),
            recent_origins: RecentOrigins::default(),
            recent_tokens: RecentTokens::new(self.limits.recent_tokens),
            stats,
        })))
    }
}

fn read_places(
    given: Vec<(Origin, Vec<Authority>)>,
) -> Result<HashMap<Origin, Vec<Origin>>, Error> {
    let bad = |message| Err(Error::new(ErrorKind::Configuration, message));
    let mut read = HashMap::new();
    for (origin, places) in given {
        if !origin.is_https() {
            return bad(format!(
                "{origin} is plaintext: only connections to https origins can go elsewhere"
            ));
        }
        if places.is_empty() {
            return bad(format!("no place is given to connect to for {origin}"));
        }
        for place in places {
            let Ok(place) = format!("https://{place}").parse() else {
                return bad(format!(
                    "`{place}`, given to connect to for {origin}, is no host with a port"
                ));
            };
            read.entry(origin.clone())
                .or_insert_with(Vec::new)
                .push(place);
        }
    }
    Ok(read)
}

const COPY_LIMIT: usize = 64 * 1024;
