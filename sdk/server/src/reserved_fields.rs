//! The fields in which proxies and sidecars describe a TLS connection: no peer may set them,
//! because a handler, or a service behind it, might trust them (GW-2).

use http::header::CONNECTION;
use http::{HeaderMap, HeaderName};

/// What an ingress sidecar sets or strips (GW-2).
const RESERVED: [&str; 7] = [
    "client-cert",
    "client-cert-chain",
    "tls-exporter",
    "x-forwarded-client-cert",
    "session-binding-verified",
    "session-binding-observed",
    "session-binding-receipt",
];

/// Further fields that a client must not have removed on the way.
const NEEDED: [&str; 5] = [
    "host",
    "authorization",
    "cookie",
    "dpop",
    "session-binding-proof",
];

/// Fields that make a request one with another method.
const METHOD_OVERRIDES: [&str; 3] = [
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
];

/// Whether there is a reserved field.
pub(crate) fn has_any(headers: &HeaderMap) -> bool {
    let mut names = headers.keys();
    names.any(|name| is_one_of(&RESERVED, name.as_str()))
}

/// Removes every field in which proxies and sidecars describe a TLS connection: `Client-Cert`,
/// `Client-Cert-Chain`, `TLS-Exporter`, `X-Forwarded-Client-Cert` and `Session-Binding-Verified`,
/// `-Observed` and `-Receipt`, also with `_` for `-` (GW-2).
///
/// [`BindingLayer`](crate::BindingLayer) does it for the fields of requests. A server that passes
/// requests on must do it for their trailers too.
pub fn strip(headers: &mut HeaderMap) {
    remove(headers, |name| is_one_of(&RESERVED, name));
}

/// Removes the fields with one of these names.
pub(crate) fn strip_named(headers: &mut HeaderMap, names: &[&str]) {
    remove(headers, |name| is_one_of(names, name));
}

fn remove(headers: &mut HeaderMap, unwanted: impl Fn(&str) -> bool) {
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

/// Whether a field, such as `X-HTTP-Method-Override`, would override the method for a server behind
/// this one, also with `_` for `-`.
pub fn override_method(headers: &HeaderMap) -> bool {
    let mut names = headers.keys();
    names.any(|name| is_one_of(&METHOD_OVERRIDES, name.as_str()))
}

/// Whether a field says that the body is a form, in which a service may look for a token (RFC 6750
/// section 2.2).
pub(crate) fn announce_form(headers: &HeaderMap) -> bool {
    const FORMS: [&str; 2] = ["application/x-www-form-urlencoded", "multipart/form-data"];
    let mut fields = headers
        .iter()
        .filter(|(name, _)| is_one_of(&["content-type"], name.as_str()));
    fields.any(|(_, value)| {
        // Several fields may be joined to a list, of which a service takes any.
        let value = value.as_bytes();
        let mut types = value.split(|&byte| byte == b',' || byte == b';');
        types.any(|name| {
            let name = name.trim_ascii();
            FORMS
                .iter()
                .any(|form| name.eq_ignore_ascii_case(form.as_bytes()))
        })
    })
}

/// Whether a `Connection` option names a field that a proxy which passes the request on would have to
/// remove (RFC 9110 section 7.6.1), but that must arrive, or must not be removed after it was set
/// (GW-2).
pub(crate) fn connection_names_one(headers: &HeaderMap) -> bool {
    let fields = headers.get_all(CONNECTION);
    let mut options = fields
        .iter()
        .flat_map(|field| field.as_bytes().split(|&byte| byte == b','));
    options.any(|option| {
        let Ok(option) = str::from_utf8(option.trim_ascii()) else {
            return false;
        };
        let option = option.to_ascii_lowercase();
        is_one_of(&RESERVED, &option)
            || is_one_of(&NEEDED, &option)
            || option.starts_with("content-")
            || option.starts_with("content_")
    })
}

/// Whether a service may take two names of fields for one: with `_` read as `-`, since CGI and WSGI make
/// the same variable of both (GW-2). Both are in lower case, as in a [`HeaderName`].
///
/// Whoever removes or refuses fields by name before a service must compare them in this way.
#[must_use]
pub fn is_same(one: &str, other: &str) -> bool {
    let dash = |byte: u8| if byte == b'_' { b'-' } else { byte };
    one.len() == other.len() && one.bytes().map(dash).eq(other.bytes().map(dash))
}

fn is_one_of(names: &[&str], name: &str) -> bool {
    names.iter().any(|known| is_same(known, name))
}

#[cfg(test)]
mod tests;
