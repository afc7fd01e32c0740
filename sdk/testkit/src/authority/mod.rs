//! A small authorization server on mutual TLS, for development and tests.
//!
//! It grants `client_credentials` and nothing else. A client is whoever its TLS certificate says
//! (RFC 8705 §2.1, `tls_client_auth`); there are no secrets, no consent, no refresh tokens, no
//! revocation. Tokens are RFC 9068 JWTs signed with ES256, by default session-bound (TK-1).

mod endpoint;
mod keys;
mod token;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::Json;
use axum::routing::{get, post};
use bowline_server::{Acceptor, ClientAuth, Listener, ServeOptions, ServerIdentity, ServerTls};
use serde_json::{Value, json};

use crate::net::{loopback, origin};
use crate::pki::Pki;
use crate::task::OwnedTask;
use keys::Keys;

pub use token::{Binding, TokenRequest};

/// How an [`Authority`] behaves. Any client with a certificate of its PKI is served.
#[derive(Clone, Debug)]
pub struct AuthorityOptions {
    /// How tokens are bound, unless the client's registration says otherwise.
    pub binding: Binding,
    /// How long tokens are valid.
    pub lifetime: Duration,
    /// `aud` of tokens whose request names no `resource` (RFC 8707).
    pub audience: String,
    /// Registered clients. A client that is not registered is known by its certificate's subject
    /// common name.
    pub clients: Vec<Client>,
}

impl Default for AuthorityOptions {
    /// Session-bound tokens for ten minutes, addressed to `https://resource.example`.
    fn default() -> Self {
        Self {
            binding: Binding::Session,
            lifetime: Duration::from_secs(600),
            audience: "https://resource.example".to_owned(),
            clients: Vec::new(),
        }
    }
}

/// A client's registration.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its `client_id`.
    pub id: String,
    /// The subject common name that its certificate must have (in the place of
    /// `tls_client_auth_subject_dn`, RFC 8705 §2.1.2).
    pub subject: String,
    /// How its tokens are bound (TK-3 is [`Binding::Session`]).
    pub binding: Binding,
}

/// The running authorization server, on a loopback port of its own. Dropping it shuts it down.
#[derive(Debug)]
pub struct Authority {
    house: Arc<House>,
    addr: SocketAddr,
    ca_pem: String,
    _serving: OwnedTask,
}

impl Authority {
    /// Starts a server with a certificate of `pki` for `localhost` and the loopback addresses.
    ///
    /// A client certificate is asked for but not demanded by TLS, because anybody may read the
    /// key set and the metadata.
    ///
    /// # Panics
    /// If no loopback port can be bound, or outside a tokio runtime.
    #[must_use]
    pub fn start(pki: &Pki, options: AuthorityOptions) -> Self {
        let leaf = pki.localhost();
        let identity =
            ServerIdentity::new(leaf.chain(), leaf.signing_key()).expect("the key was made for the certificate");
        let tls = ServerTls::builder(identity, ClientAuth::Optional(pki.roots()))
            .build()
            .expect("a usable TLS configuration");
        let listener = Listener::new(loopback(), Acceptor::new(tls)).expect("a bound socket's address");
        let addr = listener.local_addr();
        let house = Arc::new(House {
            issuer: origin(addr),
            options,
            keys: Keys::new(),
            jwks_fetches: AtomicU64::new(0),
        });
        let router = router(Arc::clone(&house));
        let serving = OwnedTask::spawn(bowline_server::serve(
            listener,
            router,
            ServeOptions::default(),
            std::future::pending(),
        ));
        Self {
            house,
            addr,
            ca_pem: pki.ca_pem(),
            _serving: serving,
        }
    }

    /// Where it listens, on 127.0.0.1.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The issuer identifier, `https://localhost:<port>`: `iss` of its tokens.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.house.issuer
    }

    /// The token endpoint.
    #[must_use]
    pub fn token_url(&self) -> String {
        self.house.url(TOKEN)
    }

    /// Where the key set is (RFC 7517 §5).
    #[must_use]
    pub fn jwks_url(&self) -> String {
        self.house.url(JWKS)
    }

    /// Where the metadata is (RFC 8414 §3).
    #[must_use]
    pub fn metadata_url(&self) -> String {
        self.house.url(METADATA)
    }

    /// The CA certificate of its TLS server, PEM.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The key set, as [`Authority::jwks_url`] serves it.
    #[must_use]
    pub fn jwks(&self) -> Value {
        self.house.keys.jwks()
    }

    /// How often the key set has been fetched over the network.
    #[must_use]
    pub fn jwks_fetches(&self) -> u64 {
        self.house.jwks_fetches.load(Ordering::Relaxed)
    }

    /// Signs with a new key from now on. The old ones stay in the key set.
    ///
    /// # Panics
    /// If no key can be generated.
    pub fn rotate_key(&self) {
        self.house.keys.rotate();
    }

    /// Issues a token without asking anybody for anything: no TLS, no client authentication.
    ///
    /// # Panics
    /// If the token's times cannot be written down.
    #[must_use]
    pub fn issue(&self, request: &TokenRequest) -> String {
        self.house.issue(request)
    }
}

const TOKEN: &str = "/token";
const JWKS: &str = "/jwks";
const METADATA: &str = "/.well-known/oauth-authorization-server";

/// A token request is a few short parameters.
const MAX_REQUEST_OCTETS: usize = 16 * 1024;

fn router(house: Arc<House>) -> Router {
    Router::new()
        .route(TOKEN, post(endpoint::token))
        .route(JWKS, get(jwks))
        .route(METADATA, get(metadata))
        .layer(DefaultBodyLimit::max(MAX_REQUEST_OCTETS))
        .with_state(house)
}

async fn jwks(State(house): State<Arc<House>>) -> Json<Value> {
    house.jwks_fetches.fetch_add(1, Ordering::Relaxed);
    Json(house.keys.jwks())
}

async fn metadata(State(house): State<Arc<House>>) -> Json<Value> {
    let token = house.url(TOKEN);
    Json(json!({
        "issuer": house.issuer,
        "token_endpoint": token,
        "jwks_uri": house.url(JWKS),
        // Required by RFC 8414 §2; there is no authorization endpoint.
        "response_types_supported": [],
        "grant_types_supported": ["client_credentials"],
        "token_endpoint_auth_methods_supported": ["tls_client_auth"],
        "tls_client_certificate_bound_access_tokens": true,
        // TK-3 names a member of the client's registration; here it tells that the server can.
        "tls_session_bound_access_tokens": true,
        "mtls_endpoint_aliases": { "token_endpoint": token },
    }))
}

/// What the endpoints share.
#[derive(Debug)]
struct House {
    issuer: String,
    options: AuthorityOptions,
    keys: Keys,
    jwks_fetches: AtomicU64,
}

impl House {
    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.issuer)
    }

    fn issue(&self, request: &TokenRequest) -> String {
        let claims = request.claims(&self.issuer, &self.options);
        self.keys.sign(&claims, request.is_forged)
    }
}
