//! The claims that a JWT and an answer to introspection have in common (RFC 7519 section 4.1, RFC
//! 7662 section 2.2).

use std::time::Duration;

use rustls_pki_types::UnixTime;
use serde_json::Value;

use crate::TokenError;

/// What they must say to be of a token for this resource server.
#[derive(Clone, Debug)]
pub(crate) struct ClaimRules {
    pub(crate) issuer: Option<String>,
    pub(crate) audiences: Vec<String>,
    pub(crate) audience_required: bool,
    pub(crate) expiry_required: bool,
    pub(crate) leeway: Duration,
}

impl ClaimRules {
    pub(crate) fn check(&self, claims: &Value, now: UnixTime) -> Result<(), TokenError> {
        if self.issuer.is_some()
            && claims.get("iss").and_then(Value::as_str) != self.issuer.as_deref()
        {
            return Err(TokenError::invalid("the access token is of another issuer"));
        }
        if !self.is_addressed(claims.get("aud")) {
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
            let value = claims.get(name);
            value
                .map(|value| numeric_date(value).ok_or_else(malformed))
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

/// Seconds since the epoch, perhaps with a fraction, which is cut off (RFC 7519 section 2).
pub(crate) fn numeric_date(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| {
        let seconds = value.as_f64().filter(|seconds| *seconds >= 0.0)?;
        // Saturates, which is late enough.
        Some(seconds as u64)
    })
}
