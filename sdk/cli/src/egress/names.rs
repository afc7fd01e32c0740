//! Which origin a request is for, if all that it says about that agrees (GW-6).

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use http::header::HOST;
use http::request::Parts;
use http::uri::Scheme;
use http::{HeaderMap, Method, StatusCode, Version};

use super::answer::Refused;
use crate::passing::fields::ask_for_websocket;

const HTTPS_PORT: u16 = 443;

/// A host and a port, to be compared: the host in lower case, without a dot at its end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct HostPort {
    host: String,
    port: u16,
}

impl HostPort {
    /// Reads `host[:port]`, an IPv6 address in brackets; without a port it is 443.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (text, None),
        };
        let port = match port {
            None => HTTPS_PORT,
            // `parse` alone would take a sign.
            Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => port.parse().ok()?,
            Some(_) => return None,
        };
        let host = host_name(host)?;
        (port != 0).then_some(Self { host, port })
    }

    /// Reads an origin.
    ///
    /// # Errors
    /// It is not `https://HOST[:PORT]`.
    pub(crate) fn from_origin(text: &str) -> Result<Self, String> {
        let origin = text
            .strip_prefix("https://")
            .ok_or("an origin begins with https://")?;
        let origin = origin.strip_suffix('/').unwrap_or(origin);
        if origin.contains(['/', '?', '#']) {
            return Err("an origin has no path".to_owned());
        }
        Self::parse(origin).ok_or_else(|| "no host name, or a bad port".to_owned())
    }

    /// The host; an IPv6 address in brackets.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn ip(&self) -> Option<IpAddr> {
        self.host.trim_matches(['[', ']']).parse().ok()
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            HTTPS_PORT => f.write_str(&self.host),
            port => write!(f, "{}:{port}", self.host),
        }
    }
}

fn host_name(text: &str) -> Option<String> {
    if let Some(inner) = text.strip_prefix('[') {
        let address: Ipv6Addr = inner.strip_suffix(']')?.parse().ok()?;
        return Some(format!("[{address}]"));
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let is_name = name.len() <= 253 && name.split('.').all(label);
    // `127.1`, `0x7f.1` and `2130706433` are addresses to some resolvers: a last label that begins
    // with a digit is allowed in an address of four decimal numbers only (WHATWG URL section 3.5).
    let last = name.rsplit('.').next()?;
    let is_number = last.starts_with(|c: char| c.is_ascii_digit());
    if !is_name || (is_number && name.parse::<IpAddr>().is_err()) {
        return None;
    }
    Some(name.to_ascii_lowercase())
}

/// The origins that the egress is for, all of them `https`.
#[derive(Clone, Debug)]
pub(crate) struct Allowed(Vec<HostPort>);

impl Allowed {
    /// # Errors
    /// One of them has no DNS name.
    pub(crate) fn check_interceptable(&self) -> Result<(), String> {
        match self.0.iter().find(|origin| origin.ip().is_some()) {
            None => Ok(()),
            Some(origin) => Err(format!(
                "https://{origin}: an IP address cannot be intercepted: the local authority's name \
                 constraints exclude all addresses; allow a host name"
            )),
        }
    }

    pub(crate) fn contains(&self, name: &HostPort) -> bool {
        self.0.contains(name)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &HostPort> {
        self.0.iter()
    }
}

impl FromIterator<HostPort> for Allowed {
    fn from_iter<I: IntoIterator<Item = HostPort>>(origins: I) -> Self {
        Self(origins.into_iter().collect())
    }
}

/// What is known of an intercepted connection before its first request.
#[derive(Clone, Debug)]
pub(crate) struct Intercepted {
    /// The authority of the `CONNECT`, an allowed origin.
    pub(crate) connect: HostPort,
    /// The name that the agent's TLS asked for.
    pub(crate) sni: Option<String>,
}

/// A request inside an intercepted connection: whether it is for that connection's origin.
///
/// # Errors
/// 421 if any of its names is of another origin, 400 if one cannot be read.
pub(crate) fn check_intercepted(on: &Intercepted, request: &Parts) -> Result<(), Refused> {
    match &on.sni {
        // Without a port, since TLS names hosts.
        Some(sni) if host_name(sni).as_deref() == Some(on.connect.host()) => {}
        _ => return Err(misdirected("sni")),
    }
    if request.method == Method::CONNECT {
        return Err(no_connect());
    }
    if let Some(scheme) = request.uri.scheme()
        && *scheme != Scheme::HTTPS
    {
        return Err(misdirected("scheme"));
    }
    let target = target(request)?;
    let host = host(request)?;
    if request.version < Version::HTTP_2 && host.is_none() {
        return Err(malformed("host_missing"));
    }
    if target.is_none() && host.is_none() {
        return Err(malformed("host_missing"));
    }
    for (name, reason) in [(target, "target"), (host, "host")] {
        if name.is_some_and(|name| name != on.connect) {
            return Err(misdirected(reason));
        }
    }
    Ok(())
}

/// What requests on the listener itself are checked by.
pub(crate) struct Direct<'a> {
    pub(crate) allowed: &'a Allowed,
    /// Of the reverse proxy.
    pub(crate) upstream: Option<&'a HostPort>,
    /// The names of the listener (GW-5). `None`: any, as on a Unix socket.
    pub(crate) own: Option<&'a [HostPort]>,
    /// The listener ends TLS: then HTTP/2 writes `https` on every request.
    pub(crate) over_tls: bool,
}

impl Direct<'_> {
    /// The origin that a request's target names, or else the one of the reverse proxy. HTTP/2 writes a
    /// scheme and an authority on every request, so there an allowed origin as authority is what an
    /// absolute target is in HTTP/1.1.
    ///
    /// # Errors
    /// Those of [`check_absolute`] and [`check_reverse`]; 421 where no origin is named.
    pub(crate) fn check(&self, request: &Parts) -> Result<HostPort, Refused> {
        let is_h2 = request.version >= Version::HTTP_2;
        let is_absolute = match is_h2 {
            false => request.uri.scheme().is_some(),
            // One that cannot be read is no allowed origin.
            true => matches!(target(request), Ok(Some(name)) if self.allowed.contains(&name)),
        };
        match self.upstream {
            _ if is_absolute => check_absolute(self.allowed, is_h2 && self.over_tls, request),
            Some(upstream) => {
                check_reverse(upstream, self.own, request)?;
                Ok(upstream.clone())
            }
            None => Err(Refused::new(
                StatusCode::MISDIRECTED_REQUEST,
                "no_origin",
                "this is a proxy, and the request's target names no allowed origin",
            )),
        }
    }
}

/// A request to the proxy itself in absolute form: `http://host[:port]` means the allowed `https`
/// origin of that host and port, 443 where none is written.
///
/// # Errors
/// As [`check_intercepted`]; 403 for an origin that is not allowed.
fn check_absolute(
    allowed: &Allowed,
    may_be_https: bool,
    request: &Parts,
) -> Result<HostPort, Refused> {
    let scheme = request.uri.scheme();
    if scheme != Some(&Scheme::HTTP) && !(may_be_https && scheme == Some(&Scheme::HTTPS)) {
        return Err(Refused::new(
            StatusCode::BAD_REQUEST,
            "scheme",
            "an https origin is reached by CONNECT, or by http:// in an absolute target",
        ));
    }
    let target = target(request)?.ok_or_else(|| malformed("target"))?;
    match host(request)? {
        None if request.version != Version::HTTP_11 => {}
        None => return Err(malformed("host_missing")),
        Some(host) if host == target => {}
        Some(_) => return Err(misdirected("host")),
    }
    match allowed.contains(&target) {
        true => Ok(target),
        false => Err(Refused::new(
            StatusCode::FORBIDDEN,
            "not_allowed",
            "this origin is not allowed: --allow names those that are",
        )),
    }
}

/// A request to a reverse proxy for one origin: its `Host` is that origin, or one of `own`, the
/// names of the listener (GW-5). `None`: any, as on a Unix socket.
///
/// # Errors
/// As [`check_intercepted`].
fn check_reverse(
    upstream: &HostPort,
    own: Option<&[HostPort]>,
    request: &Parts,
) -> Result<(), Refused> {
    let Some(own) = own else { return Ok(()) };
    let names = [target(request)?, host(request)?];
    let mut names = names.iter().flatten().peekable();
    if names.peek().is_none() {
        return Err(malformed("host_missing"));
    }
    match names.all(|name| name == upstream || own.contains(name)) {
        true => Ok(()),
        false => Err(misdirected("host")),
    }
}

/// The names by which a listener on loopback is reached.
pub(crate) fn own_names(port: u16) -> Vec<HostPort> {
    ["localhost", "127.0.0.1", "[::1]"]
        .map(|host| HostPort {
            host: host.to_owned(),
            port,
        })
        .into()
}

/// An absolute target's authority, or `:authority`.
fn target(request: &Parts) -> Result<Option<HostPort>, Refused> {
    let Some(authority) = request.uri.authority() else {
        return Ok(None);
    };
    let name = HostPort::parse(authority.as_str());
    name.map(Some).ok_or_else(|| malformed("target"))
}

fn host(request: &Parts) -> Result<Option<HostPort>, Refused> {
    let mut fields = request.headers.get_all(HOST).iter();
    let field = match (fields.next(), fields.next()) {
        (_, Some(_)) => return Err(malformed("host")),
        (None, None) => return Ok(None),
        (Some(field), None) => field,
    };
    let name = field.to_str().ok().and_then(HostPort::parse);
    name.map(Some).ok_or_else(|| malformed("host"))
}

/// Refuses what leaves HTTP: nothing would know what is said after it.
pub(crate) fn check_upgrade(headers: &HeaderMap) -> Result<(), Refused> {
    match ask_for_websocket(headers) {
        false => Ok(()),
        true => Err(Refused::new(
            StatusCode::NOT_IMPLEMENTED,
            "websocket",
            "WebSocket is not supported: no proof covers what comes after the handshake",
        )),
    }
}

fn misdirected(reason: &'static str) -> Refused {
    Refused::new(
        StatusCode::MISDIRECTED_REQUEST,
        reason,
        "the connection and the request name different origins",
    )
}

fn malformed(reason: &'static str) -> Refused {
    Refused::new(
        StatusCode::BAD_REQUEST,
        reason,
        "the request names no host, several, or one that cannot be read",
    )
}

fn no_connect() -> Refused {
    Refused::new(
        StatusCode::NOT_IMPLEMENTED,
        "connect",
        "CONNECT is not supported inside a connection",
    )
}

#[cfg(test)]
mod tests;
