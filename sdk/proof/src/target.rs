//! `htu`: the target URI of a request, in the one form that two ends can compare (PR-7).

use std::{fmt, str::FromStr};

use http::Uri;

/// The `htu` of a request to the absolute `uri`: `scheme://authority/path`, normalised (PR-7).
///
/// Scheme and host in lower case, the default port dropped, percent-encoding normalised (RFC 3986
/// §6.2.2), dot segments removed, an empty path written `/`, query and fragment left out. Bytes
/// that no URI may hold but [`Uri`] lets through are percent-encoded.
///
/// # Errors
/// The URI is relative, is not `http` or `https`, names a user, or has a damaged port or
/// percent-encoding.
pub fn target_uri(uri: &Uri) -> Result<String, InvalidTarget> {
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(InvalidTarget::NotAbsolute);
    };
    let origin = Origin::of(scheme, authority.as_str())?;
    Ok(origin.0 + &normal_path(uri.path())?)
}

/// An external origin of a server, such as `https://api.example.com`.
///
/// [`FromStr`] normalises as [`target_uri`] does; `Display` shows the normalised form.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin(String);

impl Origin {
    /// The normalised origin, without a slash at the end.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn of(scheme: &str, authority: &str) -> Result<Self, InvalidTarget> {
        let scheme = scheme.to_ascii_lowercase();
        let default_port = match scheme.as_str() {
            "https" => 443,
            "http" => 80,
            _ => return Err(InvalidTarget::Scheme),
        };
        let (host, port) = split_authority(authority)?;
        let host = host.to_ascii_lowercase();
        match port {
            Some(port) if port != default_port => Ok(Self(format!("{scheme}://{host}:{port}"))),
            _ => Ok(Self(format!("{scheme}://{host}"))),
        }
    }
}

impl FromStr for Origin {
    type Err = InvalidTarget;

    /// # Errors
    /// As [`target_uri`]; and when there is a path other than `/`, a query or a fragment.
    fn from_str(text: &str) -> Result<Self, InvalidTarget> {
        let (scheme, authority, path) = split_absolute(text).ok_or(InvalidTarget::NotAbsolute)?;
        match path {
            "" | "/" => Self::of(scheme, authority),
            _ => Err(InvalidTarget::Path),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which `htu` values name this server: its configured external origins, never a `Host` that the
/// client chose, and whether a bare absolute path is taken too (PR-7).
///
/// The default knows no origin and takes bare paths, so that *only* a bare path can match. A server
/// whose clients mint full URIs, as this SDK's do, must name its origins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Targets {
    origins: Vec<Origin>,
    bare_path: bool,
}

impl Default for Targets {
    fn default() -> Self {
        Self::new([])
    }
}

impl Targets {
    /// These origins, and bare absolute paths (the draft's example).
    pub fn new(origins: impl IntoIterator<Item = Origin>) -> Self {
        Self {
            origins: origins.into_iter().collect(),
            bare_path: true,
        }
    }

    /// Whether an `htu` that is a bare absolute path is taken.
    pub fn bare_path(mut self, accepted: bool) -> Self {
        self.bare_path = accepted;
        self
    }

    /// Whether `htu` is the URI of the request whose path is `path`, its query and fragment ignored
    /// (RFC 9449 §4.3 item 9). A bare path is no URI.
    pub(crate) fn match_absolute(&self, htu: &str, path: &str) -> bool {
        let end = htu.find(['?', '#']).unwrap_or(htu.len());
        split_absolute(&htu[..end]).is_some_and(|(scheme, authority, presented)| {
            Origin::of(scheme, authority).is_ok_and(|origin| self.origins.contains(&origin))
                && matches!((normal_path(presented), normal_path(path)), (Ok(presented), Ok(path)) if presented == path)
        })
    }

    /// Whether `htu` names the request whose path is `path` (RS-9).
    ///
    /// An `htu` with a query or a fragment names nothing (PR-6).
    pub(crate) fn match_request(&self, htu: &str, path: &str) -> bool {
        let Ok(path) = normal_path(path) else {
            return false;
        };
        let named = |origin: Option<&Origin>, presented: &str| {
            normal_path(presented).is_ok_and(|presented| presented == path)
                && origin.map_or(self.bare_path, |origin| self.origins.contains(origin))
        };
        if htu.starts_with('/') {
            return named(None, htu);
        }
        split_absolute(htu).is_some_and(|(scheme, authority, presented)| {
            Origin::of(scheme, authority).is_ok_and(|origin| named(Some(&origin), presented))
        })
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

/// `scheme`, `authority` and whatever follows.
fn split_absolute(text: &str) -> Option<(&str, &str, &str)> {
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

/// Percent-encoding first, dot segments second: `%2E%2E` is `..` (RFC 3986 §6.2.2).
fn normal_path(path: &str) -> Result<String, InvalidTarget> {
    let path = if path.is_empty() { "/" } else { path };
    if !path.starts_with('/') {
        return Err(InvalidTarget::Path);
    }
    let encoded = normal_percent_encoding(path.as_bytes()).ok_or(InvalidTarget::Path)?;
    Ok(without_dot_segments(&encoded))
}

/// Escapes of unreserved characters decoded, all others in upper case; whatever may not stand bare
/// encoded. `None` for a damaged escape, a query or a fragment.
fn normal_percent_encoding(path: &[u8]) -> Option<String> {
    let mut normal = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        let (byte, stands_bare) = match first {
            b'?' | b'#' => return None,
            b'%' => {
                let (&[high, low], after) = rest.split_first_chunk()?;
                rest = after;
                let byte = hex_value(high)? << 4 | hex_value(low)?;
                // An escaped reserved character does not mean what it means bare: it stays escaped.
                (byte, is_unreserved(byte))
            }
            _ => (
                first,
                is_unreserved(first) || is_sub_delim(first) || b":@/".contains(&first),
            ),
        };
        if stands_bare {
            normal.push(char::from(byte));
        } else {
            normal.push_str(&format!("%{byte:02X}"));
        }
    }
    Some(normal)
}

/// RFC 3986 §5.2.4, for a path that starts with a slash.
fn without_dot_segments(path: &str) -> String {
    let mut kept = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            _ => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

fn hex_value(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

fn is_sub_delim(byte: u8) -> bool {
    b"!$&'()*+,;=".contains(&byte)
}
