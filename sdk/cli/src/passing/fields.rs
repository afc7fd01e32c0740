//! Fields that are for one connection only, and names that are written in several ways (RFC 9110
//! section 7.6.1).

use bowline::server::is_same_field;
use http::header::{CONNECTION, COOKIE, TE, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue};

const HOP_BY_HOP: [&str; 6] = [
    "connection",
    "proxy-connection",
    "keep-alive",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// What a trailer section must not hold (RFC 9110 section 6.5.1), because a recipient may merge it
/// into the fields: it would come after they were checked.
const NOT_IN_TRAILERS: [&str; 9] = [
    "authorization",
    "cookie",
    "dpop",
    "expect",
    "host",
    "http2-settings",
    "proxy-authorization",
    "session-binding-proof",
    "trailer",
];

/// Removes what is for this connection alone.
pub(crate) fn strip_request(headers: &mut HeaderMap) {
    strip_named_options(headers);
    remove(headers, |name| {
        // hyper has answered `Expect`.
        HOP_BY_HOP.contains(&name)
            || matches!(name, "expect" | "proxy-authorization" | "http2-settings")
            // `_` for `-`: see `is_same_field`.
            || name.contains('_') && (is_one_of(&HOP_BY_HOP, name) || starts_like(name, "content-"))
    });
}

/// Removes from a stripped trailer section what it must not hold.
pub(crate) fn strip_trailers(trailers: &mut HeaderMap) {
    remove(trailers, |name| {
        is_one_of(&NOT_IN_TRAILERS, name) || starts_like(name, "content-")
    });
}

pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    strip_named_options(headers);
    remove(headers, |name| HOP_BY_HOP.contains(&name));
}

/// Removes what `Connection` names.
fn strip_named_options(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<String> = connection_options(headers).collect();
        for option in named {
            headers.remove(option.as_str());
        }
    }
}

/// The `Connection` options, in lower case.
pub(crate) fn connection_options(headers: &HeaderMap) -> impl Iterator<Item = String> + '_ {
    list(headers, CONNECTION)
        .filter_map(|option| str::from_utf8(option).ok())
        .map(str::to_ascii_lowercase)
}

/// Whether the sender of these fields accepts trailers.
pub(crate) fn accept_trailers(headers: &HeaderMap) -> bool {
    list(headers, TE).any(|coding| coding.eq_ignore_ascii_case(b"trailers"))
}

/// HTTP/1.1 has one `Cookie` field, HTTP/2 may split it (RFC 9113 section 8.2.3).
pub(crate) fn join_cookies(headers: &mut HeaderMap) {
    let fields = headers.get_all(COOKIE).iter();
    let fields: Vec<&[u8]> = fields.map(HeaderValue::as_bytes).collect();
    if fields.len() < 2 {
        return;
    }
    if let Ok(mut joined) = HeaderValue::from_bytes(&fields.join(&b"; "[..])) {
        joined.set_sensitive(true);
        headers.insert(COOKIE, joined);
    }
}

/// Whether they ask for WebSocket, which leaves HTTP: nothing would know what is said after it.
pub(crate) fn ask_for_websocket(headers: &HeaderMap) -> bool {
    list(headers, UPGRADE).any(|protocol| {
        let name = protocol.split(|&byte| byte == b'/').next();
        name.is_some_and(|name| name.trim_ascii().eq_ignore_ascii_case(b"websocket"))
    })
}

/// The members of a field that is a list.
fn list(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    let fields = headers.get_all(name).into_iter();
    fields
        .flat_map(|field| field.as_bytes().split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
}

/// Removes the fields with unwanted names.
pub(crate) fn remove(headers: &mut HeaderMap, unwanted: impl Fn(&str) -> bool) {
    // Most requests have none, and then nothing is allocated.
    let found: Vec<HeaderName> = headers
        .keys()
        .filter(|name| unwanted(name.as_str()))
        .cloned()
        .collect();
    for name in found {
        headers.remove(name);
    }
}

pub(crate) fn is_one_of(known: &[&str], name: &str) -> bool {
    known.iter().any(|known| is_same_field(known, name))
}

pub(crate) fn starts_like(name: &str, prefix: &str) -> bool {
    name.get(..prefix.len())
        .is_some_and(|start| is_same_field(start, prefix))
}

#[cfg(test)]
pub(crate) mod tests;
