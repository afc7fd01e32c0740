//! What a resource server expects of the claims that a JWT and an introspection response have in
//! common (RFC 7519 section 4.1, RFC 7662 section 2.2).

use std::time::Duration;

use bowline_proof::seconds;
use rustls_pki_types::UnixTime;
use serde_json::Value;

use crate::TokenError;

/// The audience, issuer and times that a token must have to be accepted by this resource server:
/// one value for [`JwtValidator::builder`](crate::JwtValidator::builder) and
/// [`IntrospectionValidator::builder`](crate::IntrospectionValidator::builder).
///
/// ```
/// use bowline_server::ExpectedClaims;
///
/// let expected = ExpectedClaims::new("https://api.example.com").issuer("https://as.example.com");
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct ExpectedClaims {
    issuer: Option<String>,
    audiences: Vec<String>,
    leeway: Duration,
    /// Set by the validators: a JWT must have `aud` and `exp`, an introspection response need not
    /// have `exp`.
    pub(crate) audience_required: bool,
    pub(crate) expiry_required: bool,
}

impl ExpectedClaims {
    /// Tokens for `audience`, this resource server, of any issuer, with a leeway of 60 s.
    pub fn new(audience: impl Into<String>) -> Self {
        Self {
            issuer: None,
            audiences: vec![audience.into()],
            leeway: Duration::from_secs(60),
            audience_required: true,
            expiry_required: true,
        }
    }

    /// The `iss` that tokens must have. A [`JwtValidator`](crate::JwtValidator) needs it; an
    /// [`IntrospectionValidator`](crate::IntrospectionValidator) does not check `iss` without it.
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuer = Some(issuer.into());
        self
    }

    /// One more name by which tokens may address this resource server.
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audiences.push(audience.into());
        self
    }

    /// How far the clocks of this server and of the authorization server may differ. Default: 60 s.
    /// An introspection response is never cached past `exp` by this server's clock.
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway;
        self
    }

    pub(crate) fn has_issuer(&self) -> bool {
        self.issuer.is_some()
    }

    pub(crate) fn check(&self, claims: &Value, now: UnixTime) -> Result<(), TokenError> {
        if self.issuer.is_some()
            && claims.get("iss").and_then(Value::as_str) != self.issuer.as_deref()
        {
            return Err(TokenError::invalid(
                "the access token is from another issuer",
            ));
        }
        if !self.is_addressed(present(claims, "aud")) {
            return Err(TokenError::invalid(
                "the access token is for another audience",
            ));
        }
        self.check_times(claims, now)
    }

    pub(crate) fn check_times(&self, claims: &Value, now: UnixTime) -> Result<(), TokenError> {
        let (now, leeway) = (now.as_secs(), self.leeway.as_secs());
        let malformed =
            || TokenError::invalid("exp or nbf of the access token is missing or not a number");
        let time = |name| {
            present(claims, name)
                .map(|value| seconds(value).ok_or_else(malformed))
                .transpose()
        };
        match time("exp")? {
            None if self.expiry_required => return Err(malformed()),
            Some(expires_at) if now >= expires_at.saturating_add(leeway) => {
                return Err(TokenError::invalid("the access token has expired"));
            }
            _ => {}
        }
        match time("nbf")? {
            Some(not_before) if not_before > now.saturating_add(leeway) => {
                Err(TokenError::invalid("the access token is not valid yet"))
            }
            _ => Ok(()),
        }
    }

    /// `aud` is a string or an array of them (RFC 7519 section 4.1.3).
    fn is_addressed(&self, aud: Option<&Value>) -> bool {
        let names = |value: &Value| {
            value
                .as_str()
                .is_some_and(|name| self.audiences.iter().any(|own| own == name))
        };
        match aud {
            Some(Value::Array(several)) => several.iter().any(names),
            Some(one) => names(one),
            None => !self.audience_required,
        }
    }
}

/// A member that is there. Some authorization servers write `null` for one that is not.
fn present<'a>(claims: &'a Value, name: &str) -> Option<&'a Value> {
    claims.get(name).filter(|value| !value.is_null())
}
