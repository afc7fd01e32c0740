//! What a JWT must say to be an access token for this resource server (RFC 9068 section 4).

use std::time::Duration;

use rustls_pki_types::UnixTime;
use serde_json::Value;

use crate::TokenError;

#[derive(Debug)]
pub(super) struct ClaimRules {
    pub(super) issuer: String,
    pub(super) audiences: Vec<String>,
    pub(super) leeway: Duration,
    pub(super) any_jwt: bool,
}

impl ClaimRules {
    /// The media type, without regard to case, its `application/` usually left out (RFC 7515 section 4.1.9).
    pub(super) fn check_type(&self, typ: Option<&str>) -> Result<(), TokenError> {
        let short = typ.map(|typ| {
            let typ = typ.to_ascii_lowercase();
            typ.strip_prefix("application/").map_or(typ.clone(), str::to_owned)
        });
        match short.as_deref() {
            Some("at+jwt") => Ok(()),
            Some("jwt") | None if self.any_jwt => Ok(()),
            _ => Err(TokenError::invalid("the typ of the access token is not at+jwt")),
        }
    }

    pub(super) fn check(&self, claims: &Value, now: UnixTime) -> Result<(), TokenError> {
        if claims.get("iss").and_then(Value::as_str) != Some(&self.issuer) {
            return Err(TokenError::invalid("the access token is of another issuer"));
        }
        if !self.is_addressed(claims.get("aud")) {
            return Err(TokenError::invalid("the access token is for another audience"));
        }
        self.check_times(claims, now)
    }

    pub(super) fn check_times(&self, claims: &Value, now: UnixTime) -> Result<(), TokenError> {
        let (now, leeway) = (now.as_secs(), self.leeway.as_secs());
        let malformed = || TokenError::invalid("exp or nbf of the access token is missing or not a number");
        let expires_at = claims.get("exp").and_then(numeric_date).ok_or_else(malformed)?;
        if now >= expires_at.saturating_add(leeway) {
            return Err(TokenError::invalid("the access token has expired"));
        }
        match claims
            .get("nbf")
            .map(|nbf| numeric_date(nbf).ok_or_else(malformed))
            .transpose()?
        {
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
            None => false,
        }
    }
}

/// Seconds since the epoch, perhaps with a fraction, which is cut off (RFC 7519 section 2).
fn numeric_date(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| {
        let seconds = value.as_f64().filter(|seconds| *seconds >= 0.0)?;
        // Saturates, which is late enough.
        Some(seconds as u64)
    })
}
