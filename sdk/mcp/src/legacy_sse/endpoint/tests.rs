use super::*;
use crate::ErrorKind;

fn resolved(reference: &str) -> Result<String, ErrorKind> {
    let base = Uri::from_static("https://Mcp.example:8443/a/b/sse?x=1");
    resolve(&base, reference)
        .map(|uri| uri.to_string())
        .map_err(|e| e.kind())
}

/// The rest of the table stands in the tests of `bowline_transport::redirect`.
#[test]
fn references_are_resolved_against_the_stream_s_uri() {
    for (reference, path) in [
        ("message?s=7", "/a/b/message?s=7"),
        ("?s=a:b/c", "/a/b/sse?s=a:b/c"),
        ("https://MCP.example:8443/m?s=7", "/m?s=7"),
    ] {
        let target = format!("https://mcp.example:8443{path}");
        assert_eq!(resolved(reference), Ok(target), "{reference}");
    }
}

#[test]
fn an_endpoint_on_another_origin_is_refused() {
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
            Err(ErrorKind::EndpointOnOtherOrigin),
            "{reference}"
        );
    }
}

#[test]
fn an_endpoint_that_is_not_an_http_uri_is_refused() {
    let long = format!("/{}", "x".repeat(MAX_ENDPOINT));
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
