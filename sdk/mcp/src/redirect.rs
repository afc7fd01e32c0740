//! Redirects that stay where they are: 307 and 308 to the same origin, which ask for the same request elsewhere.
//!
//! Nothing is sent along: what follows is a request of its own, and its token and proof stay at their origin (CL-6).
//! Any other redirect is the caller's to judge.

use bowline_client::Origin;
use http::header::LOCATION;
use http::response::Parts;
use http::{StatusCode, Uri};
use url::Url;

/// As many are followed.
pub(crate) const MOST: usize = 10;

/// Where a response sends a request to `from` on to, if to the same origin.
pub(crate) fn onward(from: &Uri, head: &Parts) -> Option<Uri> {
    if !matches!(
        head.status,
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT
    ) {
        return None;
    }
    let location = head.headers.get(LOCATION)?.to_str().ok()?;
    let target = Url::parse(&from.to_string()).ok()?.join(location).ok()?;
    let target = Uri::try_from(target.as_str()).ok()?;
    // Also refuses user information in the target.
    let origin = Origin::of(&target).ok()?;
    (Origin::of(from).ok()? == origin).then_some(target)
}

#[cfg(test)]
mod tests {
    use http::Response;

    use super::*;

    fn target(status: u16, location: &str) -> Option<String> {
        let response = Response::builder().status(status).header(LOCATION, location).body(());
        let from = Uri::from_static("https://mcp.example.com/v1/mcp?x=1");
        onward(&from, &response.unwrap().into_parts().0).map(|uri| uri.to_string())
    }

    #[test]
    fn only_a_307_or_308_to_the_same_origin_is_followed() {
        for (location, followed) in [
            ("/v2", Some("https://mcp.example.com/v2")),
            ("v2", Some("https://mcp.example.com/v1/v2")),
            ("?y=2", Some("https://mcp.example.com/v1/mcp?y=2")),
            ("../v2#part", Some("https://mcp.example.com/v2")),
            ("HTTPS://MCP.example.com:443/v2", Some("https://mcp.example.com/v2")),
            ("//mcp.example.com/v2", Some("https://mcp.example.com/v2")),
            ("http://mcp.example.com/v2", None),
            ("https://mcp.example.com:8443/v2", None),
            ("https://example.com/v2", None),
            ("//example.com/v2", None),
            ("https://user:pw@mcp.example.com/v2", None),
            ("https://mcp.example.com.evil.com/v2", None),
            (r"/\evil.com/v2", None),
            ("data:x", None),
        ] {
            for status in [307, 308] {
                assert_eq!(target(status, location).as_deref(), followed, "{status} {location}");
            }
            for status in [300, 301, 302, 303, 304, 200, 404] {
                assert_eq!(target(status, location), None, "{status} {location}");
            }
        }
    }
}
