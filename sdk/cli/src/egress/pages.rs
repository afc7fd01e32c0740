//! Requests that a web page has a browser of this machine, or of a caller's, send (GW-7).
//!
//! A page can send a simple request, one without a preflight, to any port of loopback: its `Host` is
//! right, the browser is a process of this user, and the certificate of the egress goes with it as a
//! cookie would, whether or not it brings a token. So it is with a listener that ends TLS, if the
//! browser has a certificate of a caller. What a page cannot do is keep the browser from saying where
//! the request comes from.
//!
//! Two fields say it. Browsers of today send `Sec-Fetch-Site` with every request to loopback and over
//! TLS, and all of them `Origin` with all but a plain GET or HEAD. `Referer` proves nothing: a page can
//! leave it out, and some agents' libraries send it after a redirect.

use http::header::ORIGIN;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::names::HostPort;
use super::refused::Refused;

/// Only browsers send it.
pub(super) const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// How a request came in.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way<'a> {
    /// On a port, to the listener itself, which has these names. To a browser that is an origin of
    /// its own, which some other program may have had before: so what it calls `same-origin` says
    /// nothing of the origin that the request goes on to, and neither does `none`, which is what a
    /// redirect of the first page of a tab gets.
    Port {
        own: &'a [HostPort],
        /// Whether the listener ends TLS.
        over_tls: bool,
    },
    /// To the listener itself, on a Unix socket: no browser reaches it.
    Socket,
    /// Over TLS, by the origin's own name: there a browser keeps pages of different origins apart.
    Tunnel,
}

/// # Errors
/// 403 for a request of a page that is not the origin's own, and on a port for any of a browser.
pub(crate) fn check(headers: &HeaderMap, name: &HostPort, way: Way<'_>) -> Result<(), Refused> {
    if matches!(way, Way::Socket) {
        return Ok(());
    }
    let passes = |site: &HeaderValue| {
        matches!(way, Way::Tunnel) && matches!(site.as_bytes(), b"none" | b"same-origin")
    };
    if !headers.get_all(&SEC_FETCH_SITE).iter().all(passes) {
        return Err(refused(
            "browser",
            format!(
                "https://{name}: this egress passes on no request of a web page in a browser \
                 (Sec-Fetch-Site)"
            ),
        ));
    }
    let is_known = |origin: &HeaderValue| is_of(origin, name) || is_listener(origin, way);
    if !headers.get_all(ORIGIN).iter().all(is_known) {
        return Err(refused(
            "foreign_origin",
            format!("https://{name}: this egress passes on no request of another origin (Origin)"),
        ));
    }
    Ok(())
}

/// Whether an `Origin`, or a URL, is of this origin.
pub(super) fn is_of(value: &HeaderValue, name: &HostPort) -> bool {
    let url = value
        .to_str()
        .ok()
        .and_then(|text| text.strip_prefix("https://"));
    let authority = url.map(|url| url.split(['/', '?', '#']).next().unwrap_or_default());
    authority
        .and_then(HostPort::parse)
        .is_some_and(|of| of == *name)
}

/// Whether an `Origin` is the listener by one of its names, as an agent writes it that takes the
/// listener for the server.
fn is_listener(value: &HeaderValue, way: Way<'_>) -> bool {
    let Way::Port { own, over_tls } = way else {
        return false;
    };
    own.iter().any(|name| {
        if over_tls {
            return is_of(value, name);
        }
        let origin = match name.port() {
            80 => format!("http://{}", name.host()),
            port => format!("http://{}:{port}", name.host()),
        };
        value.as_bytes().eq_ignore_ascii_case(origin.as_bytes())
    })
}

fn refused(reason: &'static str, text: String) -> Refused {
    Refused::new(StatusCode::FORBIDDEN, reason, text)
}

#[cfg(test)]
mod tests;
