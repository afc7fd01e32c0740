//! The URL of a gRPC interface.

use std::borrow::Cow;

use bowline_http_client::Origin;
use http::Uri;
use http::uri::PathAndQuery;

/// The absolute URL of a gRPC interface, whose URL in the card is `host:port` (A2A
/// `AgentInterface.url`); the SDK strips `http://` from a URL that has it.
///
/// The scheme is `https` (A2A §10.1), unless the transports allow `http` with this host and port
/// and do not allow `https`.
pub(crate) fn absolute_url<'a>(url: &'a str, allowed: &[Origin]) -> Cow<'a, str> {
    if url.contains("://") {
        return url.into();
    }
    let [tls, plain] = ["https", "http"].map(|scheme| format!("{scheme}://{url}"));
    let is_allowed = |url: &str| {
        let origin = url.parse().ok().and_then(|uri| Origin::from_uri(&uri).ok());
        origin.is_some_and(|origin| allowed.contains(&origin))
    };
    if !is_allowed(&tls) && is_allowed(&plain) {
        plain.into()
    } else {
        tls.into()
    }
}

/// Scheme and authority of a URL. Its path is ignored, as in the official transport: the path of a
/// gRPC call is `/service/method`, and few gRPC clients can send a prefix before it.
pub(crate) fn without_path(url: &Uri) -> Uri {
    let mut parts = url.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::from_static("/"));
    // Scheme and authority are still present.
    Uri::from_parts(parts).unwrap_or_else(|_| url.clone())
}

#[cfg(test)]
mod tests;
