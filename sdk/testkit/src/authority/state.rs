//! State that the endpoints share: keys, registrations, and what is known about issued tokens.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bowline_proof::dpop::Nonce;
use rustls::server::danger::ClientCertVerifier;
use serde_json::Value;

use super::client::Registry;
use super::counters::Counters;
use super::fault::FaultControl;
use super::keys::Keys;
use super::refresh::{Granted, NotAccepted, RefreshRecords, RefreshTokens};
use super::token::{TokenFormat, TokenRequest, seconds, unique};
use super::{AuthorityOptions, Client};

pub(super) struct ServerState {
    /// The plain port's origin.
    pub(super) issuer: String,
    /// The mutual-TLS port's origin.
    pub(super) mtls_origin: String,
    pub(super) options: AuthorityOptions,
    pub(super) keys: Keys,
    pub(super) registry: Arc<Registry>,
    /// Accepts the certificates of the PKI.
    pub(super) authorities: Arc<dyn ClientCertVerifier>,
    pub(super) faults: Arc<FaultControl>,
    pub(super) counters: Arc<Counters>,
    lifetime: Mutex<Duration>,
    refresh_tokens: Mutex<RefreshTokens>,
    records: Mutex<Records>,
}

/// Kept as long as the server runs, which is as long as a test.
struct Records {
    /// The claims of opaque tokens, by token.
    opaque: HashMap<String, Value>,
    /// The `jti` of revoked tokens.
    revoked: HashSet<String>,
    /// The signer and `jti` of each DPoP proof and client assertion.
    used: HashSet<(String, String)>,
    refresh: RefreshRecords,
    /// The newest, and the one before it.
    nonces: [Nonce; 2],
}

impl ServerState {
    pub(super) fn new(
        origins: [String; 2],
        options: AuthorityOptions,
        registry: Arc<Registry>,
        authorities: Arc<dyn ClientCertVerifier>,
    ) -> Self {
        let [issuer, mtls_origin] = origins;
        Self {
            issuer,
            mtls_origin,
            keys: Keys::new(),
            registry,
            authorities,
            faults: Arc::new(FaultControl::new()),
            counters: Arc::default(),
            lifetime: Mutex::new(options.lifetime),
            refresh_tokens: Mutex::default(),
            records: Mutex::new(Records {
                opaque: HashMap::new(),
                revoked: HashSet::new(),
                used: HashSet::new(),
                refresh: RefreshRecords::default(),
                nonces: [nonce(), nonce()],
            }),
            options,
        }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.issuer)
    }

    pub(super) fn mtls_url(&self, path: &str) -> String {
        format!("{}{path}", self.mtls_origin)
    }

    pub(super) fn set_lifetime(&self, lifetime: Duration) {
        *lock(&self.lifetime) = lifetime;
    }

    pub(super) fn set_refresh_tokens(&self, rule: RefreshTokens) {
        *lock(&self.refresh_tokens) = rule;
    }

    pub(super) fn issue_refresh_token(&self, client_id: &str, subject: &str) -> String {
        self.records().refresh.issue(client_id, subject)
    }

    pub(super) fn use_refresh_token(
        &self,
        token: &str,
        client_id: &str,
    ) -> Result<Granted, NotAccepted> {
        let rule = *lock(&self.refresh_tokens);
        self.records().refresh.take(token, client_id, rule)
    }

    pub(super) fn is_live_refresh_token(&self, token: &str) -> bool {
        let rule = *lock(&self.refresh_tokens);
        self.records().refresh.is_live(token, rule)
    }

    pub(super) fn revoke_refresh_token(&self, token: &str) {
        self.records().refresh.revoke(token);
    }

    /// The client's registration. A client without one is identified by its certificate.
    pub(super) fn client(&self, id: &str) -> Client {
        self.registry.find(id).unwrap_or_else(|| Client {
            binding: self.options.binding,
            ..Client::new(id)
        })
    }

    /// Makes a token, and returns it with its claims.
    pub(super) fn issue(&self, request: &TokenRequest) -> (String, Value) {
        let lifetime = *lock(&self.lifetime);
        let claims = request.claims(&self.issuer, &self.options.audience, lifetime);
        let token = match request.format.unwrap_or(self.options.format) {
            TokenFormat::Jwt => self.keys.sign(&claims, request.is_forged),
            TokenFormat::Opaque => {
                let token = unique();
                // A forged token looks like any other, but is not on record.
                if !request.is_forged {
                    self.records().opaque.insert(token.clone(), claims.clone());
                }
                token
            }
        };
        crate::secrets::record("token", token.as_bytes());
        (token, claims)
    }

    /// The claims of a token that was issued here and is still valid.
    pub(super) fn validate(&self, token: &str) -> Result<Value, Unusable> {
        let opaque = self.records().opaque.get(token).cloned();
        let claims = opaque
            .or_else(|| self.keys.verify(token, &self.issuer))
            .ok_or(Unusable::Unknown)?;
        let is_revoked = claims["jti"]
            .as_str()
            .is_some_and(|jti| self.records().revoked.contains(jti));
        if is_revoked {
            return Err(Unusable::Revoked);
        }
        match claims["exp"].as_u64() {
            Some(expiry) if seconds(SystemTime::now()) < expiry => Ok(claims),
            _ => Err(Unusable::Expired),
        }
    }

    pub(super) fn revoke(&self, token: &str) -> bool {
        match self.validate(token) {
            Ok(claims) => {
                let jti = claims["jti"].as_str().unwrap_or_default().to_owned();
                self.records().revoked.insert(jti)
            }
            Err(_) => false,
        }
    }

    /// Records that `signer` has used this `jti`; false if it already had.
    pub(super) fn use_up(&self, signer: &str, jti: &str) -> bool {
        self.records()
            .used
            .insert((signer.to_owned(), jti.to_owned()))
    }

    /// The nonces that DPoP proofs may have, the newest first; `None` if none is required.
    pub(super) fn nonces(&self) -> Option<[Nonce; 2]> {
        self.options
            .dpop_nonces
            .then(|| self.records().nonces.clone())
    }

    pub(super) fn rotate_nonce(&self) {
        let mut records = self.records();
        let [newest, _] = records.nonces.clone();
        records.nonces = [nonce(), newest];
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        lock(&self.records)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Shows no key and no token.
impl fmt::Debug for ServerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerState")
            .field("issuer", &self.issuer)
            .field("mtls_origin", &self.mtls_origin)
            .field("options", &self.options)
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    Unknown,
    Expired,
    Revoked,
}

fn nonce() -> Nonce {
    Nonce::new(&unique()).expect("base64url is made of NQCHARs")
}
