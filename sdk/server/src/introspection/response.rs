//! Reads an introspection response (RFC 7662 section 2.2).

use std::time::Duration;

use bowline_proof::{AccessToken, Confirmation, ConfirmationError, seconds};
use http::StatusCode;
use rustls_pki_types::UnixTime;
use serde::Deserialize;
use serde_json::Value;

use crate::endpoint::EndpointResponse;
use crate::{ExpectedClaims, TokenError, ValidToken};

/// Whether a token is valid here.
#[derive(Clone)]
pub(super) enum Verdict {
    Valid(ValidToken),
    /// The authorization server does not know the token, or not any more.
    Inactive,
    /// It is active, but not for this server.
    Invalid(&'static str),
    /// The response does not decide it.
    Unavailable(&'static str),
}

#[derive(Deserialize)]
struct ActiveMember {
    active: bool,
}

/// The members that are checked. If one has a wrong type the response decides nothing: this is the
/// authorization server's fault, not the client's. `null` is absent.
#[derive(Deserialize)]
struct Members {
    exp: Option<serde_json::Number>,
    nbf: Option<serde_json::Number>,
    #[serde(rename = "aud")]
    _aud: Option<Audience>,
    token_type: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(#[expect(dead_code, reason = "its type is all that matters")] String),
    Several(#[expect(dead_code, reason = "its type is all that matters")] Vec<String>),
}

pub(super) fn verdict(
    response: &EndpointResponse,
    token: &AccessToken,
    expected: &ExpectedClaims,
    now: UnixTime,
) -> Verdict {
    match response.status {
        StatusCode::OK => {}
        // This server's credentials are refused, not the token: an invalid token is answered 200
        // (section 2.3).
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            return Verdict::Unavailable(
                "the introspection endpoint refuses this server's credentials",
            );
        }
        status if status.is_redirection() => {
            return Verdict::Unavailable(
                "the introspection endpoint redirects, and redirects are not followed",
            );
        }
        _ => return Verdict::Unavailable("the introspection endpoint answered with an error"),
    }
    let Ok(claims) = serde_json::from_slice::<Value>(&response.body) else {
        return Verdict::Unavailable("the introspection endpoint did not answer with JSON");
    };
    // From the text, where a duplicated member is an error.
    match serde_json::from_slice(&response.body) {
        Ok(ActiveMember { active: true }) => {}
        Ok(ActiveMember { active: false }) => return Verdict::Inactive,
        Err(_) => {
            return Verdict::Unavailable(
                "the introspection response does not say whether the token is active",
            );
        }
    }
    let Some(members) = Members::deserialize(&claims)
        .ok()
        .filter(Members::times_are_numbers)
    else {
        return Verdict::Unavailable("the introspection response has members of a wrong type");
    };
    match members
        .check_type()
        .and_then(|()| expected.check(&claims, now))
    {
        Ok(()) => {
            let confirmation = confirmation(response, token);
            Verdict::Valid(ValidToken::with_confirmation(claims, confirmation))
        }
        Err(error) => Verdict::Invalid(error.detail()),
    }
}

/// TK-5: what the response says the token is bound to, unless the token itself is a JWT that says
/// something else.
fn confirmation(
    response: &EndpointResponse,
    token: &AccessToken,
) -> Result<Confirmation, ConfirmationError> {
    let answered = Confirmation::from_json(&response.body)?;
    match token.jwt_confirmation().transpose() {
        Ok(Some(own)) if !own.agrees_with(&answered) => Err(ConfirmationError::Disagreement),
        Ok(_) => Ok(answered),
        Err(error) => Err(*error),
    }
}

/// `exp`, beyond which no response may be cached.
pub(super) fn expiry(claims: &Value) -> Option<UnixTime> {
    let expiry = claims.get("exp").and_then(seconds)?;
    Some(UnixTime::since_unix_epoch(Duration::from_secs(expiry)))
}

impl Members {
    fn times_are_numbers(&self) -> bool {
        let is_time = |time: &serde_json::Number| seconds(&Value::Number(time.clone())).is_some();
        [&self.exp, &self.nbf].into_iter().flatten().all(is_time)
    }

    /// Authorization servers answer about refresh tokens too. Some mark them by `token_type`.
    fn check_type(&self) -> Result<(), TokenError> {
        match self.token_type.as_deref() {
            Some(other)
                if !["Bearer", "DPoP"]
                    .iter()
                    .any(|known| known.eq_ignore_ascii_case(other)) =>
            {
                Err(TokenError::invalid(
                    "the token is not an access token of type Bearer or DPoP",
                ))
            }
            _ => Ok(()),
        }
    }
}
