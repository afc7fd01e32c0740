use http::Response;

use super::*;

fn target(status: u16, location: &str) -> Option<String> {
    let response = Response::builder()
        .status(status)
        .header(LOCATION, location)
        .body(());
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
        (
            "HTTPS://MCP.example.com:443/v2",
            Some("https://mcp.example.com/v2"),
        ),
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
            assert_eq!(
                target(status, location).as_deref(),
                followed,
                "{status} {location}"
            );
        }
        for status in [300, 301, 302, 303, 304, 200, 404] {
            assert_eq!(target(status, location), None, "{status} {location}");
        }
    }
}

#[test]
fn a_redirect_s_target_is_shown_without_secrets() {
    assert_eq!(shown_target("/v2/mcp?code=1").as_deref(), Some("/v2/mcp"));
    assert_eq!(
        shown_target("https://user:pw@host:8443/v2#x").as_deref(),
        Some("https://host:8443/v2")
    );
    assert_eq!(shown_target(&format!("/{}", "x".repeat(MAX_TARGET))), None);
    assert_eq!(shown_target(""), None);
    assert_eq!(
        shown_target("user:pw@host:8443").as_deref(),
        Some("host:8443")
    );
}
