//! The fields of a request and a response that is passed on (GW-2, RFC 9110 section 7.6.1).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bowline::server::{
    AccessToken, BindingClass, ConnectionFacts, FailedCheck, Observed, VerifiedBinding,
    is_same_field, strip_reserved_fields,
};
use http::header::{AUTHORIZATION, HOST};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::Passing;
use crate::passing::fields;
use crate::receipt::{self, RECEIPT};

const PROOF: &str = "session-binding-proof";

/// Removes what is for this connection only, and what only the ingress itself may say. The binding
/// layer has refused `Connection` options that name a field that must stay (GW-2).
pub(super) fn strip_request(headers: &mut HeaderMap, configured: &[HeaderName]) {
    fields::strip_request(headers);
    strip_reserved_fields(headers);
    fields::remove(headers, |name| {
        is_same_field(PROOF, name) || names(configured, name)
    });
}

/// Whether a `Connection` option names a field that configuration strips: it must not be taken for
/// removed before it is set (GW-2).
pub(super) fn connection_names(headers: &HeaderMap, configured: &[HeaderName]) -> bool {
    !configured.is_empty()
        && fields::connection_options(headers).any(|option| names(configured, &option))
}

pub(super) fn strip_request_trailers(trailers: &mut HeaderMap, configured: &[HeaderName]) {
    strip_request(trailers, configured);
    fields::strip_trailers(trailers);
}

fn names(configured: &[HeaderName], name: &str) -> bool {
    let mut configured = configured.iter();
    configured.any(|known| is_same_field(known.as_str(), name))
}

/// Says of a stripped request what the ingress knows about it (GW-2).
pub(super) fn describe(request: &mut Parts, passing: &Passing) {
    let binding = request.extensions.get::<VerifiedBinding>().cloned();
    let facts = request
        .extensions
        .get::<std::sync::Arc<ConnectionFacts>>()
        .cloned();
    let certificate = match &binding {
        Some(binding) => binding.presented_certificate(),
        // Of a public request it is not known whether a proxy speaks for another client.
        None if passing.behind_proxies => None,
        None => facts.as_ref().and_then(|facts| facts.certificate()),
    };
    if let Some(certificate) = certificate {
        let field = certificate.client_cert().clone();
        request.headers.insert(CLIENT_CERT, field);
    }
    let Some(binding) = &binding else {
        return;
    };
    match binding.observed() {
        None | Some(Observed::Held) => {
            let receipt = receipt(request, binding, passing);
            request.headers.insert(VERIFIED, verified(binding));
            if let Some(receipt) = receipt {
                request
                    .headers
                    .insert(HeaderName::from_static(RECEIPT), receipt);
            }
        }
        Some(observed) => {
            request
                .headers
                .insert(OBSERVED, observed_field(binding, observed.check()));
        }
    }
}

const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
const VERIFIED: HeaderName = HeaderName::from_static("session-binding-verified");
const OBSERVED: HeaderName = HeaderName::from_static("session-binding-observed");

/// `class=session, thumbprint="…", resumed=?0, marked`: an RFC 9651 dictionary. The thumbprint is
/// written as `x5t#S256` is, to be compared with it.
fn verified(binding: &VerifiedBinding) -> HeaderValue {
    let mut text = String::with_capacity(128);
    text.push_str("class=");
    text.push_str(class_name(binding.class()));
    if let Some(thumbprint) = binding.thumbprint() {
        text.push_str(", thumbprint=\"");
        URL_SAFE_NO_PAD.encode_string(thumbprint.as_bytes(), &mut text);
        text.push('"');
    }
    for (name, value) in [
        (", resumed", binding.is_resumed()),
        (", marked", binding.is_marked()),
    ] {
        text.push_str(name);
        // RFC 9651 section 3.2: true is the name alone.
        text.push_str(if value { "" } else { "=?0" });
    }
    ascii(text)
}

fn observed_field(binding: &VerifiedBinding, check: Option<FailedCheck>) -> HeaderValue {
    let class = class_name(binding.class());
    let check = check.map_or("none", FailedCheck::id);
    ascii(format!("class={class}, check=\"{check}\""))
}

/// As the wire profile writes it.
fn class_name(class: BindingClass) -> &'static str {
    match class {
        BindingClass::ProxyAttested => "proxy-attested",
        class => class.name(),
    }
}

fn receipt(request: &Parts, binding: &VerifiedBinding, passing: &Passing) -> Option<HeaderValue> {
    let (key, lifetime) = passing.receipt.as_ref()?;
    if binding.class() != BindingClass::Session {
        return None;
    }
    let field = request.headers.get(AUTHORIZATION)?;
    let token = AccessToken::from_authorization(field).ok()?;
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .ok()?
        .as_secs();
    let token_expires_at = binding.claims().get("exp").and_then(|exp| exp.as_u64());
    let expires_at = receipt::expires_at(now, *lifetime, token_expires_at);
    Some(key.issue(token.hash(), expires_at))
}

fn ascii(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("printable ASCII")
}

/// The request's `Host`, which is kept: the field, or HTTP/2's `:authority`.
pub(super) fn host(request: &Parts) -> Option<HeaderValue> {
    match request.headers.get(HOST) {
        Some(host) => Some(host.clone()),
        None => HeaderValue::from_str(request.uri.authority()?.as_str()).ok(),
    }
}

#[cfg(test)]
mod tests;
