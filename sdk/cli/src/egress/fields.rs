//! The fields of what is passed on, in both directions (GW-5).

use http::header::{ALT_SVC, HOST, PROXY_AUTHENTICATE, TE};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::refused::Refused;
use crate::passing::fields;

/// What the egress alone says to a server, or a server's own gateway to the server: a caller that
/// could set it would speak for either.
const RESERVED: [&str; 4] = [
    "client-cert",
    "client-cert-chain",
    "tls-exporter",
    "x-forwarded-client-cert",
];
const RESERVED_PREFIX: &str = "session-binding-";

/// # Errors
/// 400 if a caller's fields hold one of these.
pub(crate) fn check_reserved(headers: &HeaderMap) -> Result<(), Refused> {
    match headers.keys().find(|name| is_reserved(name.as_str())) {
        None => Ok(()),
        Some(name) => Err(Refused::new(
            StatusCode::BAD_REQUEST,
            "reserved_field",
            format!("the field {name} is set by the egress, not by its callers"),
        )),
    }
}

fn is_reserved(name: &str) -> bool {
    fields::is_one_of(&RESERVED, name) || fields::starts_like(name, RESERVED_PREFIX)
}

/// Removes what is for the agent's connection alone. `TE: trailers` is said anew, since trailers
/// are passed on.
pub(crate) fn strip_request(headers: &mut HeaderMap) {
    let accepts_trailers = fields::accept_trailers(headers);
    fields::strip_request(headers);
    // The client writes it from the target.
    headers.remove(HOST);
    fields::join_cookies(headers);
    if accepts_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// `Alt-Svc` would lead the agent around the egress.
pub(crate) fn strip_response(headers: &mut HeaderMap) {
    fields::strip_hop_by_hop(headers);
    for name in [ALT_SVC, PROXY_AUTHENTICATE] {
        headers.remove(name);
    }
}

pub(crate) fn strip_request_trailers(trailers: &mut HeaderMap) {
    fields::strip_request(trailers);
    fields::strip_trailers(trailers);
    fields::remove(trailers, is_reserved);
}

#[cfg(test)]
mod tests;
