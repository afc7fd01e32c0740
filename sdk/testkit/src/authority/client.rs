//! Client registrations: how a client authenticates, and what tokens it gets.

use std::sync::{PoisonError, RwLock};

use jsonwebtoken::jwk::JwkSet;
use rustls_pki_types::CertificateDer;

use super::{TokenBinding, TokenFormat};
use crate::pki::Leaf;

/// A client's registration (RFC 7591 §2). Most are `Client { binding, ..Client::new("agent") }`.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its `client_id`.
    pub id: String,
    /// How it authenticates (`token_endpoint_auth_method`).
    pub authentication: ClientAuthentication,
    /// How its tokens are bound. [`TokenBinding::Session`] is `tls_session_bound_access_tokens`
    /// (TK-3), and [`TokenBinding::Certificate`] is `tls_client_certificate_bound_access_tokens`
    /// (RFC 8705 §3.4).
    pub binding: TokenBinding,
    /// Its resource identifiers (RFC 8707 §2) as a resource server: a token with one of them in
    /// `aud` is addressed to it, so it may exchange it (AS-2).
    pub resources: Vec<String>,
    /// The form of its tokens; `None` leaves it to
    /// [`AuthorityOptions::format`](super::AuthorityOptions::format).
    pub format: Option<TokenFormat>,
}

impl Client {
    /// A client that authenticates by a certificate with its id as common name, and gets
    /// session-bound tokens.
    #[must_use]
    pub fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            authentication: ClientAuthentication::Tls {
                subject: id.to_owned(),
            },
            binding: TokenBinding::Session,
            resources: Vec::new(),
            format: None,
        }
    }

    /// Whether a token with this `aud`, one or several, is addressed to it.
    pub(super) fn is_addressed_by(&self, audience: &serde_json::Value) -> bool {
        let names = |one: &serde_json::Value| {
            one.as_str()
                .is_some_and(|aud| self.resources.iter().any(|r| r == aud))
        };
        match audience {
            serde_json::Value::Array(several) => several.iter().any(names),
            one => names(one),
        }
    }
}

/// How a client authenticates, at any endpoint.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ClientAuthentication {
    /// `tls_client_auth` (RFC 8705 §2.1): a certificate of the authority's PKI.
    Tls {
        /// The subject common name that it must have (instead of the whole
        /// `tls_client_auth_subject_dn`).
        subject: String,
    },
    /// `self_signed_tls_client_auth` (RFC 8705 §2.2): exactly one of these certificates; who has
    /// signed it is not checked.
    SelfSignedTls {
        /// The registered certificates.
        certificates: Vec<CertificateDer<'static>>,
    },
    /// `private_key_jwt` (RFC 7523 §2.2): a JWT signed with one of these keys.
    PrivateKeyJwt {
        /// The registered public keys. A key has a `kid`, or is tried on every assertion.
        keys: JwkSet,
    },
}

impl ClientAuthentication {
    /// By the certificate of `leaf`, which need not be self-signed.
    #[must_use]
    pub fn self_signed_tls(leaf: &Leaf) -> Self {
        Self::SelfSignedTls {
            certificates: leaf.chain(),
        }
    }

    /// By assertions that the key of `leaf` signs, with the `kid` of [`Leaf::jwk`].
    ///
    /// # Panics
    /// Never in practice: a JWK is a JWK.
    #[must_use]
    pub fn private_key_jwt(leaf: &Leaf) -> Self {
        let keys = serde_json::json!({ "keys": [leaf.jwk()] });
        Self::PrivateKeyJwt {
            keys: serde_json::from_value(keys).expect("a set of one JWK"),
        }
    }

    /// Its name in metadata (RFC 7591 §2, RFC 8705 §2).
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Tls { .. } => "tls_client_auth",
            Self::SelfSignedTls { .. } => "self_signed_tls_client_auth",
            Self::PrivateKeyJwt { .. } => "private_key_jwt",
        }
    }

    /// The names of all methods.
    pub(super) const NAMES: [&'static str; 3] = [
        "tls_client_auth",
        "self_signed_tls_client_auth",
        "private_key_jwt",
    ];
}

/// All registrations. The handshake reads them too: see [`super::tls`].
#[derive(Debug, Default)]
pub(super) struct Registry(RwLock<Vec<Client>>);

impl Registry {
    pub(super) fn new(clients: Vec<Client>) -> Self {
        Self(RwLock::new(clients))
    }

    /// A second registration under an id replaces the first.
    pub(super) fn insert(&self, client: Client) {
        let mut clients = self.0.write().unwrap_or_else(PoisonError::into_inner);
        clients.retain(|known| known.id != client.id);
        clients.push(client);
    }

    pub(super) fn find(&self, id: &str) -> Option<Client> {
        let clients = self.0.read().unwrap_or_else(PoisonError::into_inner);
        clients.iter().find(|client| client.id == id).cloned()
    }

    /// Whether some client has registered this certificate as its self-signed one.
    pub(super) fn knows_certificate(&self, certificate: &CertificateDer<'_>) -> bool {
        let clients = self.0.read().unwrap_or_else(PoisonError::into_inner);
        clients.iter().any(|client| match &client.authentication {
            ClientAuthentication::SelfSignedTls { certificates } => {
                certificates.contains(certificate)
            }
            _ => false,
        })
    }
}
