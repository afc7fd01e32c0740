//! Reads and checks the response of a token endpoint (RFC 6749 §5, RFC 8693 §2.2, RFC 9449 §5).

#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime};

use bowline_http_client::bind::TokenSourceId;
use bowline_http_client::{AccessToken, Scheme};
use bowline_proof::Demand;
use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;
#[cfg(unix)]
use zeroize::Zeroizing;

use super::http::{JsonResponse, RequestLabel, is_transient};
use crate::cache::{CachedToken, Certificate, Times};
use crate::shared::text::{MAX_TEXT, printable_ascii};
use crate::{Error, ErrorKind, OAuthErrorCode, Token};

/// What tokens must be bound to. The authorization server decides what they are bound to; the
/// client refuses others than this.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequiredBinding {
    /// Anything or nothing, as the server decides.
    #[default]
    AsIssued,
    /// To the client's certificate (RFC 8705 §3).
    Certificate,
    /// To the TLS session that they are sent on (TK-1). The request does not ask for it: the
    /// client's registration does (TK-3).
    Session,
    /// To the client's DPoP key (RFC 9449 §5): the request carries a proof of it.
    Dpop,
}

/// What a response is checked against.
pub(super) struct Expected<'a> {
    pub(super) required: RequiredBinding,
    pub(super) certificate: &'a Certificate,
    /// Whether the request was a token exchange.
    pub(super) is_exchange: bool,
    /// The secrets of the request, which no message may quote.
    pub(super) secrets: &'a [&'a str],
    /// When the request was made.
    pub(super) asked_at: SystemTime,
    pub(super) source: TokenSourceId,
    /// What to do about `invalid_grant`.
    pub(super) on_invalid_grant: &'a str,
}

#[derive(Deserialize)]
struct Members {
    access_token: Option<String>,
    token_type: Option<String>,
    #[serde(default)]
    expires_in: Value,
    scope: Option<String>,
    issued_token_type: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
}

/// A longer lifetime is an error.
const MAX_LIFETIME: Duration = Duration::from_secs(366 * 24 * 3600);

pub(super) const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// The token in a response.
///
/// # Errors
/// [`ErrorKind::Refused`], [`ErrorKind::Unavailable`], [`ErrorKind::Protocol`],
/// [`ErrorKind::Binding`].
pub(super) fn read(
    response: &JsonResponse,
    label: &RequestLabel<'_>,
    expected: &Expected<'_>,
) -> Result<CachedToken, Error> {
    if is_transient(response.status) {
        return Err(response.unavailable(label));
    }
    let members: Members = response.json(label)?;
    if let Some(code) = &members.error {
        // Some servers send errors with status 200.
        let description = members.error_description.as_deref().unwrap_or_default();
        return Err(
            refused(label, code, description, expected).with_retry_after(response.retry_after())
        );
    }
    if response.status != StatusCode::OK {
        let message = format!(
            "{label} answered {} without an error code",
            response.status.as_u16()
        );
        return Err(Error::new(ErrorKind::Protocol, message));
    }
    let issued = Issued { label, expected };
    let access = issued.access_token(members.access_token)?;
    let access = access.with_scheme(issued.scheme(members.token_type.as_deref())?);
    if expected.is_exchange {
        issued.check_type(members.issued_token_type.as_deref())?;
    }
    let mut token = Token::new(access, expected.source).with_scope(members.scope);
    if let Some(certificate) = expected.certificate.thumbprint() {
        token = token.issued_to(certificate);
    }
    issued.check_binding(&token)?;
    issued.with_expiry(token, &members.expires_in)
}

/// The refresh token in a response (RFC 6749 §6): whatever else is wrong with the response, it takes
/// the place of the one that was sent.
#[cfg(unix)]
pub(super) fn refresh_token(response: &JsonResponse) -> Option<Zeroizing<String>> {
    #[derive(Deserialize)]
    struct Member {
        refresh_token: Option<String>,
    }
    if response.status != StatusCode::OK {
        return None;
    }
    let label = RequestLabel { name: "", url: "" };
    let member: Member = response.json(&label).ok()?;
    // RFC 6749 appendix A.17.
    let is_token =
        |text: &String| !text.is_empty() && text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    member.refresh_token.filter(is_token).map(Zeroizing::new)
}

struct Issued<'a> {
    label: &'a RequestLabel<'a>,
    expected: &'a Expected<'a>,
}

impl Issued<'_> {
    fn access_token(&self, token: Option<String>) -> Result<AccessToken, Error> {
        let token = token.ok_or_else(|| self.malformed("no access_token"))?;
        AccessToken::new(token).map_err(|e| {
            Error::with_source(
                ErrorKind::Protocol,
                format!("{} issued what cannot be sent", self.label),
                e,
            )
        })
    }

    /// The scheme that `token_type` says (RFC 6749 §7.1).
    fn scheme(&self, token_type: Option<&str>) -> Result<Scheme, Error> {
        let token_type = token_type.ok_or_else(|| self.malformed("no token_type"))?;
        let wants_dpop = self.expected.required == RequiredBinding::Dpop;
        if token_type.eq_ignore_ascii_case("DPoP") {
            return if wants_dpop {
                Ok(Scheme::Dpop)
            } else {
                Err(self.malformed("the token_type DPoP, and no key was proved to it"))
            };
        }
        if !token_type.eq_ignore_ascii_case("Bearer") {
            return Err(self.malformed(&format!(
                "the token_type {}, which this client does not know",
                printable_ascii(token_type)
            )));
        }
        if wants_dpop {
            return Err(self.unbound(
                "a DPoP key",
                "register the client so, or check whether the server supports DPoP",
            ));
        }
        Ok(Scheme::Bearer)
    }

    /// RFC 8693 §2.2.1.
    fn check_type(&self, issued: Option<&str>) -> Result<(), Error> {
        match issued {
            Some(ACCESS_TOKEN | JWT) => Ok(()),
            Some(other) => Err(self.malformed(&format!(
                "a token of the type {}, and no access token",
                printable_ascii(other)
            ))),
            None => Err(self.malformed("no issued_token_type (RFC 8693 section 2.2.1)")),
        }
    }

    /// Checks what a JWT is bound to. An opaque token cannot be checked here: the resource does it.
    fn check_binding(&self, token: &Token) -> Result<(), Error> {
        let access = token.access_token();
        let unusable = |e| {
            Error::with_source(
                ErrorKind::Binding,
                format!("{} issued an unusable token", self.label),
                e,
            )
        };
        let confirmation = access.confirmation().map_err(|e| unusable(*e))?;
        let demand = access.demand().map_err(unusable)?;
        if !token.is_jwt() {
            return Ok(());
        }
        if confirmation.x5t_s256.is_some()
            && confirmation.x5t_s256 != self.expected.certificate.thumbprint()
        {
            let message = format!(
                "{} issued a token that is bound to another certificate than the one that asked \
                 for it: see whether \
                 something between here and there terminates TLS (AS-1)",
                self.label
            );
            return Err(Error::new(ErrorKind::Binding, message));
        }
        match self.expected.required {
            RequiredBinding::Session if demand != Demand::Session => Err(self.unbound(
                "the TLS session",
                "register the client with tls_session_bound_access_tokens (TK-3), and see that \
                 its request to the \
                 token endpoint comes over mutual TLS",
            )),
            RequiredBinding::Certificate if confirmation.x5t_s256.is_none() => Err(self.unbound(
                "the client's certificate",
                "register the client with tls_client_certificate_bound_access_tokens (RFC 8705 \
                 section 3.4), and see \
                 that its request to the token endpoint comes over mutual TLS",
            )),
            RequiredBinding::Dpop if demand != Demand::Dpop => {
                Err(self.unbound("a DPoP key", "its cnf has no jkt"))
            }
            _ => Ok(()),
        }
    }

    /// Sets the token's expiry, and the times at which to replace it.
    fn with_expiry(&self, token: Token, expires_in: &Value) -> Result<CachedToken, Error> {
        let asked_at = self.expected.asked_at;
        let lifetime = match self.lifetime(expires_in)? {
            Some(lifetime) => Some(lifetime),
            // By the issuer's clock, which may differ from ours.
            None => match token.expires_at() {
                Some(at) => Some(at.duration_since(asked_at).map_err(|_| {
                    self.malformed(
                        "a token that has expired by our clock, and no expires_in: compare the \
                         clocks",
                    )
                })?),
                None => None,
            },
        };
        Ok(
            match lifetime.and_then(|lifetime| Some((lifetime, asked_at.checked_add(lifetime)?))) {
                Some((lifetime, expires_at)) => CachedToken::new(
                    token.expiring_at(expires_at),
                    times(lifetime, asked_at, 0.0),
                ),
                None => CachedToken::new(token, Times::NEVER),
            },
        )
    }

    /// `expires_in`, in seconds: a number, or one in a string, as some servers have it.
    fn lifetime(&self, expires_in: &Value) -> Result<Option<Duration>, Error> {
        let seconds = match expires_in {
            Value::Null => return Ok(None),
            Value::Number(number) => number.as_u64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        let seconds = seconds
            .ok_or_else(|| self.malformed("an expires_in that is not a whole number of seconds"))?;
        let lifetime = Duration::from_secs(seconds);
        if lifetime.is_zero() {
            return Err(self.malformed("a token that has expired already (expires_in is 0)"));
        }
        if lifetime > MAX_LIFETIME {
            let message = format!(
                "a token for {seconds} s: more than a year is not the lifetime of an access token"
            );
            return Err(self.malformed(&message));
        }
        Ok(Some(lifetime))
    }

    fn malformed(&self, with: &str) -> Error {
        Error::new(
            ErrorKind::Protocol,
            format!("{} answered with {with}", self.label),
        )
    }

    fn unbound(&self, to: &str, advice: &str) -> Error {
        Error::new(
            ErrorKind::Binding,
            format!(
                "{} issued a token that is not bound to {to}, as this client insists: {advice}",
                self.label
            ),
        )
    }
}

/// A token is refreshed a fifth of its lifetime before it expires: thirty seconds at least, half
/// the lifetime at most. It is stale in the last tenth, five seconds at most, in which it may
/// expire on the way. `later`, between 0 and 1, moves the refresh by as much of a tenth of the
/// lifetime.
pub(super) fn times(lifetime: Duration, since: SystemTime, later: f64) -> Times {
    let ahead = (lifetime / 5)
        .max(Duration::from_secs(30))
        .min(lifetime / 2)
        - (lifetime / 10).mul_f64(later.clamp(0.0, 1.0));
    let margin = (lifetime / 10).min(Duration::from_secs(5));
    Times {
        refresh_at: since.checked_add(lifetime - ahead),
        stale_at: since.checked_add(lifetime - margin),
    }
}

fn refused(
    label: &RequestLabel<'_>,
    code: &str,
    description: &str,
    expected: &Expected<'_>,
) -> Error {
    let refusal = OAuthErrorCode::parse(code);
    let reveals = |text: &str| reveals(text, expected.secrets);
    let mut message = format!("{label} refused");
    if !reveals(code) {
        message = format!("{message} with {}", printable_ascii(code));
    }
    if !description.is_empty() && !reveals(description) {
        message = format!("{message} ({})", printable_ascii(description));
    }
    let advice = match refusal {
        OAuthErrorCode::InvalidGrant => expected.on_invalid_grant,
        other => other.advice(),
    };
    Error::new(ErrorKind::Refused(refusal), format!("{message}: {advice}"))
}

/// A server may repeat what it was sent, whole or cut short, and errors end in logs. Fewer
/// characters than this in a row reveal nothing.
const MIN_SECRET: usize = 12;

/// Whether a text contains a secret, or a part of one.
fn reveals(text: &str, secrets: &[&str]) -> bool {
    let parts = || text.as_bytes().windows(MIN_SECRET).take(MAX_TEXT * 4);
    // Secrets are ASCII; a window that cuts a character in two is in none of them.
    let has_part = |secret: &str| {
        let mut parts = parts().filter_map(|part| std::str::from_utf8(part).ok());
        parts.any(|part| secret.contains(part))
    };
    secrets
        .iter()
        .any(|secret| text.contains(secret) || has_part(secret))
}
