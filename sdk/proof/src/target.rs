//! `htu`: the target URI of a request, in the one form that two ends can compare (PR-7).
//!
//! No crate does this normalisation: `url` follows the WHATWG standard, which does not decode `%41`
//! and reads `\` as `/`; `fluent-uri` normalises as RFC 3986 §6.2.2 asks, but refuses bytes that
//! [`Uri`] lets through and PR-7 encodes.

use http::Uri;

use crate::origin::{InvalidTarget, Origin, is_sub_delim, is_unreserved, split_absolute};

/// The `htu` of a request to the absolute `uri`: `scheme://authority/path`, normalised (PR-7).
///
/// Scheme and host in lower case, the default port dropped, percent-encoding normalised (RFC 3986
/// §6.2.2), dot segments removed, an empty path written `/`, query and fragment left out. Bytes
/// that no URI may hold but [`Uri`] lets through are percent-encoded.
///
/// # Errors
/// The URI is relative, is not `http` or `https`, has user information, or has a damaged port or
/// percent-encoding.
pub fn target_uri(uri: &Uri) -> Result<String, InvalidTarget> {
    let origin = Origin::from_uri(uri)?;
    Ok(origin.as_str().to_owned() + &normal_path(uri.path())?)
}

/// Which `htu` values name this server: its configured external origins, never a `Host` that the
/// client chose, and whether a bare absolute path is accepted too (PR-7).
///
/// The default has no origin and accepts bare paths, so that *only* a bare path can match. A server
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

    /// Whether an `htu` that is a bare absolute path is accepted.
    pub fn bare_path(mut self, accepted: bool) -> Self {
        self.bare_path = accepted;
        self
    }

    /// Whether `htu` is the URI of the request whose path is `path`, its query and fragment ignored
    /// (RFC 9449 §4.3 item 9). A bare path is not a URI.
    pub(crate) fn match_absolute(&self, htu: &str, path: &str) -> bool {
        let end = htu.find(['?', '#']).unwrap_or(htu.len());
        split_absolute(&htu[..end]).is_some_and(|(scheme, authority, presented)| {
            Origin::from_parts(scheme, authority).is_ok_and(|origin| self.origins.contains(&origin))
                && normal_path(path).is_ok_and(|path| normal_path(presented) == Ok(path))
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
            Origin::from_parts(scheme, authority)
                .is_ok_and(|origin| named(Some(&origin), presented))
        })
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

/// Decodes the escapes of unreserved characters, writes all other escapes in upper case, and
/// escapes every byte that a path may not contain literally. `None` for a damaged escape, a query
/// or a fragment.
fn normal_percent_encoding(path: &[u8]) -> Option<String> {
    let mut normal = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        let (byte, is_literal) = match first {
            b'?' | b'#' => return None,
            b'%' => {
                let (&[high, low], after) = rest.split_first_chunk()?;
                rest = after;
                let byte = hex_value(high)? << 4 | hex_value(low)?;
                // A reserved character means something else when it is escaped: it stays escaped.
                (byte, is_unreserved(byte))
            }
            _ => (
                first,
                is_unreserved(first) || is_sub_delim(first) || b":@/".contains(&first),
            ),
        };
        if is_literal {
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
