//! Where the server wants the messages: the `endpoint` event.

use std::borrow::Cow;

use bowline_client::Origin;
use http::Uri;

use crate::Error;
use crate::error::Cause;

/// As long as an endpoint may be, in octets.
const LONGEST: usize = 2048;

/// The absolute URI that `reference`, the data of an `endpoint` event of the stream at `base`, stands for.
///
/// # Errors
/// `InvalidEndpoint` if it is none, is longer than 2,048 octets, or has user information; `EndpointElsewhere` if it leads
/// to another origin: no token and no proof goes there (CL-6).
pub(super) fn resolve(base: &Uri, reference: &str) -> Result<Uri, Error> {
    let unusable = |why| Error::from(Cause::UnusableEndpoint(why));
    if reference.len() > LONGEST {
        return Err(unusable("it is longer than 2048 octets"));
    }
    let (scheme, authority) = match (base.scheme_str(), base.authority()) {
        (Some(scheme), Some(authority)) => (scheme, authority.as_str()),
        _ => return Err(unusable("the stream's own URI is not absolute")),
    };
    let reference = reference.split('#').next().unwrap_or_default();
    let absolute = if has_scheme(reference) {
        reference.to_owned()
    } else if reference.starts_with("//") {
        format!("{scheme}:{reference}")
    } else {
        format!("{scheme}://{authority}{}", merge(base, reference))
    };
    let uri = Uri::try_from(absolute).map_err(|_| unusable("it is no URI"))?;
    let there = Origin::of(&uri).map_err(|_| unusable("it is no http or https URI, or has user information"))?;
    let here = Origin::of(base)?;
    if there != here {
        let (here, there) = (here.to_string(), there.to_string());
        return Err(Cause::EndpointElsewhere { here, there }.into());
    }
    Ok(uri)
}

/// Whether a reference starts with a scheme (RFC 3986 §3.1), and so is no path.
fn has_scheme(reference: &str) -> bool {
    let Some((scheme, _)) = reference.split_once(':') else {
        return false;
    };
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'-' | b'.'))
}

/// Path and query of a reference that has neither scheme nor authority (RFC 3986 §5.2.2).
fn merge(base: &Uri, reference: &str) -> String {
    let (path, query) = match reference.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (reference, None),
    };
    let path = match path {
        "" => Cow::Borrowed(base.path()),
        _ if path.starts_with('/') => Cow::Owned(without_dots(path)),
        _ => {
            let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
            Cow::Owned(without_dots(&format!("{folder}/{path}")))
        }
    };
    match query.or(if reference.is_empty() { base.query() } else { None }) {
        Some(query) => format!("{path}?{query}"),
        None => path.into_owned(),
    }
}

/// RFC 3986 §5.2.4, for a path that starts with a slash.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if is_last {
                    kept.push("");
                }
            }
            _ => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    fn resolved(reference: &str) -> Result<String, Kind> {
        let base = Uri::from_static("https://Mcp.example:8443/a/b/sse?x=1");
        resolve(&base, reference)
            .map(|uri| uri.to_string())
            .map_err(|e| e.kind())
    }

    #[test]
    fn references_are_resolved_against_the_stream_s_uri() {
        let root = "https://Mcp.example:8443";
        for (reference, target) in [
            ("/messages/?session_id=7", "/messages/?session_id=7"),
            ("/message#part", "/message"),
            ("message?s=7", "/a/b/message?s=7"),
            ("../message", "/a/message"),
            ("./message/.", "/a/b/message/"),
            ("/../../x/..", "/"),
            ("?s=a:b/c", "/a/b/sse?s=a:b/c"),
            ("", "/a/b/sse?x=1"),
            ("//mcp.example:8443/m", "/m"),
        ] {
            let target = match reference {
                "//mcp.example:8443/m" => format!("https://mcp.example:8443{target}"),
                _ => format!("{root}{target}"),
            };
            assert_eq!(resolved(reference), Ok(target), "{reference}");
        }
        let absolute = "https://mcp.example:8443/m?s=7";
        assert_eq!(resolved(absolute).as_deref(), Ok(absolute));
    }

    #[test]
    fn nothing_leads_to_another_origin() {
        for reference in [
            "https://evil.example/m",
            "https://mcp.example/m",
            "http://mcp.example:8443/m",
            "//evil.example:8443/m",
            "https://mcp.example.evil.example:8443/",
        ] {
            assert_eq!(resolved(reference), Err(Kind::EndpointElsewhere), "{reference}");
        }
    }

    #[test]
    fn what_is_no_uri_of_ours_is_refused() {
        let long = format!("/{}", "x".repeat(LONGEST));
        for reference in [
            "https://mcp.example:8443@evil.example/m",
            "https://user@mcp.example:8443/m",
            "ftp://mcp.example:8443/m",
            "data:text/plain,x",
            "/a b",
            "/a\u{7}",
            "/a\r\nx: y",
            "https://",
            "//",
            "///m",
            &long,
        ] {
            assert_eq!(resolved(reference), Err(Kind::InvalidEndpoint), "{reference}");
        }
    }
}
