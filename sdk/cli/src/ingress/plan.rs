//! What the options ask for, checked and built, before any socket is opened: what `--check` checks,
//! and what a reload puts into use.

use std::sync::Arc;
use std::time::Duration;

use bowline::server::{
    AcceptPolicy, BindingLayer, ClientAuth, ConnectionLimits, Dpop, DpopNonces, MemoryReplayStore,
    NodeSecrets, Origin, ProxyName, RedisReplayStore, RedisServer, RequireRequestBound,
    ResourceMetadata, Routes, ServeOptions, ServerTls, TicketKeys, Trust, TrustedProxies,
    metrics::MetricsObserver,
};
use http::HeaderName;

use super::certificate::ServerCertificate;
use super::metadata;
use super::nodes::Nodes;
use super::options::{LimitOptions, Options, PolicyOptions};
use super::proxy::{Passing, UpstreamOptions};
use super::tokens::{TokenSource, Tokens};
use crate::causes::with_causes;
use crate::failure::Failure;
use crate::receipt::ReceiptKey;
use crate::values::{StoreAt, certificate_name, routes};

/// Used DPoP proofs, and `jti` values that come through proxies, in the memory of this process.
const REPLAY_CAPACITY: usize = 1_000_000;

/// How long a DPoP nonce is issued. It is accepted for twice this time.
const NONCE_PERIOD: Duration = Duration::from_secs(150);

/// The longest lifetime of a receipt (GW-7).
const MAX_RECEIPT: Duration = Duration::from_secs(3600);

/// What is put into use, all of it or nothing.
pub(crate) struct Plan {
    pub(crate) tls: ServerTls,
    pub(crate) checks: Checks,
    pub(crate) passing: Passing,
    pub(crate) token_source: TokenSource,
    /// Where used proofs are stored.
    store: Option<(RedisServer, StoreAt)>,
}

/// What the binding layer checks.
pub(crate) struct Checks {
    /// `None`: the former validator stays.
    tokens: Option<Tokens>,
    policy: AcceptPolicy,
    observe: bool,
    origins: Vec<Origin>,
    public: Routes,
    public_count: usize,
    request_bound: RequireRequestBound,
    dpop: Option<Dpop>,
    proxies: Option<TrustedProxies>,
    metadata: Option<ResourceMetadata>,
}

impl Checks {
    /// A new layer that checks this.
    pub(crate) fn layer(self) -> BindingLayer<Tokens> {
        // `onto` sets the validator.
        let layer = BindingLayer::new(Tokens::BindingOnly).observer(MetricsObserver);
        self.onto(layer)
    }

    /// The layer, which now checks this: what it remembers, it keeps.
    pub(crate) fn onto(self, layer: BindingLayer<Tokens>) -> BindingLayer<Tokens> {
        let layer = match self.tokens {
            Some(tokens) => layer.validator(tokens),
            None => layer,
        };
        layer
            .policy(self.policy)
            .origins(self.origins)
            .public_routes(self.public)
            .require_request_bound(self.request_bound)
            .dpop(self.dpop)
            .accept_proxy_attested(self.proxies.is_some())
            .trusted_proxies(self.proxies)
            .resource(self.metadata.as_ref())
            .observe(self.observe)
    }

    /// Whether the handshake demands a client certificate (RS-1).
    fn demand_certificates(&self) -> bool {
        let has_public = self.public_count > 0 || self.metadata.is_some();
        self.policy.proves_every_request() && !self.observe && !has_public
    }
}

/// What outlives a reload, because it remembers which proofs were used.
#[derive(Clone)]
pub(crate) struct Memory {
    dpop: Arc<MemoryReplayStore>,
    proxies: Arc<MemoryReplayStore>,
    /// Instead of both, where several nodes share one, with where it is.
    redis: Option<(RedisReplayStore, StoreAt)>,
    nonces: [u8; 32],
}

impl Memory {
    /// That of this process.
    pub(crate) fn new() -> Self {
        let mut nonces = [0; 32];
        aws_lc_rs::rand::fill(&mut nonces).expect("the system's random source");
        Self {
            dpop: Arc::new(MemoryReplayStore::new(REPLAY_CAPACITY)),
            proxies: Arc::new(MemoryReplayStore::new(REPLAY_CAPACITY)),
            redis: None,
            nonces,
        }
    }

    /// As the options have it.
    ///
    /// # Errors
    /// Redis was reached and cannot be used.
    pub(crate) async fn start(options: &Options) -> Result<Self, Failure> {
        let store = Nodes::read(options)?.start_store(&options.nodes).await?;
        Ok(Self {
            redis: store.zip(options.nodes.replay_store.clone()),
            ..Self::new()
        })
    }

    fn redis(&self) -> Option<&RedisReplayStore> {
        self.redis.as_ref().map(|(redis, _)| redis)
    }

    /// Logs in with the password and the certificates of now, from the next connection on. Where it
    /// is, is read at the start only.
    ///
    /// # Errors
    /// A certificate cannot be used.
    pub(crate) fn use_plan(&self, plan: &Plan) -> Result<(), Failure> {
        if let (Some((redis, at)), Some((server, new))) = (&self.redis, &plan.store)
            && at == new
        {
            let wrong = |error| Failure::usage(format!("--replay-store: {error}"));
            redis.use_server(server).map_err(wrong)?;
        }
        Ok(())
    }

    /// The store that several nodes share, with the secrets of now.
    fn shared(&self, secrets: Option<&NodeSecrets>) -> Option<RedisReplayStore> {
        let (redis, secrets) = (self.redis()?, secrets?);
        Some(redis.with_secrets(secrets))
    }
}

impl Plan {
    /// Reads every file that the options name. `port` is the one that is listened on, if there is
    /// one: the default external origins have it. `former` is what the validator in use was made
    /// from.
    ///
    /// # Errors
    /// What cannot be read, cannot be used, or cannot be together; each says what to do.
    pub(crate) fn new(
        options: &Options,
        port: Option<u16>,
        memory: &Memory,
        former: Option<&TokenSource>,
    ) -> Result<Self, Failure> {
        let policy = &options.policy;
        refuse_contradictions(options)?;
        let (certificate, identity) =
            ServerCertificate::with_key(("--cert", &options.cert), ("--key", &options.key))?;
        let trust = Trust::from_pem_file(&options.client_ca)
            .map_err(|error| Failure::usage(format!("--client-ca: {}", with_causes(&error))))?;
        let metadata = match &policy.resource_metadata {
            Some(path) => Some(metadata::read(path)?),
            None => None,
        };
        let token_source = TokenSource::of(&options.tokens);
        let tokens = match former == Some(&token_source) {
            true => None,
            false => Some(Tokens::new(&options.tokens)?),
        };
        let nodes = Nodes::read(options)?;
        let secrets = nodes.secrets.as_ref();
        if memory.redis.is_some() && secrets.is_none() {
            return Err(Failure::usage(
                "--node-secrets cannot be left away: --replay-store needs it, and stays in use until \
                 the ingress is restarted",
            ));
        }
        let checks = Checks {
            tokens,
            policy: policy.policy.into(),
            observe: policy.observe,
            origins: origins(policy, &certificate, port)?,
            public: routes("--public", &policy.public).map_err(Failure::usage)?,
            public_count: policy.public.len(),
            request_bound: request_bound(policy)?,
            dpop: dpop(policy, memory, secrets),
            proxies: proxies(policy, memory, secrets)?,
            metadata: metadata.clone(),
        };
        let clients = match checks.demand_certificates() {
            true => ClientAuth::Required(trust),
            false => ClientAuth::Optional(trust),
        };
        let mut tls = ServerTls::builder(identity, clients);
        if let Some(path) = &options.ticket_keys {
            let keys = TicketKeys::from_file(path).map_err(|error| {
                Failure::usage(format!("--ticket-keys: {}", with_causes(&error)))
            })?;
            tls = tls.ticket_keys(keys);
        }
        let tls = tls
            .build()
            .map_err(|error| Failure::usage(with_causes(&error)))?;
        Ok(Self {
            tls,
            checks,
            passing: passing(options, metadata)?,
            token_source,
            store: nodes.store.zip(options.nodes.replay_store.clone()),
        })
    }
}

fn refuse_contradictions(options: &Options) -> Result<(), Failure> {
    let policy = &options.policy;
    let proves = AcceptPolicy::from(policy.policy).proves_every_request();
    if policy.dpop_nonces && proves {
        return Err(Failure::usage(
            "--dpop-nonces with a policy that refuses DPoP-bound tokens, because they name no \
             connection: leave it away, or use --policy follow or require-bound",
        ));
    }
    if options.tokens.binding_only && !proves {
        return Err(Failure::usage(
            "--binding-only with a policy that lets tokens pass without a proof: nothing would be \
             checked of them (GW-4); use --policy require-proof or require-session",
        ));
    }
    if options.ticket_keys.is_some() && (!proves || policy.observe) {
        return Err(Failure::usage(
            "--ticket-keys with a policy that lets tokens pass without a proof, or with --observe: \
             a thief of these keys could use every stolen token there (T8); use --policy \
             require-proof or require-session",
        ));
    }
    if options.passing.receipt_lifetime > MAX_RECEIPT {
        return Err(Failure::usage(
            "--receipt-lifetime is an hour at most (GW-7)",
        ));
    }
    Ok(())
}

fn origins(
    policy: &PolicyOptions,
    certificate: &ServerCertificate,
    port: Option<u16>,
) -> Result<Vec<Origin>, Failure> {
    if !policy.external_origin.is_empty() {
        return Ok(policy.external_origin.clone());
    }
    let origins = certificate.origins(port.unwrap_or(443));
    if origins.is_empty() {
        return Err(Failure::usage(
            "--external-origin is missing, and the certificate names no host: proofs for one \
             request name the origin that clients use, such as https://api.example.com (PR-7)",
        ));
    }
    Ok(origins)
}

fn request_bound(policy: &PolicyOptions) -> Result<RequireRequestBound, Failure> {
    if policy.request_bound.is_empty() {
        return Ok(RequireRequestBound::Never);
    }
    let routes = routes("--request-bound", &policy.request_bound).map_err(Failure::usage)?;
    Ok(RequireRequestBound::Routes(routes))
}

/// DPoP-bound tokens pass where the policy has a place for them.
fn dpop(policy: &PolicyOptions, memory: &Memory, secrets: Option<&NodeSecrets>) -> Option<Dpop> {
    if AcceptPolicy::from(policy.policy).proves_every_request() {
        return None;
    }
    let dpop = match memory.shared(secrets) {
        Some(redis) => Dpop::new(redis),
        None => Dpop::new(memory.dpop.clone()),
    };
    Some(match (policy.dpop_nonces, secrets) {
        (true, Some(secrets)) => dpop.nonces(DpopNonces::shared(secrets, NONCE_PERIOD)),
        (true, None) => dpop.nonces(DpopNonces::new(&memory.nonces, NONCE_PERIOD)),
        (false, _) => dpop,
    })
}

fn proxies(
    policy: &PolicyOptions,
    memory: &Memory,
    secrets: Option<&NodeSecrets>,
) -> Result<Option<TrustedProxies>, Failure> {
    if policy.trust_proxy.is_empty() {
        return Ok(None);
    }
    let mut proxies = match memory.shared(secrets) {
        Some(redis) => TrustedProxies::new(redis),
        None => TrustedProxies::new(memory.proxies.clone()),
    };
    for name in &policy.trust_proxy {
        proxies = match certificate_name(name) {
            Some(ProxyName::Thumbprint(thumbprint)) => proxies.thumbprint(thumbprint),
            Some(ProxyName::SpiffeId(id)) => proxies.spiffe_id(id),
            Some(ProxyName::Subject(subject)) => proxies.subject(subject),
            _ => {
                return Err(Failure::usage(format!(
                    "--trust-proxy `{name}`: name the proxy's client certificate by its \
                     thumbprint (SHA-256, base64url), its SPIFFE ID, or its subject \
                     (CN=gateway,O=Example)"
                )));
            }
        };
    }
    Ok(Some(proxies))
}

fn passing(options: &Options, metadata: Option<ResourceMetadata>) -> Result<Passing, Failure> {
    let (passing, limits) = (&options.passing, &options.limits);
    let receipt = match &passing.receipt_key {
        None => None,
        Some(at) => {
            let key = at.read("--receipt-key")?;
            let key = ReceiptKey::new(&key)
                .map_err(|error| Failure::usage(format!("--receipt-key: {error}")))?;
            Some((key, passing.receipt_lifetime))
        }
    };
    let strip = passing.strip_field.iter().map(|name| {
        name.parse::<HeaderName>()
            .map_err(|_| Failure::usage(format!("--strip-field `{name}` is no field name")))
    });
    Ok(Passing {
        strip: strip.collect::<Result<_, _>>()?,
        receipt,
        metadata: metadata.map(|metadata| (metadata.path().to_owned(), metadata.service())),
        sse_keep_alive: passing.sse_keep_alive,
        max_body: Some(limits.max_body).filter(|max| *max > 0),
        body_timeout: limits.body_timeout,
        upstream_timeout: limits.upstream_timeout,
        upstream_stalled_timeout: limits.upstream_stalled_timeout,
        behind_proxies: !options.policy.trust_proxy.is_empty(),
    })
}

pub(crate) fn upstream(options: &Options) -> UpstreamOptions {
    let limits = &options.limits;
    UpstreamOptions {
        at: options.upstream.clone(),
        h2c: options.upstream_h2c,
        connect_timeout: limits.upstream_connect_timeout,
        idle_timeout: limits.upstream_idle_timeout,
        max_requests: limits.max_requests,
    }
}

pub(crate) fn connection_limits(options: &LimitOptions) -> Result<ConnectionLimits, Failure> {
    if options.max_connections == 0 || options.max_requests == 0 || options.max_streams == 0 {
        return Err(Failure::usage(
            "--max-connections, --max-requests and --max-streams are 1 at least",
        ));
    }
    let mut limits = ConnectionLimits::default();
    limits.max_connections = options.max_connections;
    limits.max_handshakes = limits.max_handshakes.min(options.max_connections);
    limits.max_connections_per_owner = options.max_connections_per_client;
    limits.first_request_timeout = options.first_request_timeout;
    limits.idle_timeout = options.idle_timeout;
    limits.stalled_response_timeout = options.stalled_timeout;
    limits.max_connection_age = options.max_connection_age;
    Ok(limits)
}

pub(crate) fn serve_options(options: &LimitOptions) -> ServeOptions {
    let mut serve = ServeOptions::default();
    serve.drain_timeout = options.drain_timeout;
    serve.max_concurrent_streams = options.max_streams;
    serve.max_head_bytes = u32::try_from(options.max_head).unwrap_or(u32::MAX);
    serve
}
