//! The claims of a token (RFC 9068) and its binding (TK-1).

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bowline_proof::dpop::JwkThumbprint;
use bowline_proof::{EXPORTER_LABEL, Thumbprint};
use serde_json::{Value, json};

/// How an access token looks to a server that does not ask the authority about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TokenFormat {
    /// A signed JWT (RFC 9068).
    #[default]
    Jwt,
    /// Random bytes; only introspection (RFC 7662) returns its claims.
    Opaque,
}

/// To what a token is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenBinding {
    /// To nothing: any holder can use it.
    Bearer,
    /// To the client's certificate: `cnf.x5t#S256` (RFC 8705 §3.1).
    Certificate,
    /// To the TLS session it travels on: `cnf.x5t#S256` and `cnf.tls_exp` (TK-1).
    Session,
}

impl TokenBinding {
    /// The `cnf` claim of a token for the client with this certificate (RFC 7800).
    #[must_use]
    pub fn confirmation(self, certificate: Thumbprint) -> Option<Value> {
        match self {
            Self::Bearer => None,
            Self::Certificate => Some(json!({ "x5t#S256": certificate.to_string() })),
            Self::Session => Some(json!({
                "x5t#S256": certificate.to_string(),
                "tls_exp": EXPORTER_LABEL,
            })),
        }
    }
}

/// The claims and form of an access token to issue: see
/// [`Authority::issue`](super::Authority::issue). It can also describe one that an honest authority
/// would not issue.
#[derive(Clone, Debug)]
pub struct TokenRequest {
    client_id: String,
    subject: Option<String>,
    actor: Option<Value>,
    confirmation: Option<Value>,
    /// None, one or several.
    audiences: Vec<String>,
    scope: Option<String>,
    issued_at: Option<SystemTime>,
    lifetime: Option<Duration>,
    /// In seconds since 1970; limits the lifetime.
    not_after: Option<u64>,
    pub(super) format: Option<TokenFormat>,
    pub(super) is_forged: bool,
}

impl TokenRequest {
    /// A plain bearer token.
    #[must_use]
    pub fn bearer(client_id: &str) -> Self {
        Self::new(client_id, None)
    }

    /// A token bound to a certificate (RFC 8705).
    #[must_use]
    pub fn certificate_bound(client_id: &str, certificate: Thumbprint) -> Self {
        Self::new(
            client_id,
            TokenBinding::Certificate.confirmation(certificate),
        )
    }

    /// A session-bound token (TK-1).
    #[must_use]
    pub fn session_bound(client_id: &str, certificate: Thumbprint) -> Self {
        Self::new(client_id, TokenBinding::Session.confirmation(certificate))
    }

    /// Sets `cnf` to any value, well-formed or not.
    #[must_use]
    pub fn cnf(mut self, confirmation: Value) -> Self {
        self.confirmation = Some(confirmation);
        self
    }

    /// Adds an audience; the first one replaces the authority's default.
    #[must_use]
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audiences.push(audience.into());
        self
    }

    /// Gives the token a subject other than the client.
    #[must_use]
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// Asks for a JWT or an opaque token instead of the authority's default.
    #[must_use]
    pub fn format(mut self, format: TokenFormat) -> Self {
        self.format = Some(format);
        self
    }

    /// Gives the token a scope (space-separated).
    #[must_use]
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = Some(scope.into());
        self
    }

    /// Sets how long after its issue the token expires, instead of the authority's default.
    #[must_use]
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
        self
    }

    /// Sets the time of issue (`iat`), and with it the expiry.
    #[must_use]
    pub fn issued_at(mut self, issued_at: SystemTime) -> Self {
        self.issued_at = Some(issued_at);
        self
    }

    /// A token that expired an hour ago.
    #[must_use]
    pub fn expired(self) -> Self {
        self.issued_at(SystemTime::now() - Duration::from_secs(2 * 3600))
            .lifetime(Duration::from_secs(3600))
    }

    /// Has the token signed by a key that is not in the key set, under the `kid` of one that is.
    #[must_use]
    pub fn forged(mut self) -> Self {
        self.is_forged = true;
        self
    }

    pub(super) fn new(client_id: &str, confirmation: Option<Value>) -> Self {
        Self {
            client_id: client_id.to_owned(),
            subject: None,
            actor: None,
            confirmation,
            audiences: Vec::new(),
            scope: None,
            issued_at: None,
            lifetime: None,
            not_after: None,
            format: None,
            is_forged: false,
        }
    }

    /// Who acts for the subject (RFC 8693 §4.1).
    pub(super) fn actor(mut self, actor: Option<Value>) -> Self {
        self.actor = actor;
        self
    }

    /// Has the token expire no later than this, in seconds since 1970.
    pub(super) fn not_after(mut self, expiry: u64) -> Self {
        self.not_after = Some(expiry);
        self
    }

    /// The claims of RFC 9068 §2.2, for an authority with these defaults.
    pub(super) fn claims(&self, issuer: &str, audience: &str, lifetime: Duration) -> Value {
        let issued_at = seconds(self.issued_at.unwrap_or_else(SystemTime::now));
        let expiry = issued_at + self.lifetime.unwrap_or(lifetime).as_secs();
        let mut claims = json!({
            "iss": issuer,
            // With client_credentials the client is its own subject (RFC 9068 §2.2).
            "sub": self.subject.as_ref().unwrap_or(&self.client_id),
            "client_id": self.client_id,
            "aud": match &self.audiences[..] {
                [] => json!(audience),
                [one] => json!(one),
                several => json!(several),
            },
            "iat": issued_at,
            "exp": self.not_after.map_or(expiry, |not_after| expiry.min(not_after)),
            "jti": unique(),
        });
        if let Some(actor) = &self.actor {
            claims["act"] = actor.clone();
        }
        if let Some(scope) = &self.scope {
            claims["scope"] = json!(scope);
        }
        if let Some(confirmation) = &self.confirmation {
            claims["cnf"] = confirmation.clone();
        }
        claims
    }
}

/// `cnf`: the key of the request's DPoP proof, or else the certificate that authenticated its
/// connection (AS-1). Without either there is nothing to bind to.
pub(super) fn confirmation(
    proof_key: Option<&JwkThumbprint>,
    certificate: Option<Thumbprint>,
    binding: TokenBinding,
) -> Option<Value> {
    match (proof_key, certificate) {
        (Some(key), _) => Some(json!({ "jkt": key.to_string() })),
        (None, Some(certificate)) => binding.confirmation(certificate),
        (None, None) => None,
    }
}

/// RFC 9449 §5: a token that is bound to a DPoP key has a type of its own.
pub(super) fn token_type(claims: &Value) -> &'static str {
    match claims["cnf"].get("jkt") {
        Some(_) => "DPoP",
        None => "Bearer",
    }
}

pub(super) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .expect("a token is not issued before 1970")
        .as_secs()
}

/// 128 random bits.
pub(super) fn unique() -> String {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system has randomness");
    URL_SAFE_NO_PAD.encode(bytes)
}
