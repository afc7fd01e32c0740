//! A small authorization server, for development and tests.
//!
//! It grants `client_credentials`, token exchange (RFC 8693) and refresh tokens (RFC 6749 §6), answers
//! introspection (RFC 7662), and registers clients (RFC 7591). Clients authenticate by mutual TLS, with a certificate of the
//! PKI or a self-signed one (RFC 8705 §2), or by `private_key_jwt` (RFC 7523). Its endpoints are on
//! two ports: the plain one asks for no client certificate, the other, which
//! `mtls_endpoint_aliases` names, does (RFC 8705 §5). Tokens are RFC 9068 JWTs signed with ES256,
//! or opaque; by default session-bound (TK-1), bound to a DPoP key where the request has a DPoP
//! proof (RFC 9449 §5).
//!
//! It has no client secrets and no consent: a test takes a first refresh token from
//! [`Authority::issue_refresh_token`]. It keeps everything in memory until it is dropped.
//!
//! Tests of its callers get request counts, tokens with any claims, and faults ([`InjectedFault`]).

mod client;
mod counters;
mod endpoint;
mod fault;
mod keys;
mod names;
mod refresh;
mod state;
mod tls;
mod token;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bowline_server::{Acceptor, Listener, ServeOptions, ServerTls};
use serde_json::Value;

use crate::net::{loopback, origin};
use crate::pki::Pki;
use crate::task::{OwnedTask, until};
use client::Registry;
use fault::FaultService;
use names::{INTROSPECTION_PATH, JWKS_PATH, METADATA_PATH, REGISTRATION_PATH, TOKEN_PATH};
use state::ServerState;

pub use client::{Client, ClientAuthentication};
pub use fault::InjectedFault;
pub use refresh::RefreshTokens;
pub use token::{TokenBinding, TokenFormat, TokenRequest};

/// How an [`Authority`] behaves. Any client with a certificate of its PKI is served.
#[derive(Clone, Debug)]
pub struct AuthorityOptions {
    /// How tokens are bound, unless the client's registration says otherwise.
    pub binding: TokenBinding,
    /// How long tokens are valid.
    pub lifetime: Duration,
    /// `aud` of tokens whose request names no `resource` (RFC 8707).
    pub audience: String,
    /// The form of tokens, unless the client's registration says otherwise.
    pub format: TokenFormat,
    /// Whether DPoP proofs at the token endpoint must have a nonce of this server (RFC 9449 §8).
    pub dpop_nonces: bool,
    /// Registered clients. A client without registration is identified by the subject common name
    /// of its certificate.
    pub clients: Vec<Client>,
}

impl Default for AuthorityOptions {
    /// Session-bound JWTs for ten minutes, addressed to `https://resource.example`; no nonces.
    fn default() -> Self {
        Self {
            binding: TokenBinding::Session,
            lifetime: Duration::from_secs(600),
            audience: "https://resource.example".to_owned(),
            format: TokenFormat::Jwt,
            dpop_nonces: false,
            clients: Vec::new(),
        }
    }
}

/// The running authorization server, on two loopback ports of its own. Dropping it shuts it down.
#[derive(Debug)]
pub struct Authority {
    state: Arc<ServerState>,
    addr: SocketAddr,
    mtls_addr: SocketAddr,
    ca_pem: String,
    _serving: [OwnedTask; 2],
}

impl Authority {
    /// Starts a server with a certificate of `pki` for `localhost` and the loopback addresses.
    ///
    /// # Panics
    /// If no loopback port can be bound, or outside a tokio runtime.
    #[must_use]
    pub fn start(pki: &Pki, options: AuthorityOptions) -> Self {
        let registry = Arc::new(Registry::new(options.clients.clone()));
        let authorities = tls::authorities(pki);
        let plain = listen(tls::plain(pki));
        let mutual = listen(tls::mutual(
            pki,
            Arc::clone(&authorities),
            Arc::clone(&registry),
        ));
        let (addr, mtls_addr) = (plain.local_addr(), mutual.local_addr());
        let origins = [origin(addr), origin(mtls_addr)];
        let state = Arc::new(ServerState::new(origins, options, registry, authorities));
        let serving = [
            serve(&state, plain, &state.issuer),
            serve(&state, mutual, &state.mtls_origin),
        ];
        Self {
            state,
            addr,
            mtls_addr,
            ca_pem: pki.ca_pem(),
            _serving: serving,
        }
    }

    /// Where it listens without asking for client certificates, on 127.0.0.1.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where it listens and asks for client certificates, on 127.0.0.1.
    #[must_use]
    pub fn mtls_addr(&self) -> SocketAddr {
        self.mtls_addr
    }

    /// The issuer identifier, `https://localhost:<port>`: `iss` of its tokens.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.state.issuer
    }

    /// The token endpoint, where only `private_key_jwt` can authenticate a client.
    #[must_use]
    pub fn token_url(&self) -> String {
        self.state.url(TOKEN_PATH)
    }

    /// The token endpoint for mutual TLS (`mtls_endpoint_aliases`, RFC 8705 §5).
    #[must_use]
    pub fn mtls_token_url(&self) -> String {
        self.state.mtls_url(TOKEN_PATH)
    }

    /// The introspection endpoint (RFC 7662), where only `private_key_jwt` can authenticate a
    /// client.
    #[must_use]
    pub fn introspection_url(&self) -> String {
        self.state.url(INTROSPECTION_PATH)
    }

    /// The introspection endpoint for mutual TLS (`mtls_endpoint_aliases`).
    #[must_use]
    pub fn mtls_introspection_url(&self) -> String {
        self.state.mtls_url(INTROSPECTION_PATH)
    }

    /// Where clients register (RFC 7591).
    #[must_use]
    pub fn registration_url(&self) -> String {
        self.state.url(REGISTRATION_PATH)
    }

    /// Where the key set is (RFC 7517 §5).
    #[must_use]
    pub fn jwks_url(&self) -> String {
        self.state.url(JWKS_PATH)
    }

    /// Where the metadata is (RFC 8414 §3).
    #[must_use]
    pub fn metadata_url(&self) -> String {
        self.state.url(METADATA_PATH)
    }

    /// The CA certificate of its TLS server, PEM.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The key set, as [`Authority::jwks_url`] serves it.
    #[must_use]
    pub fn jwks(&self) -> Value {
        self.state.keys.jwks()
    }

    /// How often the key set has been fetched over the network.
    #[must_use]
    pub fn jwks_fetches(&self) -> u64 {
        self.state.counters.jwks.total()
    }

    /// How many requests the token endpoint has received, on both ports, refused ones included.
    #[must_use]
    pub fn token_requests(&self) -> u64 {
        self.state.counters.token.total()
    }

    /// How many of the token requests asked for an exchange. While an [`InjectedFault`] is set,
    /// requests are not read, so they are not counted here.
    #[must_use]
    pub fn exchanges(&self) -> u64 {
        self.state.counters.exchanges.total()
    }

    /// How many token requests were granted by a refresh token, whether or not the response arrived.
    #[must_use]
    pub fn refreshes(&self) -> u64 {
        self.state.counters.refreshes.total()
    }

    /// How many requests the introspection endpoint has received, on both ports, refused ones
    /// included.
    #[must_use]
    pub fn introspections(&self) -> u64 {
        self.state.counters.introspection.total()
    }

    /// Changes how requests are answered from now on, held ones included.
    pub fn set_fault(&self, fault: InjectedFault) {
        self.state.faults.set(fault);
    }

    /// Waits until so many requests are being held, under [`InjectedFault::Hold`].
    ///
    /// # Panics
    /// After 30 s.
    pub async fn held(&self, requests: usize) {
        until(&self.state.faults.held, "requests to be held", |held| {
            *held >= requests
        })
        .await;
    }

    /// Waits until so many callers have given up while their requests were held.
    ///
    /// # Panics
    /// After 30 s.
    pub async fn given_up(&self, requests: usize) {
        until(
            &self.state.faults.given_up,
            "callers to give up",
            |given_up| *given_up >= requests,
        )
        .await;
    }

    /// Changes how long tokens are valid that are issued from now on.
    pub fn set_lifetime(&self, lifetime: Duration) {
        self.state.set_lifetime(lifetime);
    }

    /// Changes what becomes of refresh tokens that are used from now on.
    pub fn set_refresh_tokens(&self, rule: RefreshTokens) {
        self.state.set_refresh_tokens(rule);
    }

    /// A refresh token of this client for this subject, as after a sign-in.
    #[must_use]
    pub fn issue_refresh_token(&self, client_id: &str, subject: &str) -> String {
        self.state.issue_refresh_token(client_id, subject)
    }

    /// Whether a refresh token is the newest of those that come from one sign-in, and not revoked.
    #[must_use]
    pub fn is_live_refresh_token(&self, token: &str) -> bool {
        self.state.is_live_refresh_token(token)
    }

    /// Revokes a refresh token, and all that come from the same sign-in.
    pub fn revoke_refresh_token(&self, token: &str) {
        self.state.revoke_refresh_token(token);
    }

    /// Registers a client, or replaces its registration.
    pub fn register(&self, client: Client) {
        self.state.registry.insert(client);
    }

    /// Signs with a new key from now on. The old ones stay in the key set.
    ///
    /// # Panics
    /// If no key can be generated.
    pub fn rotate_key(&self) {
        self.state.keys.rotate();
    }

    /// Gives out another DPoP nonce from now on. The one before it is still accepted, older ones
    /// are not.
    pub fn rotate_dpop_nonce(&self) {
        self.state.rotate_nonce();
    }

    /// Issues a token directly: no request, no TLS, no client authentication.
    ///
    /// # Panics
    /// If the token's times are before 1970.
    #[must_use]
    pub fn issue(&self, request: &TokenRequest) -> String {
        self.state.issue(request).0
    }

    /// Revokes a token: introspection calls it inactive, and it can no longer be exchanged. A
    /// server that validates JWTs by their signature does not notice. Returns whether the token was
    /// valid until now.
    pub fn revoke(&self, token: &str) -> bool {
        self.state.revoke(token)
    }
}

fn listen(tls: ServerTls) -> Listener {
    Listener::new(loopback(), Acceptor::new(tls)).expect("a bound socket's address")
}

fn serve(state: &Arc<ServerState>, listener: Listener, origin: &str) -> OwnedTask {
    let service = FaultService {
        faults: Arc::clone(&state.faults),
        counters: Arc::clone(&state.counters),
        endpoints: endpoint::router(Arc::clone(state), origin),
    };
    OwnedTask::spawn(bowline_server::serve(
        listener,
        service,
        ServeOptions::default(),
        std::future::pending(),
    ))
}
