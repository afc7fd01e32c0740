//! A token that a request gets without bringing one is ambient authority, like a cookie (GW-7): who
//! can make the agent, or a browser, send a request there could use it.

use http::header::{AUTHORIZATION, ORIGIN, REFERER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::setting::Ambient;
use crate::egress::names::HostPort;
use crate::egress::pages::{SEC_FETCH_SITE, is_of};
use crate::egress::refused::Refused;

const DPOP: HeaderName = HeaderName::from_static("dpop");

impl Ambient {
    /// # Errors
    /// 403 for a request of a browser or of another origin, and for one that brings credentials of
    /// its own.
    pub(super) fn admit(&self, name: &HostPort, headers: &mut HeaderMap) -> Result<(), Refused> {
        if headers.contains_key(&SEC_FETCH_SITE) {
            return Err(refused(
                "browser",
                format!("https://{name}: its token is not for browsers (Sec-Fetch-Site)"),
            ));
        }
        for field in [ORIGIN, REFERER] {
            let all = headers.get_all(&field);
            if all.iter().any(|value| !is_of(value, name)) {
                return Err(refused(
                    "foreign_origin",
                    format!(
                        "https://{name}: its token is not for requests of other origins ({field})"
                    ),
                ));
            }
        }
        if headers.contains_key(&DPOP) {
            return Err(refused(
                "caller_token",
                format!("https://{name}: the egress makes the DPoP proofs; leave the field out"),
            ));
        }
        let mut brought = headers.get_all(AUTHORIZATION).iter();
        let is_placeholder = match (brought.next(), brought.next()) {
            (None, _) => true,
            (Some(one), None) => self.is_placeholder(one),
            (Some(_), Some(_)) => false,
        };
        if !is_placeholder {
            return Err(refused(
                "caller_token",
                format!(
                    "https://{name}: the egress has the token for it, and sends no other: leave \
                     Authorization out, or send the configured placeholder"
                ),
            ));
        }
        headers.remove(AUTHORIZATION);
        Ok(())
    }

    fn is_placeholder(&self, value: &HeaderValue) -> bool {
        let Some(placeholder) = &self.placeholder else {
            return false;
        };
        let sent = value.to_str().ok().and_then(|text| text.split_once(' '));
        sent.is_some_and(|(scheme, token)| {
            scheme.eq_ignore_ascii_case("bearer") && token.trim() == placeholder
        })
    }
}

fn refused(reason: &'static str, text: String) -> Refused {
    Refused::new(StatusCode::FORBIDDEN, reason, text)
}

#[cfg(test)]
mod tests;
