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
        // These split no field value and no request line.
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
