//! Access tokens that are JWTs, validated with the authorization server's public keys (RS-2, RFC
//! 9068).

mod keyring;
mod keys;
mod source;

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use bowline_proof::AccessToken;

use self::keyring::{Keyring, RefreshTimes};
pub(crate) use self::keys::SignedJwt;
use self::keys::{KeySet, Signature};
pub use self::source::{Jwks, JwksError, JwksUrl};
use crate::{Clock, ExpectedClaims, TokenError, TokenValidator, ValidToken};

/// Validates JWT access tokens: signature by a key of the JWKS, with an asymmetric algorithm that
/// fits the key; `typ`, `iss`, `aud`, `exp`, and `nbf` where present.
///
/// The keys are fetched when the first token arrives, and again in the background as they age. A
/// token with an unknown `kid` causes a fetch at once, one at a time and no more often than the
/// retry interval. If a fetch fails, the last good set stays in use for a day. Without a set, and
/// for a token whose key is unknown while the set cannot be fetched, tokens are neither valid nor
/// invalid ([`TokenErrorKind::Unavailable`](crate::TokenErrorKind::Unavailable)).
///
/// A token without `kid` is tried with the first eight keys that fit its algorithm.
///
/// Valid tokens are cached by their hash, within a bound, until the key set changes; their expiry
/// is checked every time.
#[derive(Clone)]
pub struct JwtValidator {
    keyring: Arc<Keyring>,
    expected: Arc<ExpectedClaims>,
    any_jwt: bool,
    clock: Clock,
}

impl JwtValidator {
    /// Starts a validator for tokens with these claims, signed by keys of `jwks`.
    ///
    /// # Panics
    /// `expected` has no issuer: RFC 9068 section 4 demands that `iss` is checked.
    pub fn builder(expected: ExpectedClaims, jwks: impl Into<Jwks>) -> JwtValidatorBuilder {
        assert!(
            expected.has_issuer(),
            "a JwtValidator needs the issuer whose tokens it accepts: ExpectedClaims::issuer"
        );
        let jwks = jwks.into();
        JwtValidatorBuilder {
            expected,
            any_jwt: false,
            times: RefreshTimes {
                refresh: jwks.default_refresh_interval(),
                retry: Duration::from_secs(10),
                max_stale: Duration::from_secs(24 * 60 * 60),
            },
            cached_tokens: NonZeroUsize::new(4096).expect("4096 is not 0"),
            clock: Clock::default(),
            jwks,
        }
    }

    /// Verifies the signature alone, for tools that explain a token. No claim is checked: a token
    /// whose signature holds need not be valid.
    ///
    /// # Errors
    /// The token is not a JWT, no key of the set verifies it, or the set cannot be had.
    pub async fn verify_signature(&self, token: &AccessToken) -> Result<(), TokenError> {
        let jwt = SignedJwt::parse(token.secret())?;
        let keys = self.keyring.keys().await?;
        self.verify(&jwt, keys).await.map(drop)
    }

    /// Compares the media type without regard to case and with `application/` optional (RFC 7515
    /// section 4.1.9).
    fn check_type(&self, typ: Option<&str>) -> Result<(), TokenError> {
        let short = typ.map(|typ| {
            let typ = typ.to_ascii_lowercase();
            typ.strip_prefix("application/")
                .map_or(typ.clone(), str::to_owned)
        });
        match short.as_deref() {
            Some("at+jwt") => Ok(()),
            Some("jwt") | None if self.any_jwt => Ok(()),
            _ => Err(TokenError::invalid(
                "the typ of the access token is not at+jwt",
            )),
        }
    }

    /// The full validation of a token that is not cached.
    async fn validate_anew(
        &self,
        token: &AccessToken,
        keys: Arc<KeySet>,
    ) -> Result<ValidToken, TokenError> {
        let jwt = SignedJwt::parse(token.secret())?;
        self.check_type(jwt.typ())?;
        let keys = self.verify(&jwt, keys).await?;
        let claims = jwt.claims()?;
        self.expected.check(&claims, self.clock.now())?;
        let confirmation = token.confirmation().cloned().map_err(|error| *error);
        let valid = ValidToken::with_confirmation(claims, confirmation);
        keys.cache(*token.hash(), valid.clone());
        Ok(valid)
    }

    /// Verifies the signature with these keys or newer ones; returns those with the right one.
    async fn verify(
        &self,
        jwt: &SignedJwt<'_>,
        mut keys: Arc<KeySet>,
    ) -> Result<Arc<KeySet>, TokenError> {
        let mut signature = keys.verify(jwt);
        if signature == Signature::UnknownKey {
            // Such a token costs nothing to make up, and it is not worth a wait.
            if !jwt.has_kid() && self.keyring.is_fetching() {
                return Err(TokenError::unavailable(
                    "the key set is being fetched",
                    Duration::from_secs(1),
                ));
            }
            if let Some(newer) = self.keyring.newer_than(&keys).await? {
                keys = newer;
                signature = keys.verify(jwt);
            }
        }
        match signature {
            Signature::Good => Ok(keys),
            Signature::Bad => Err(TokenError::invalid(
                "the signature of the access token is not valid",
            )),
            Signature::UnknownKey => Err(TokenError::invalid(
                "the access token is signed by a key that is not in the key set",
            )),
        }
    }
}

impl TokenValidator for JwtValidator {
    async fn validate(&self, token: &AccessToken) -> Result<ValidToken, TokenError> {
        let keys = self.keyring.keys().await?;
        match keys.cached(token.hash()) {
            Some(valid) => {
                self.expected
                    .check_times(valid.claims(), self.clock.now())?;
                Ok(valid)
            }
            None => self.validate_anew(token, keys).await,
        }
    }
}

impl fmt::Debug for JwtValidator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtValidator")
            .field("expected", &self.expected)
            .finish_non_exhaustive()
    }
}

/// See [`JwtValidator::builder`].
#[derive(Debug)]
#[must_use = "a builder does nothing until `build`"]
pub struct JwtValidatorBuilder {
    expected: ExpectedClaims,
    any_jwt: bool,
    jwks: Jwks,
    times: RefreshTimes,
    cached_tokens: NonZeroUsize,
    clock: Clock,
}

impl JwtValidatorBuilder {
    /// Whether tokens of type `JWT`, or without a type, pass as well. Default: no; RFC 9068 section
    /// 4 demands `at+jwt`, so that no ID token passes as an access token.
    pub fn accept_any_jwt(mut self, accepted: bool) -> Self {
        self.any_jwt = accepted;
        self
    }

    /// How old the key set may become before it is fetched again. Default: 5 minutes for a URL, 5 s
    /// for a file.
    pub fn refresh_interval(mut self, interval: Duration) -> Self {
        self.times.refresh = interval;
        self
    }

    /// How long after a fetch, successful or not, a token with an unknown key, or the first token,
    /// may cause another. Default: 10 s.
    pub fn retry_interval(mut self, interval: Duration) -> Self {
        self.times.retry = interval;
        self
    }

    /// For how long a set stays in use that cannot be fetched again. Default: 24 hours. Then tokens
    /// are neither valid nor invalid: an attacker who can keep this server from fetching the set
    /// would otherwise keep a withdrawn key in use. It does not apply to a fixed document.
    pub fn max_stale(mut self, time: Duration) -> Self {
        self.times.max_stale = time;
        self
    }

    /// How many valid tokens to cache. Default: 4,096.
    pub fn cached_tokens(mut self, tokens: NonZeroUsize) -> Self {
        self.cached_tokens = tokens;
        self
    }

    /// The clock for `exp` and `nbf`. Default: the system's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Finishes the validator. Nothing is fetched yet.
    #[must_use]
    pub fn build(self) -> JwtValidator {
        JwtValidator {
            keyring: Arc::new(Keyring::new(self.jwks, self.times, self.cached_tokens)),
            expected: Arc::new(self.expected),
            any_jwt: self.any_jwt,
            clock: self.clock,
        }
    }
}
