//! What options are written as: durations, sizes, addresses, patterns, proof scopes.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use bowline::server::{ProxyName, Routes, Thumbprint};
use clap::ValueEnum;
use http::Uri;

/// Reads `15s`, `500ms`, `5m`, `1h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let wrong = || format!("`{text}` is no duration: write it as 500ms, 15s, 5m or 1h");
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let seconds = |each: u64| number.checked_mul(each).map(Duration::from_secs);
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => seconds(1),
        "m" => seconds(60),
        "h" => seconds(3600),
        _ => None,
    }
    .filter(|duration| !duration.is_zero())
    .ok_or_else(wrong)
}

/// Reads `64KiB`, `16MiB`, `1GiB`, or bytes.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let shift = match unit {
        "" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => u32::MAX,
    };
    let factor = 1_u64.checked_shl(shift);
    let number = number.parse::<u64>().ok();
    number
        .zip(factor)
        .and_then(|(number, factor)| number.checked_mul(factor))
        .ok_or_else(|| format!("`{text}` is no size: write it in bytes, or as 64KiB or 16MiB"))
}

/// Where the ingress listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ListenAt {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl FromStr for ListenAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some("") => Err("unix: needs the path of a socket".to_owned()),
            Some(path) => Ok(Self::Unix(path.into())),
            None => text.parse().map(Self::Tcp).map_err(|_| {
                format!(
                    "`{text}` is no address: write 0.0.0.0:8443, [::]:8443 or unix:/run/in.sock"
                )
            }),
        }
    }
}

impl std::fmt::Display for ListenAt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The folder that a path is in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A peer named by its client certificate: by its thumbprint, SPIFFE ID or subject.
pub(crate) fn certificate_name(text: &str) -> Option<ProxyName> {
    if text.starts_with("spiffe://") {
        return Some(ProxyName::SpiffeId(text.to_owned()));
    }
    match text.parse::<Thumbprint>() {
        Ok(thumbprint) => Some(ProxyName::Thumbprint(thumbprint)),
        Err(_) if text.contains('=') => Some(ProxyName::Subject(text.to_owned())),
        Err(_) => None,
    }
}

/// Where used proofs are stored. It is read later: the error of a parser of options would quote it,
/// and a password may stand in it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct StoreAt(String);

impl FromStr for StoreAt {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl StoreAt {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Shows no password.
impl std::fmt::Debug for StoreAt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StoreAt(redacted)")
    }
}

/// Where the service is that the ingress stands before (GW-2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum UpstreamAt {
    /// `localhost` is both loopback addresses, whatever a resolver says.
    Tcp(Vec<SocketAddr>),
    Unix(PathBuf),
}

impl FromStr for UpstreamAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path {
                "" => Err("unix: needs the path of a socket".to_owned()),
                path => Ok(Self::Unix(path.into())),
            };
        }
        let form = || {
            format!("`{text}` is no upstream: write unix:/run/app.sock or http://127.0.0.1:8000")
        };
        let uri: Uri = text.parse().map_err(|_| form())?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return Err(
                    "the upstream is reached without TLS, on this machine only (GW-2): write \
                     unix:/run/app.sock or http://127.0.0.1:8000"
                        .to_owned(),
                );
            }
            _ => return Err(form()),
        }
        let authority = uri.authority().ok_or_else(form)?;
        if authority.as_str().contains('@')
            || !matches!(uri.path(), "" | "/")
            || uri.query().is_some()
        {
            return Err(format!(
                "`{text}`: an upstream has no user name, path or query; requests keep theirs"
            ));
        }
        let port = match authority.port() {
            Some(_) => authority.port_u16().ok_or_else(form)?,
            None => 80,
        };
        let host = authority.host();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let not_here = || {
            format!(
                "`{host}` is not this machine's loopback: what the ingress says about a request \
                 must reach the upstream over a Unix socket (better) or loopback (GW-2)"
            )
        };
        if host.eq_ignore_ascii_case("localhost") {
            let both = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            return Ok(Self::Tcp(both.map(|ip| SocketAddr::new(ip, port)).to_vec()));
        }
        let ip: std::net::IpAddr = host.parse().map_err(|_| not_here())?;
        match ip.is_loopback() {
            true => Ok(Self::Tcp(vec![SocketAddr::new(ip, port)])),
            false => Err(not_here()),
        }
    }
}

impl std::fmt::Display for UpstreamAt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(addrs) => {
                let first = addrs.first().map(ToString::to_string);
                write!(f, "http://{}", first.unwrap_or_default())
            }
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// `[!][METHOD ](*|/path|/prefix/*)`: `!` takes out what other patterns choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    pub(crate) takes_out: bool,
    /// As [`bowline::server::Routes`] reads it.
    pub(crate) text: String,
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (takes_out, text) = match text.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        bowline::server::Routes::new([text]).map_err(|error| format!("`{text}`: {error}"))?;
        Ok(Self {
            takes_out,
            text: text.to_owned(),
        })
    }
}

/// Which requests the patterns of an option choose.
///
/// # Errors
/// They only take out.
pub(crate) fn routes(option: &str, patterns: &[Pattern]) -> Result<Routes, String> {
    let texts = |takes_out: bool| {
        let patterns = patterns.iter();
        patterns
            .filter(move |pattern| pattern.takes_out == takes_out)
            .map(|pattern| pattern.text.as_str())
    };
    if texts(false).next().is_none() && !patterns.is_empty() {
        return Err(format!(
            "{option} only takes out (`!`): give what it takes that from too, such as {option} '*'"
        ));
    }
    Routes::new(texts(false))
        .and_then(|routes| routes.except(texts(true)))
        .map_err(|error| format!("{option}: {error}"))
}

/// What a session-binding proof covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProofScope {
    /// One proof for each token and connection
    Connection,
    /// A proof for each request
    Request,
    /// The first request of each connection has its own, the later ones share one
    Adaptive,
}

impl ProofScope {
    /// As it is written on the command line.
    #[cfg(target_os = "linux")]
    pub(crate) fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

impl From<ProofScope> for bowline::ProofScope {
    fn from(scope: ProofScope) -> Self {
        match scope {
            ProofScope::Connection => Self::Connection,
            ProofScope::Request => Self::Request,
            ProofScope::Adaptive => Self::Adaptive,
        }
    }
}

#[cfg(test)]
mod tests;
