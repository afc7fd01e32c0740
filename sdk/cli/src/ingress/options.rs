//! The options of `bowline ingress`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bowline::server::{AcceptPolicy, Origin};
use clap::{Args, ValueEnum};

use serde_json::{Map, Value, json};

use crate::ops::{AdminOptions, Configuration};
use crate::secret::SecretAt;
use crate::values::{ListenAt, Pattern, StoreAt, UpstreamAt, duration, size};

/// Check tokens and proofs in front of a server in any language
///
/// Ends mutual TLS, verifies that each access token is used on the connection that it is bound to,
/// and passes the request on to a service on a Unix socket or on loopback.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:

  # Every request must prove its connection; tokens are JWTs of this issuer.
  bowline ingress --listen 0.0.0.0:8443 --cert server.pem --key server.key --client-ca ca.pem \\
      --upstream unix:/run/app.sock --jwks https://as.example.com/jwks \\
      --issuer https://as.example.com --audience https://api.example.com

  # First only watch what that would refuse.
  bowline ingress … --observe

  # The service validates tokens itself.
  bowline ingress … --binding-only

  # Writes need a proof for that very request.
  bowline ingress … --request-bound '*' --request-bound '!GET *'

  # Two nodes or more, with DPoP: one Redis, and a file of secrets that is the same on each node.
  openssl rand -base64 32 > nodes.secret; chmod 600 nodes.secret
  bowline ingress … --policy follow --node-secrets nodes.secret \\
      --replay-store rediss://redis.example.com --replay-store-password @redis.password")]
pub(crate) struct Options {
    /// Where to listen
    #[arg(long, value_name = "ADDR:PORT|unix:PATH")]
    pub(crate) listen: ListenAt,
    /// The server's certificate chain, in PEM
    #[arg(long, value_name = "FILE")]
    pub(crate) cert: PathBuf,
    /// Its private key, in PEM; others must not be able to read it
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    /// The authorities whose client certificates are accepted, in PEM
    #[arg(long, value_name = "FILE")]
    pub(crate) client_ca: PathBuf,
    /// Keys of session tickets that several ingresses share: two lines at least, each the base64 of
    /// 32 random bytes, the newest first. Only with a policy that demands a proof (RS-1, T8)
    #[arg(long, value_name = "FILE")]
    pub(crate) ticket_keys: Option<PathBuf>,
    /// The service behind, on a Unix socket (better: other users cannot reach it) or on loopback
    #[arg(long, value_name = "unix:PATH|http://127.0.0.1:PORT")]
    pub(crate) upstream: UpstreamAt,
    /// Speak HTTP/2 without TLS to the service (h2c, with prior knowledge), not HTTP/1.1
    #[arg(long)]
    pub(crate) upstream_h2c: bool,
    /// Only check the configuration and the files that it names
    #[arg(long)]
    pub(crate) check: bool,
    #[command(flatten)]
    pub(crate) tokens: TokenOptions,
    #[command(flatten)]
    pub(crate) policy: PolicyOptions,
    #[command(flatten)]
    pub(crate) nodes: NodeOptions,
    #[command(flatten)]
    pub(crate) passing: PassingOptions,
    #[command(flatten)]
    pub(crate) limits: LimitOptions,
    #[command(flatten)]
    pub(crate) admin: AdminOptions,
}

impl Configuration for Options {
    fn admin(&self) -> &AdminOptions {
        &self.admin
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<&Path> = vec![&self.cert, &self.key, &self.client_ca];
        files.extend(self.ticket_keys.as_deref());
        files.extend(self.tokens.files());
        files.extend(self.policy.resource_metadata.as_deref());
        files.extend(self.nodes.files());
        let receipt = self.passing.receipt_key.as_ref();
        files.extend(receipt.and_then(SecretAt::file));
        files.into_iter().map(Path::to_owned).collect()
    }

    fn describe(&self) -> Map<String, Value> {
        let about = json!({
            "policy": self.policy.policy.name(),
            "observe": self.policy.observe,
            "upstream": self.upstream.to_string(),
            "replay_store": if self.nodes.replay_store.is_some() { "redis" } else { "memory" },
        });
        match about {
            Value::Object(about) => about,
            _ => Map::new(),
        }
    }

    fn changed_but_fixed(&self, former: &Self) -> Vec<&'static str> {
        let fixed = |options: &Self| {
            let limits = &options.limits;
            [
                ("--listen", options.listen.to_string()),
                (
                    "--upstream",
                    format!("{} {}", options.upstream, options.upstream_h2c),
                ),
                ("--admin", format!("{:?}", options.admin)),
                ("--replay-store", options.nodes.store()),
                (
                    "a limit of connections",
                    format!(
                        "{:?}",
                        (
                            (limits.max_connections, limits.max_connections_per_client),
                            (limits.max_requests, limits.max_streams, limits.max_head),
                            (limits.handshake_timeout, limits.first_request_timeout),
                            (limits.idle_timeout, limits.stalled_timeout),
                            (limits.max_connection_age, limits.drain_timeout),
                            (
                                limits.upstream_connect_timeout,
                                limits.upstream_idle_timeout
                            ),
                        )
                    ),
                ),
            ]
        };
        let pairs = fixed(self).into_iter().zip(fixed(former));
        pairs
            .filter(|((_, now), (_, then))| now != then)
            .map(|((name, _), _)| name)
            .collect()
    }
}

/// One of three ways to know that a token is valid.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
#[command(next_help_heading = "Tokens (one of --jwks, --introspect, --binding-only)")]
pub(crate) struct TokenOptions {
    /// Tokens are JWTs, signed by keys of this set
    #[arg(long, value_name = "URL|FILE")]
    pub(crate) jwks: Option<String>,
    /// The `iss` of tokens
    #[arg(long, value_name = "URL")]
    pub(crate) issuer: Option<String>,
    /// The `aud` of tokens: names of this service (repeatable)
    #[arg(long, value_name = "NAME")]
    pub(crate) audience: Vec<String>,
    /// Accept tokens whose `typ` is not `at+jwt` (Keycloak and others); ID tokens pass too then
    #[arg(long)]
    pub(crate) any_jwt_type: bool,
    /// Ask the authorization server about each token (RFC 7662)
    #[arg(long, value_name = "URL")]
    pub(crate) introspect: Option<String>,
    /// The client that asks
    #[arg(long, value_name = "ID")]
    pub(crate) introspect_id: Option<String>,
    /// Its secret (client_secret_basic)
    #[arg(long, value_name = "@FILE")]
    pub(crate) introspect_secret: Option<SecretAt>,
    /// Its certificate chain (tls_client_auth)
    #[arg(long, value_name = "FILE")]
    pub(crate) introspect_cert: Option<PathBuf>,
    /// The private key of that certificate
    #[arg(long, value_name = "FILE")]
    pub(crate) introspect_key: Option<PathBuf>,
    /// The roots of the authorization server, instead of the platform's
    #[arg(long, value_name = "FILE")]
    pub(crate) authority_ca: Option<PathBuf>,
    /// The service validates tokens itself; only their binding is checked here (GW-4)
    #[arg(long)]
    pub(crate) binding_only: bool,
}

impl TokenOptions {
    /// The files that they name.
    pub(crate) fn files(&self) -> Vec<&Path> {
        let jwks = self.jwks.as_deref().filter(|at| !at.contains("://"));
        let secret = self.introspect_secret.as_ref();
        let paths = [
            jwks.map(Path::new),
            secret.and_then(SecretAt::file),
            self.introspect_cert.as_deref(),
            self.introspect_key.as_deref(),
            self.authority_ca.as_deref(),
        ];
        paths.into_iter().flatten().collect()
    }
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Policy")]
pub(crate) struct PolicyOptions {
    /// What tokens must be bound to
    #[arg(long, value_enum, default_value = "require-proof")]
    pub(crate) policy: Policy,
    /// Only count and log what the policy would refuse, and pass it
    #[arg(long)]
    pub(crate) observe: bool,
    /// Requests that need no token (repeatable; `!` takes out)
    #[arg(long, value_name = "PATTERN")]
    pub(crate) public: Vec<Pattern>,
    /// Requests that need a proof for themselves alone (repeatable; `!` takes out)
    #[arg(long, value_name = "PATTERN")]
    pub(crate) request_bound: Vec<Pattern>,
    /// The origins by which clients know this service [default: the certificate's names with the
    /// listening port]
    #[arg(long, value_name = "URL")]
    pub(crate) external_origin: Vec<Origin>,
    /// DPoP proofs need a nonce of this server (RFC 9449 section 9)
    #[arg(long)]
    pub(crate) dpop_nonces: bool,
    /// A proxy that ends clients' TLS and describes it (GW-3), by its client certificate: its
    /// thumbprint, SPIFFE ID, or subject (`CN=gateway,O=Example`) (repeatable)
    #[arg(long, value_name = "THUMBPRINT|spiffe://ID|SUBJECT")]
    pub(crate) trust_proxy: Vec<String>,
    /// Protected resource metadata (RFC 9728), in JSON: served, and named in challenges
    #[arg(long, value_name = "FILE")]
    pub(crate) resource_metadata: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Policy {
    /// The token decides; a bearer token passes
    Follow,
    /// No bearer tokens
    RequireBound,
    /// Every request proves its connection
    RequireProof,
    /// Only tokens that the authorization server marked (`tls_exp`), with their proof
    RequireSession,
}

impl Policy {
    /// As it is written on the command line.
    pub(crate) fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

impl From<Policy> for AcceptPolicy {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::Follow => Self::Follow,
            Policy::RequireBound => Self::RequireBound,
            Policy::RequireProof => Self::RequireProof,
            Policy::RequireSession => Self::RequireSession,
        }
    }
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Several nodes")]
pub(crate) struct NodeOptions {
    /// Secrets that the nodes of this service share: one line or more, each the base64 of 32 random
    /// bytes. By the first DPoP nonces are made, and all of them count
    #[arg(long, value_name = "FILE")]
    pub(crate) node_secrets: Option<PathBuf>,
    /// A Redis in which the nodes store used proofs: those of DPoP, and those with a `jti` that come
    /// through `--trust-proxy`. Without TLS on this machine only [default: the memory of this process]
    #[arg(
        long,
        value_name = "rediss://[USER@]HOST[:PORT][/DB]|redis://127.0.0.1|unix:PATH"
    )]
    pub(crate) replay_store: Option<StoreAt>,
    /// Its password
    #[arg(long, value_name = "@FILE")]
    pub(crate) replay_store_password: Option<SecretAt>,
    /// The authorities that issue its certificate, in PEM, instead of the platform's
    #[arg(long, value_name = "FILE")]
    pub(crate) replay_store_ca: Option<PathBuf>,
    /// The certificate chain to show it, in PEM; Redis demands one by default
    #[arg(long, value_name = "FILE")]
    pub(crate) replay_store_cert: Option<PathBuf>,
    /// The private key of that certificate
    #[arg(long, value_name = "FILE")]
    pub(crate) replay_store_key: Option<PathBuf>,
    /// How many used proofs all nodes together may store, about 200 bytes each
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    pub(crate) replay_store_capacity: u64,
    /// For Redis to answer, and four times as long to connect; what needs it is answered 503 then
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "500ms")]
    pub(crate) replay_store_timeout: Duration,
}

impl NodeOptions {
    /// The files that they name.
    pub(crate) fn files(&self) -> Vec<&Path> {
        let password = self.replay_store_password.as_ref();
        let paths = [
            self.node_secrets.as_deref(),
            password.and_then(SecretAt::file),
            self.replay_store_ca.as_deref(),
            self.replay_store_cert.as_deref(),
            self.replay_store_key.as_deref(),
        ];
        paths.into_iter().flatten().collect()
    }

    /// What is read at the start only. It may hold a password, and is only compared.
    fn store(&self) -> String {
        let at = self.replay_store.as_ref().map(StoreAt::as_str);
        let limits = (self.replay_store_capacity, self.replay_store_timeout);
        format!("{:?}", (at, limits))
    }
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Passing on")]
pub(crate) struct PassingOptions {
    /// Further fields of requests that are never passed on (repeatable)
    #[arg(long, value_name = "NAME")]
    pub(crate) strip_field: Vec<String>,
    /// How often a silent event stream gets a comment, so that nothing between ends it
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "15s")]
    pub(crate) sse_keep_alive: Duration,
    /// A key of 32 bytes or more, shared with the egress beside: adds `Session-Binding-Receipt`
    #[arg(long, value_name = "@FILE")]
    pub(crate) receipt_key: Option<SecretAt>,
    /// For how long a receipt is valid, an hour at most
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "15m")]
    pub(crate) receipt_lifetime: Duration,
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitOptions {
    /// Connections at a time
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub(crate) max_connections: usize,
    /// Connections at a time of one client [default: no limit]
    #[arg(long, value_name = "N")]
    pub(crate) max_connections_per_client: Option<usize>,
    /// Requests at a time; more are answered 503
    #[arg(long, value_name = "N", default_value_t = 4096)]
    pub(crate) max_requests: usize,
    /// Requests at a time on one HTTP/2 connection
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub(crate) max_streams: u32,
    /// The head of a request
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "64KiB")]
    pub(crate) max_head: u64,
    /// The body of a request; 0 is no limit
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "16MiB")]
    pub(crate) max_body: u64,
    /// For a TLS handshake
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10s")]
    pub(crate) handshake_timeout: Duration,
    /// Until the head of the first request has arrived
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "30s")]
    pub(crate) first_request_timeout: Duration,
    /// For which a connection may have no request
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5m")]
    pub(crate) idle_timeout: Duration,
    /// For which a client may send nothing of a request's body
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "30s")]
    pub(crate) body_timeout: Duration,
    /// For which a client may take nothing of a response
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "60s")]
    pub(crate) stalled_timeout: Duration,
    /// After which a connection is drained [default: never]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) max_connection_age: Option<Duration>,
    /// To connect to the service
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5s")]
    pub(crate) upstream_connect_timeout: Duration,
    /// Until the head of the service's response has arrived, once it has the request
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "60s")]
    pub(crate) upstream_timeout: Duration,
    /// For which the service may send nothing of a response's body (event streams aside)
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5m")]
    pub(crate) upstream_stalled_timeout: Duration,
    /// For which an idle connection to the service is kept
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "4s")]
    pub(crate) upstream_idle_timeout: Duration,
    /// How long requests in flight may take when the ingress ends
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "30s")]
    pub(crate) drain_timeout: Duration,
}
