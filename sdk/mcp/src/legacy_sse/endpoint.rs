//! Where the server wants the messages: the `endpoint` event.

use bowline_client::Origin;
use http::Uri;
use url::Url;

use crate::Error;
use crate::error::Cause;

/// As long as an endpoint may be, in bytes.
const LONGEST: usize = 2048;

/// The absolute URI that `reference`, the data of an `endpoint` event of the stream at `base`,
/// stands for.
///
/// # Errors
/// `InvalidEndpoint` if it is none, is longer than 2,048 bytes, or has user information;
/// `EndpointElsewhere` if it leads to another origin: no token and no proof goes there (CL-6).
pub(super) fn resolve(base: &Uri, reference: &str) -> Result<Uri, Error> {
    let unusable = |why| Error::from(Cause::UnusableEndpoint(why));
    if reference.len() > LONGEST {
        return Err(unusable("it is longer than 2048 bytes"));
    }
    let url = Url::parse(&base.to_string()).and_then(|base| base.join(reference));
    let mut url = url.map_err(|_| unusable("it is no URL"))?;
    url.set_fragment(None);
    let uri = Uri::try_from(url.as_str()).map_err(|_| unusable("it is no URI"))?;
    let there = Origin::from_uri(&uri)
        .map_err(|_| unusable("it is no http or https URI, or has user information"))?;
    let here = Origin::from_uri(base).map_err(bowline_client::Error::from)?;
    if there != here {
        let (here, there) = (here.to_string(), there.to_string());
        return Err(Cause::EndpointElsewhere { here, there }.into());
    }
    Ok(uri)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn resolved(reference: &str) -> Result<String, ErrorKind> {
        let base = Uri::from_static("https://Mcp.example:8443/a/b/sse?x=1");
        resolve(&base, reference)
            .map(|uri| uri.to_string())
            .map_err(|e| e.kind())
    }

    #[test]
    fn references_are_resolved_against_the_stream_s_uri() {
        let root = "https://mcp.example:8443";
        for (reference, target) in [
            ("/messages/?session_id=7", "/messages/?session_id=7"),
            ("/message#part", "/message"),
            ("message?s=7", "/a/b/message?s=7"),
            ("../message", "/a/message"),
            ("/../../x/..", "/"),
            ("?s=a:b/c", "/a/b/sse?s=a:b/c"),
            ("", "/a/b/sse?x=1"),
            ("//mcp.example:8443/m", "/m"),
            ("https://MCP.example:8443/m?s=7", "/m?s=7"),
            // No field value and no request line is split by these.
            ("/a b\r\nx: y", "/a%20bx:%20y"),
        ] {
            assert_eq!(
                resolved(reference),
                Ok(format!("{root}{target}")),
                "{reference}"
            );
        }
    }

    #[test]
    fn nothing_leads_to_another_origin() {
        for reference in [
            "https://evil.example/m",
            "https://mcp.example/m",
            "http://mcp.example:8443/m",
            "//evil.example:8443/m",
            r"/\evil.example:8443/m",
            "https://mcp.example.evil.example:8443/",
        ] {
            assert_eq!(
                resolved(reference),
                Err(ErrorKind::EndpointElsewhere),
                "{reference}"
            );
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
            "https://",
            "///evil.example:8443/m",
            "//",
            &long,
        ] {
            assert_eq!(
                resolved(reference),
                Err(ErrorKind::InvalidEndpoint),
                "{reference}"
            );
        }
    }
}
