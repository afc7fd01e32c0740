//! Access tokens: kept in memory once, hashed once, never shown.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use bytes::Bytes;
use http::HeaderValue;
use zeroize::Zeroizing;

use crate::{
    Confirmation, ConfirmationError, Demand,
    encoding::{base64url, bytes32, from_base64url, sha256},
};

/// Longer than any header section that a server accepts; far longer than any sensible token.
const MAX_TOKEN_BYTES: usize = 64 * 1024;

/// An OAuth access token, JWT or opaque.
///
/// Clones are cheap and share one copy. That copy and those inside
/// [`authorization`](Self::authorization) are cleared when the last clone is dropped; the buffers
/// that an HTTP stack writes them to are not. `Debug` shows nothing of it. Two tokens are equal
/// when their hashes are, compared in constant time.
#[derive(Clone)]
pub struct AccessToken {
    inner: Arc<Inner>,
    scheme: Scheme,
}

struct Inner {
    secret: Zeroizing<String>,
    hash: TokenHash,
    bearer: HeaderValue,
    /// Most tokens never need it.
    dpop: OnceLock<HeaderValue>,
    /// `None` within: the token is opaque.
    confirmation: OnceLock<Option<Result<Confirmation, ConfirmationError>>>,
}

/// What an opaque token says about itself: nothing.
static OPAQUE: Result<Confirmation, ConfirmationError> = Ok(Confirmation {
    x5t_s256: None,
    tls_exp: None,
    jkt: None,
    unknown_method: false,
});

impl AccessToken {
    /// A token as the authorization server issued it, to be sent with the scheme `Bearer`.
    ///
    /// # Errors
    /// It is not of RFC 6750 §2.1's `b64token` form, is empty, or is longer than 64 KiB.
    pub fn new(token: impl Into<String>) -> Result<Self, InvalidAccessToken> {
        let secret = Zeroizing::new(token.into());
        if secret.len() > MAX_TOKEN_BYTES {
            return Err(InvalidAccessToken::TooLong);
        }
        if !is_b64token(&secret) {
            return Err(InvalidAccessToken::Malformed);
        }
        Ok(Self {
            inner: Arc::new(Inner {
                hash: TokenHash::new(&secret),
                bearer: field(Scheme::Bearer, &secret),
                secret,
                dpop: OnceLock::new(),
                confirmation: OnceLock::new(),
            }),
            scheme: Scheme::Bearer,
        })
    }

    /// Reads the token from an `Authorization` field (TK-0).
    ///
    /// # Errors
    /// [`OtherScheme`](InvalidAccessToken::OtherScheme) when the scheme is not `Bearer` (in any
    /// case), and as [`new`](Self::new).
    pub fn from_authorization(value: &HeaderValue) -> Result<Self, InvalidAccessToken> {
        Self::from_field(value, &[Scheme::Bearer])
    }

    /// Reads the token from an `Authorization` field with the scheme `Bearer` or `DPoP` (RFC 9449
    /// §7.1); [`scheme`](Self::scheme) tells which it was.
    ///
    /// # Errors
    /// As [`from_authorization`](Self::from_authorization).
    pub fn from_credentials(value: &HeaderValue) -> Result<Self, InvalidAccessToken> {
        Self::from_field(value, &[Scheme::Bearer, Scheme::Dpop])
    }

    /// The same token, to be sent with this scheme: `DPoP` if that was the `token_type` with which
    /// it was issued (RFC 9449 §5). Not needed for a token whose `cnf` has `jkt`.
    pub fn with_scheme(mut self, scheme: Scheme) -> Self {
        self.scheme = scheme;
        self
    }

    /// The scheme with which it came, or is to be sent.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The token itself. Do not log it.
    pub fn secret(&self) -> &str {
        &self.inner.secret
    }

    /// The hash that names the token in proofs (`ath`, PR-5), computed once.
    pub fn hash(&self) -> &TokenHash {
        &self.inner.hash
    }

    /// The `Authorization` field with the token's own [`scheme`](Self::scheme): see
    /// [`authorization_as`](Self::authorization_as).
    pub fn authorization(&self) -> &HeaderValue {
        self.authorization_as(self.scheme)
    }

    /// `Bearer <token>` or `DPoP <token>`, prepared once and marked sensitive, so that it is never
    /// indexed by HPACK.
    pub fn authorization_as(&self, scheme: Scheme) -> &HeaderValue {
        match scheme {
            Scheme::Bearer => &self.inner.bearer,
            Scheme::Dpop => self.inner.dpop.get_or_init(|| field(scheme, self.secret())),
        }
    }

    /// The token's `cnf`, read once from the JWT's payload, whose signature is *not* verified.
    ///
    /// That is enough for a client, which only wants to know what its own token demands. An opaque
    /// token has an empty confirmation.
    ///
    /// # Errors
    /// The payload has a malformed `cnf`.
    pub fn confirmation(&self) -> Result<&Confirmation, &ConfirmationError> {
        self.jwt().unwrap_or(&OPAQUE).as_ref()
    }

    /// The same for a JWT (a signed one, whose payload is a JSON object); `None` for a token that
    /// is opaque to all but its issuer.
    pub fn jwt_confirmation(&self) -> Option<Result<&Confirmation, &ConfirmationError>> {
        self.jwt().map(Result::as_ref)
    }

    /// When the token expires, by the `exp` of a JWT whose signature is *not* verified; `None` if it
    /// does not say. An `exp` that cannot be read is taken for one that has passed. Read anew with
    /// each call.
    pub fn expires_at(&self) -> Option<SystemTime> {
        #[derive(serde::Deserialize)]
        struct Claims {
            exp: Option<serde_json::Value>,
        }
        let claims: Claims = serde_json::from_slice(&payload(self.secret())?).ok()?;
        let exp = crate::seconds(&claims.exp?).unwrap_or(0);
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(exp))
    }

    fn jwt(&self) -> Option<&Result<Confirmation, ConfirmationError>> {
        let confirmation = &self.inner.confirmation;
        confirmation
            .get_or_init(|| unverified_confirmation(self.secret()))
            .as_ref()
    }

    /// Which proof the token demands, as far as the client can tell: by its
    /// [`confirmation`](Self::confirmation), or else by its [`scheme`](Self::scheme).
    ///
    /// # Errors
    /// As [`Confirmation::from_claims`] and [`Confirmation::demand`]; and
    /// [`OtherScheme`](ConfirmationError::OtherScheme) when its `cnf` and its scheme contradict
    /// each other.
    pub fn demand(&self) -> Result<Demand, ConfirmationError> {
        let shown = self.confirmation().map_err(|error| *error)?.demand()?;
        match (shown, self.scheme) {
            (Demand::None, Scheme::Dpop) => Ok(Demand::Dpop),
            (Demand::Session, Scheme::Dpop) => Err(ConfirmationError::OtherScheme),
            (demand, _) => Ok(demand),
        }
    }

    fn from_field(value: &HeaderValue, accepted: &[Scheme]) -> Result<Self, InvalidAccessToken> {
        let field = value.as_bytes();
        let end = field.iter().position(|&b| b == b' ').unwrap_or(field.len());
        let (scheme, credentials) = field.split_at(end);
        let scheme = accepted
            .iter()
            .find(|accepted| scheme.eq_ignore_ascii_case(accepted.name().as_bytes()))
            .ok_or(InvalidAccessToken::OtherScheme)?;
        let credentials = credentials.trim_ascii_start();
        let token = str::from_utf8(credentials).map_err(|_| InvalidAccessToken::Malformed)?;
        Ok(Self::new(token)?.with_scheme(*scheme))
    }
}

/// The `Authorization` scheme of an access token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scheme {
    /// RFC 6750; also for session-bound tokens (TK-0).
    Bearer,
    /// RFC 9449 §7.1.
    Dpop,
}

impl Scheme {
    /// The scheme as it is written; it is read in any case (RFC 9110 §11.1).
    pub fn name(self) -> &'static str {
        match self {
            Self::Bearer => "Bearer",
            Self::Dpop => "DPoP",
        }
    }
}

/// `secret` is a `b64token`.
fn field(scheme: Scheme, secret: &str) -> HeaderValue {
    let field = Zeroizing::new([scheme.name(), " ", secret].concat().into_bytes());
    let mut value =
        HeaderValue::from_maybe_shared(Bytes::from_owner(field)).expect("printable ASCII");
    value.set_sensitive(true);
    value
}

impl PartialEq for AccessToken {
    fn eq(&self, other: &Self) -> bool {
        self.hash().matches(other.hash())
    }
}

impl Eq for AccessToken {}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessToken(redacted)")
    }
}

/// `b64token` of RFC 6750 §2.1.
fn is_b64token(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    !body.is_empty()
        && body
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b))
}

/// The payload of a token that has the form of a signed JWT.
fn payload(token: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut parts = token.split('.');
    let (Some(_), Some(payload), Some(_), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    Some(Zeroizing::new(from_base64url(payload)?))
}

fn unverified_confirmation(token: &str) -> Option<Result<Confirmation, ConfirmationError>> {
    Confirmation::from_object(&payload(token)?)
}

/// Text that is not an access token in `Authorization`. It carries nothing of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidAccessToken {
    /// The scheme is not one that this call accepts: `Bearer`, perhaps `DPoP` (TK-0).
    #[error("the Authorization scheme is not one that is accepted here for an access token")]
    OtherScheme,
    /// Empty, or not of the `b64token` form.
    #[error("the access token is empty or has characters outside RFC 6750's b64token")]
    Malformed,
    /// Longer than 64 KiB.
    #[error("the access token is longer than {MAX_TOKEN_BYTES} bytes")]
    TooLong,
}

/// SHA-256 over the ASCII of an access token: the `ath` claim (PR-5), and a name for the token in
/// tables.
///
/// `Debug` shows nothing of it, so that a token cannot be recognised in a log.
#[derive(Clone, Copy)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    fn new(token: &str) -> Self {
        Self(sha256(token.as_bytes()))
    }

    /// The 32 bytes of the hash.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether both are the same, in constant time (RS-7).
    pub fn matches(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }

    /// Reads the `ath` claim (PR-5).
    pub(crate) fn from_claim(text: &str) -> Option<Self> {
        bytes32(text).map(|bytes| Self(*bytes))
    }

    /// Writes the `ath` claim (PR-5).
    pub(crate) fn to_claim(self) -> String {
        base64url(&self.0)
    }
}

// Equality is written by hand, and therefore `Hash` too, so that every comparison takes constant
// time.
impl PartialEq for TokenHash {
    fn eq(&self, other: &Self) -> bool {
        self.matches(other)
    }
}

impl Eq for TokenHash {}

impl Hash for TokenHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(redacted)")
    }
}
