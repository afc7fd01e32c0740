//! Origins: scheme, host and port, in one normalised form.

use std::{
    fmt::{self, Write},
    str::FromStr,
};

use http::Uri;

/// An origin (RFC 6454), such as `https://api.example.com`: the unit that connections and proofs
/// never leave (CL-6), and one name of a server (PR-7).
///
/// Normalised as [`target_uri`](crate::target_uri) does it: scheme and host in lower case, without
/// the default port. `Display` and `Debug` show that form.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The normalised form. The other fields only say where its parts are.
    text: String,
    host_end: usize,
    port: u16,
}

impl Origin {
    /// The origin of an absolute `https` or `http` URI.
    ///
    /// # Errors
    /// The URI is relative, has another scheme or user information, or its host or port is
    /// malformed.
    pub fn from_uri(uri: &Uri) -> Result<Self, InvalidTarget> {
        match (uri.scheme_str(), uri.authority()) {
            (Some(scheme), Some(authority)) => Self::from_parts(scheme, authority.as_str()),
            _ => Err(InvalidTarget::NotAbsolute),
        }
    }

    pub(crate) fn from_parts(scheme: &str, authority: &str) -> Result<Self, InvalidTarget> {
        let (prefix, default_port) = if scheme.eq_ignore_ascii_case("https") {
            (HTTPS, 443)
        } else if scheme.eq_ignore_ascii_case("http") {
            (HTTP, 80)
        } else {
            return Err(InvalidTarget::Scheme);
        };
        let (host, port) = split_authority(authority)?;
        let port = port.unwrap_or(default_port);
        let mut text = String::with_capacity(prefix.len() + authority.len());
        text.push_str(prefix);
        text.push_str(host);
        text.make_ascii_lowercase();
        let host_end = text.len();
        if port != default_port {
            write!(text, ":{port}").expect("a string takes everything");
        }
        Ok(Self {
            text,
            host_end,
            port,
        })
    }

    /// The normalised origin, without a slash at the end.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether requests travel in TLS.
    pub fn is_https(&self) -> bool {
        self.text.starts_with(HTTPS)
    }

    /// Host and port, the default port left out: the value of `Host` (RFC 9110 §7.2).
    pub fn authority(&self) -> &str {
        &self.text[self.host_start()..]
    }

    /// The host: lower-case, an IPv6 address in brackets.
    pub fn host(&self) -> &str {
        &self.text[self.host_start()..self.host_end]
    }

    /// The port: the scheme's default if the URI has none.
    pub fn port(&self) -> u16 {
        self.port
    }

    fn host_start(&self) -> usize {
        if self.is_https() {
            HTTPS.len()
        } else {
            HTTP.len()
        }
    }
}

const HTTPS: &str = "https://";
const HTTP: &str = "http://";

impl FromStr for Origin {
    type Err = InvalidTarget;

    /// # Errors
    /// As [`from_uri`](Self::from_uri); and when there is a path other than `/`, a query or a
    /// fragment.
    fn from_str(text: &str) -> Result<Self, InvalidTarget> {
        let (scheme, authority, path) = split_absolute(text).ok_or(InvalidTarget::NotAbsolute)?;
        match path {
            "" | "/" => Self::from_parts(scheme, authority),
            _ => Err(InvalidTarget::Path),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A URI that cannot be the target of a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidTarget {
    /// Relative, or without an authority.
    #[error("the URI is not absolute: write it as https://host/path")]
    NotAbsolute,
    /// Neither `http` nor `https`.
    #[error("the URI's scheme is neither https nor http")]
    Scheme,
    /// An empty or malformed host, a malformed port, or user information.
    #[error("the URI's authority must be a host and an optional port, without user information")]
    Authority,
    /// The path does not start with a slash or has a damaged percent-encoding; in an [`Origin`],
    /// any path.
    #[error("the URI's path is malformed, or stands where only an origin may")]
    Path,
}

/// `scheme`, `authority` and the rest.
pub(crate) fn split_absolute(text: &str) -> Option<(&str, &str, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    Some((scheme, authority, path))
}

/// The host and the port, if there is one. User information would be an `@` in the host or the
/// port.
fn split_authority(authority: &str) -> Result<(&str, Option<u16>), InvalidTarget> {
    let is_ip_literal = authority.starts_with('[');
    let host_end = if is_ip_literal {
        authority.find(']').ok_or(InvalidTarget::Authority)? + 1
    } else {
        authority.find(':').unwrap_or(authority.len())
    };
    let (host, port) = authority.split_at(host_end);
    let allowed = |b: u8| {
        if is_ip_literal {
            b.is_ascii_hexdigit() || b"[]:.".contains(&b)
        } else {
            is_unreserved(b) || is_sub_delim(b)
        }
    };
    if host.is_empty() || !host.bytes().all(allowed) {
        return Err(InvalidTarget::Authority);
    }
    match port {
        // An empty port is the default one (RFC 3986 §6.2.3).
        "" | ":" => Ok((host, None)),
        _ => port
            .strip_prefix(':')
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|digits| digits.parse().ok())
            .map(|port| (host, Some(port)))
            .ok_or(InvalidTarget::Authority),
    }
}

pub(crate) fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

pub(crate) fn is_sub_delim(byte: u8) -> bool {
    b"!$&'()*+,;=".contains(&byte)
}
