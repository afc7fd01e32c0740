//! The verifier as tower middleware: RS-1 to RS-13 on every request, and RFC 9449 on those that
//! come with DPoP.

mod checks;
mod client;
mod dpop;
mod early;
mod paths;
mod policy;
mod proof;
mod rejection;
mod reload;
mod request_bound;
mod routes;
mod service;
mod transport;

#[cfg(test)]
mod tests;

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use bowline_proof::{Origin, Targets, Windows};
use http::request::Parts;
use rustls_pki_types::UnixTime;
use tower_layer::Layer;

pub use self::policy::{AcceptPolicy, InvalidPolicy};
use self::reload::FormerWindows;
pub use self::reload::Reloader;
pub use self::request_bound::RequireRequestBound;
pub use self::routes::{InvalidRoute, Routes};
pub use self::service::BindingService;
pub(crate) use self::transport::keep_uri;
use crate::clock::ForwardClock;
use crate::generation::Generation;
use crate::limit_reports::LimitReports;
use crate::used_jtis::JtiTotal;
use crate::{
    Clock, Dpop, RequiredScope, ResourceMetadata, ServerObserver, TokenValidator, TrustedProxies,
};

/// Lets a request through only if its access token is valid and is presented by the client, and on
/// the connection, that it is bound to (RS-1..RS-13).
///
/// It finds the [`ConnectionFacts`](crate::ConnectionFacts) among the request's extensions, where
/// [`serve`](crate::serve) and `axum::serve` (with [`PeerFacts`](crate::PeerFacts)) put them.
/// Without them every request is answered 500: a misconfigured server must not pass unchecked
/// requests.
///
/// A request that passes carries a [`VerifiedBinding`](crate::VerifiedBinding) extension; a
/// response that refuses carries the [`Check`](bowline_proof::Check) (or the
/// [`DpopCheck`](bowline_proof::dpop::DpopCheck)) that refused, as an extension too, and an empty
/// body.
///
/// The fields in which proxies and sidecars describe other TLS connections (`Client-Cert`,
/// `Client-Cert-Chain`, `TLS-Exporter`, `X-Forwarded-Client-Cert`, `Session-Binding-Verified`,
/// `Session-Binding-Observed`, `Session-Binding-Receipt`, also with `_` for `-`) are removed from
/// every request, because a handler might trust them (GW-2). See [`TrustedProxies`]. A request
/// whose `Connection` field names one of them, or `Host`, `Content-*`, `Authorization`, `Cookie` or
/// `DPoP`, is answered 400.
///
/// All layers that handle requests of one connection share its proof cache and its set of used
/// `jti` values: a request must pass through one layer, not two.
pub struct BindingLayer<V> {
    current: Arc<Current<V>>,
}

/// The configuration of a layer, shared with all its services and with its [`Reloader`]s.
struct Current<V> {
    configuration: ArcSwap<Configuration<V>>,
    reloads: Mutex<()>,
}

/// What one request is checked by, from its beginning to its end.
struct Configuration<V> {
    validator: Arc<V>,
    settings: Settings,
}

impl<V> Current<V> {
    fn load(&self) -> Arc<Configuration<V>> {
        self.configuration.load_full()
    }

    fn store(&self, validator: Arc<V>, settings: Settings) {
        let configuration = Configuration {
            validator,
            settings,
        };
        self.configuration.store(Arc::new(configuration));
    }
}

#[derive(Clone)]
struct Settings {
    origins: Vec<Origin>,
    bare_path: bool,
    targets: Targets,
    policy: AcceptPolicy,
    observe: bool,
    accept_proxy_attested: bool,
    require_request_bound: RequireRequestBound,
    required_scope: RequiredScope,
    resource_metadata: Option<String>,
    metadata_path: Option<String>,
    public_paths: Vec<String>,
    public_routes: Routes,
    windows: Windows,
    cached_proofs: NonZeroUsize,
    jti_quota: usize,
    jti_total: Arc<JtiTotal>,
    dpop: Option<Dpop>,
    trusted_proxies: Option<Arc<TrustedProxies>>,
    observer: Option<Arc<dyn ServerObserver>>,
    limits: Arc<LimitReports>,
    clock: Clock,
    /// The same clock for RS-8, RS-9 and DPoP.
    forward_clock: ForwardClock,
    generation: Generation,
    former_windows: Option<FormerWindows>,
}

impl<V> BindingLayer<V> {
    /// A layer that asks `validator` about tokens (RS-2), with [`AcceptPolicy::Follow`] and
    /// [`RequireRequestBound::Never`].
    pub fn new(validator: V) -> Self {
        let settings = Settings {
            origins: Vec::new(),
            bare_path: true,
            targets: Targets::default(),
            policy: AcceptPolicy::default(),
            observe: false,
            accept_proxy_attested: false,
            require_request_bound: RequireRequestBound::default(),
            required_scope: RequiredScope::default(),
            resource_metadata: None,
            metadata_path: None,
            public_paths: Vec::new(),
            public_routes: Routes::default(),
            windows: Windows::default(),
            cached_proofs: NonZeroUsize::new(256).expect("256 is not 0"),
            jti_quota: 10_000,
            jti_total: JtiTotal::new(1_000_000),
            dpop: None,
            trusted_proxies: None,
            observer: None,
            limits: LimitReports::new(None),
            clock: Clock::default(),
            forward_clock: ForwardClock::default(),
            generation: Generation::default(),
            former_windows: None,
        };
        Self::from_parts(Arc::new(validator), settings)
    }

    fn from_parts(validator: Arc<V>, settings: Settings) -> Self {
        let configuration = Configuration {
            validator,
            settings,
        };
        Self {
            current: Arc::new(Current {
                configuration: ArcSwap::from_pointee(configuration),
                reloads: Mutex::default(),
            }),
        }
    }

    /// The origins by which clients know this server, such as `https://api.example.com`. An `htu`
    /// is compared with these, never with `Host` (PR-7); without any, only a bare path matches, and
    /// this SDK's clients send full URIs.
    #[must_use]
    pub fn origins(self, origins: impl IntoIterator<Item = Origin>) -> Self {
        self.with(|settings| settings.origins = origins.into_iter().collect())
    }

    /// Whether an `htu` that is a bare absolute path, the draft's example, is accepted (PR-7).
    /// Default: yes.
    #[must_use]
    pub fn accept_bare_path(self, accepted: bool) -> Self {
        self.with(|settings| settings.bare_path = accepted)
    }

    /// What tokens must be bound to (RS-13). Default: [`AcceptPolicy::Follow`].
    #[must_use]
    pub fn policy(self, policy: AcceptPolicy) -> Self {
        self.with(|settings| settings.policy = policy)
    }

    /// Whether the policy is only observed: its checks are made (TK-0..TK-5, RS-3..RS-9, RS-12,
    /// RS-13, those of DPoP), and the request passes whatever they say. Default: no.
    ///
    /// A request that would be refused passes with
    /// [`BindingClass::None`](crate::BindingClass::None), and nothing of it is remembered: no proof
    /// is cached, no `jti` is marked as used, and a set of used `jti` values that is full drains
    /// nothing. [`ServerEvent::Observed`] counts what would have happened. Refused all the same are
    /// a request without a token (or with several different ones), a token that is not valid (RS-2)
    /// or lacks the [required scope](Self::required_scope), an expired certificate, and a trusted
    /// proxy that does not describe its client (RS-1). A token in the query is validated like one
    /// in
    /// `Authorization`, and so is one with the scheme `DPoP`, also without [`dpop`](Self::dpop).
    ///
    /// The log says that it is on.
    ///
    /// [`ServerEvent::Observed`]: crate::ServerEvent::Observed
    #[must_use]
    pub fn observe(self, observed: bool) -> Self {
        if observed {
            // Here, because a router may use the layer with the first request only.
            tracing::warn!("the policy is only observed: requests that it would refuse pass");
        }
        self.with(|settings| settings.observe = observed)
    }

    /// Whether what a [trusted proxy](Self::trusted_proxies) attests suffices (GW-3), as
    /// [`BindingClass::ProxyAttested`](crate::BindingClass::ProxyAttested), under any policy: what
    /// the policy demands of the token, it demands all the same. Default: no; then
    /// certificate-bound and session-bound tokens pass only on connections that this server
    /// terminates itself.
    #[must_use]
    pub fn accept_proxy_attested(self, accepted: bool) -> Self {
        self.with(|settings| settings.accept_proxy_attested = accepted)
    }

    /// Which requests need a request-bound proof (RS-12). Default: [`RequireRequestBound::Never`].
    #[must_use]
    pub fn require_request_bound(self, required: RequireRequestBound) -> Self {
        self.with(|settings| settings.require_request_bound = required)
    }

    /// Which requests need which scope; a token without it is answered 403 (RS-10). Default:
    /// [`RequiredScope::None`].
    #[must_use]
    pub fn required_scope(self, required: RequiredScope) -> Self {
        self.with(|settings| settings.required_scope = required)
    }

    /// Names the URL of this metadata in every challenge, and makes its path a public one. Route
    /// [`ResourceMetadata::service`] there.
    #[must_use]
    pub fn resource<'a>(self, metadata: impl Into<Option<&'a ResourceMetadata>>) -> Self {
        let metadata = metadata.into();
        self.with(|settings| {
            settings.resource_metadata = metadata.map(|metadata| metadata.url().to_owned());
            settings.metadata_path = metadata.map(|metadata| metadata.path().to_owned());
        })
    }

    /// The URL of this server's protected resource metadata (RFC 9728), named in every challenge
    /// (RS-10): for metadata that another server serves. See [`resource`](Self::resource).
    #[must_use]
    pub fn resource_metadata(self, url: impl Into<String>) -> Self {
        self.with(|settings| settings.resource_metadata = Some(url.into()))
    }

    /// Paths that need no token (RS-13), with any method: the agent card, resource metadata.
    ///
    /// A path is public if it is equal to one of these byte by byte, as the client sent it: no
    /// prefix matches, nothing is decoded, no dot segment is removed, and the query does not count.
    /// A request whose path is merely equivalent needs a token, and so does every path that has a
    /// second reading: one with a dot segment, an empty segment but the last, `\`, `;`, or an
    /// escape that is not needed or is of `.`, `/`, `\` or `%`, even if it is listed here. Under
    /// axum's `nest` the full path counts; without the feature `axum` of this crate only if
    /// [`serve`](crate::serve) serves the connection.
    ///
    /// A request that passes as public loses its token before it is passed on: `DPoP`,
    /// `Session-Binding-Proof`, and `Authorization` unless it is one field of the scheme `Basic`.
    /// One with a token in its query is refused (TK-0).
    #[must_use]
    pub fn public_paths(self, paths: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let paths: Vec<String> = paths.into_iter().map(Into::into).collect();
        for path in paths.iter().filter(|path| !paths::is_plain(path)) {
            tracing::warn!(
                path,
                "this path has more than one reading and is never public"
            );
        }
        self.with(|settings| settings.public_paths = paths)
    }

    /// Requests that need no token (RS-13), beside the [public paths](Self::public_paths), by
    /// method and path.
    ///
    /// Other than in [`RequireRequestBound::Routes`], a pattern matches the path as the client sent
    /// it only, and no path with a second reading, as above; an exception counts where any reading
    /// matches it. Where a pattern names a method, a request with a field that overrides the method
    /// needs a token.
    #[must_use]
    pub fn public_routes(self, routes: Routes) -> Self {
        self.with(|settings| settings.public_routes = routes)
    }

    /// How old a proof may be, and how far in the future (RS-8; RFC 9449 §11.1).
    #[must_use]
    pub fn windows(self, windows: Windows) -> Self {
        self.with(|settings| settings.windows = windows)
    }

    /// For how many tokens a connection caches the proof that passed. Default: 256. Beyond that,
    /// the least recently used entry is dropped, and its proof is verified again when it is next
    /// used.
    #[must_use]
    pub fn cached_proofs(self, tokens: NonZeroUsize) -> Self {
        self.with(|settings| settings.cached_proofs = tokens)
    }

    /// How many used `jti` values a connection stores, about 150 bytes each. Default: 10,000. Each
    /// is kept until its proof is too old to be accepted (RS-8), at the longest until the
    /// connection closes; at the quota a proof with a new `jti` is refused on that connection
    /// (RS-9). When a tenth of the quota is left the connection is drained, and the client opens a
    /// new one: with the default [`windows`](Self::windows), at 30 such requests a second on one
    /// connection.
    #[must_use]
    pub fn jti_quota(self, quota: usize) -> Self {
        self.with(|settings| settings.jti_quota = quota)
    }

    /// How many used `jti` values all connections of this layer store together. Default: 1,000,000.
    /// Beyond that, a proof with a new `jti` is answered 503. Once 80 % are stored, so is one of an
    /// owner (issuer, subject and client of the token) that has stored 1 % already.
    #[must_use]
    pub fn jti_total(self, total: usize) -> Self {
        self.with(|settings| settings.jti_total = JtiTotal::new(total))
    }

    /// Accepts tokens that are bound to a DPoP key (RFC 9449), with the scheme `DPoP`. Default:
    /// they are refused. It goes with [`AcceptPolicy::Follow`] and [`AcceptPolicy::RequireBound`].
    ///
    /// An `htu` is compared with the [`origins`](Self::origins), which must be set. The
    /// [`windows`](Self::windows) apply. A DPoP proof is always request-bound, so it satisfies
    /// [`require_request_bound`](Self::require_request_bound).
    #[must_use]
    pub fn dpop(self, dpop: impl Into<Option<Dpop>>) -> Self {
        self.with(|settings| settings.dpop = dpop.into())
    }

    /// Trusts what these proxies attest about the client's TLS connection (GW-3). Default: no proxy
    /// is trusted. What they attest passes only with
    /// [`accept_proxy_attested`](Self::accept_proxy_attested).
    #[must_use]
    pub fn trusted_proxies(self, proxies: impl Into<Option<TrustedProxies>>) -> Self {
        self.with(|settings| settings.trusted_proxies = proxies.into().map(Arc::new))
    }

    /// Asks this validator about tokens (RS-2), in the place of the former one.
    #[must_use]
    pub fn validator(self, validator: V) -> Self {
        let configuration = self.current.load();
        Self::from_parts(Arc::new(validator), configuration.settings.clone())
    }

    /// Reports each request's outcome to this observer.
    #[must_use]
    pub fn observer(self, observer: impl ServerObserver) -> Self {
        self.with(|settings| {
            let observer: Arc<dyn ServerObserver> = Arc::new(observer);
            settings.limits = LimitReports::new(Some(observer.clone()));
            settings.observer = Some(observer);
        })
    }

    /// The clock for RS-1 and RS-8. Default: the system's. For RS-8, RS-9 and DPoP it is taken
    /// never to go back: if it is set back, it stands still until it has caught up.
    #[must_use]
    pub fn clock(self, clock: Clock) -> Self {
        self.with(|settings| {
            settings.forward_clock = ForwardClock::new(clock.clone());
            settings.clock = clock;
        })
    }

    /// To replace the configuration while the layer is in use. Take it last: a layer that is
    /// configured further is another layer.
    ///
    /// ```
    /// # use bowline_server::{InvalidPolicy, JwtValidator};
    /// # fn example(tokens: JwtValidator) -> Result<(), InvalidPolicy> {
    /// use bowline_server::{AcceptPolicy, BindingLayer};
    ///
    /// let layer = BindingLayer::new(tokens)
    ///     .policy(AcceptPolicy::RequireProof)
    ///     .observe(true);
    /// let reloader = layer.reloader();
    /// // Serve with `layer`; later, with all connections open:
    /// reloader.reload(|layer| layer.observe(false))?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn reloader(&self) -> Reloader<V>
    where
        V: TokenValidator,
    {
        Reloader::new(self.current.clone())
    }

    /// Whether the options fit together. [`Layer::layer`] panics where this is an error.
    ///
    /// # Errors
    /// [`InvalidPolicy`]: DPoP with a policy that refuses DPoP-bound tokens;
    /// [`UpstreamValidates`](crate::UpstreamValidates) with a policy that lets tokens pass without a
    /// proof.
    pub fn check(&self) -> Result<(), InvalidPolicy>
    where
        V: TokenValidator,
    {
        let configuration = self.current.load();
        policy::check(&configuration.settings, &*configuration.validator)
    }

    fn with(self, change: impl FnOnce(&mut Settings)) -> Self {
        let configuration = self.current.load();
        let mut settings = configuration.settings.clone();
        change(&mut settings);
        settings.targets =
            Targets::new(settings.origins.iter().cloned()).bare_path(settings.bare_path);
        Self::from_parts(configuration.validator.clone(), settings)
    }
}

impl Settings {
    /// The time for RS-8, RS-9 and DPoP, which never goes back.
    fn now(&self) -> UnixTime {
        self.forward_clock.now()
    }

    /// RS-13.
    fn is_public(&self, request: &Parts) -> bool {
        let path = transport::path(request);
        let mut listed = self.metadata_path.iter().chain(&self.public_paths);
        listed.any(|public| public == path) && paths::is_plain(path)
            || self.public_routes.surely_contain(request)
    }
}

impl<S, V: TokenValidator> Layer<S> for BindingLayer<V> {
    type Service = BindingService<S, V>;

    /// # Panics
    /// The options contradict each other: see [`BindingLayer::check`].
    fn layer(&self, inner: S) -> Self::Service {
        if let Err(error) = self.check() {
            panic!("the BindingLayer cannot be used: {error}");
        }
        BindingService {
            inner,
            current: self.current.clone(),
        }
    }
}

impl<V> Clone for BindingLayer<V> {
    fn clone(&self) -> Self {
        Self {
            current: self.current.clone(),
        }
    }
}

impl<V> fmt::Debug for BindingLayer<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let configuration = self.current.load();
        let settings = &configuration.settings;
        f.debug_struct("BindingLayer")
            .field("targets", &settings.targets)
            .field("policy", &settings.policy)
            .field("observe", &settings.observe)
            .field("require_request_bound", &settings.require_request_bound)
            .field("public_paths", &settings.public_paths)
            .field("public_routes", &settings.public_routes)
            .finish_non_exhaustive()
    }
}
