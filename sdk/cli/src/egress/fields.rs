//! The fields of what is passed on, in both directions (GW-5, RFC 9110 section 7.6.1).

use http::header::{
    ALT_SVC, CONNECTION, EXPECT, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::refused::Refused;

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
/// 400 if a caller's fields, or trailers, hold one of these.
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
    // Some servers take `_` for `-`.
    let name = name.replace('_', "-");
    RESERVED.contains(&name.as_str()) || name.starts_with(RESERVED_PREFIX)
}

/// Removes what is for the agent's connection alone. `TE: trailers` is said anew, since trailers
/// are passed on.
pub(crate) fn strip_request(headers: &mut HeaderMap) {
    let takes_trailers = headers.get_all(TE).iter().any(|field| {
        let mut codings = field.as_bytes().split(|&byte| byte == b',');
        codings.any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
    });
    strip_hop_by_hop(headers);
    // The client writes `Host` from the target; hyper has answered `Expect`.
    for name in [HOST, EXPECT, PROXY_AUTHORIZATION] {
        headers.remove(name);
    }
    if takes_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// `Alt-Svc` would lead the agent around the egress.
pub(crate) fn strip_response(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers);
    for name in [ALT_SVC, PROXY_AUTHENTICATE] {
        headers.remove(name);
    }
}

/// Trailers that a recipient may merge into the fields must not hold what was checked there (RFC
/// 9110 section 6.5.1).
pub(crate) fn strip_request_trailers(trailers: &mut HeaderMap) {
    strip_request(trailers);
    let unwanted: Vec<HeaderName> = trailers
        .keys()
        .filter(|name| {
            let name = name.as_str();
            is_reserved(name)
                || matches!(name, "authorization" | "cookie" | "dpop" | "trailer")
                || name.starts_with("content-")
        })
        .cloned()
        .collect();
    for name in unwanted {
        trailers.remove(name);
    }
    trailers.remove(TE);
}

fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<String> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|field| field.as_bytes().split(|&byte| byte == b','))
        .filter_map(|option| str::from_utf8(option.trim_ascii()).ok())
        .map(str::to_ascii_lowercase)
        .collect();
    for option in named {
        headers.remove(option.as_str());
    }
    for name in [CONNECTION, TE, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
    for name in ["keep-alive", "proxy-connection", "http2-settings"] {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests;
