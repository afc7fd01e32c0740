use super::*;

#[test]
fn the_well_known_part_goes_between_host_and_path() {
    for (issuer, expected, openid) in [
        (
            "",
            "/.well-known/oauth-authorization-server",
            "/.well-known/openid-configuration",
        ),
        (
            "/",
            "/.well-known/oauth-authorization-server",
            "/.well-known/openid-configuration",
        ),
        (
            "/tenant/1",
            "/.well-known/oauth-authorization-server/tenant/1",
            "/tenant/1/.well-known/openid-configuration",
        ),
        (
            "/tenant/",
            "/.well-known/oauth-authorization-server/tenant",
            "/tenant/.well-known/openid-configuration",
        ),
    ] {
        let found = issuer_metadata_urls(&format!("https://as.example:8443{issuer}")).unwrap();
        let expected = [expected, openid].map(|path| format!("https://as.example:8443{path}"));
        assert_eq!(found.map(|uri| uri.to_string()), expected);
    }
    for (resource, expected) in [
        ("", ""),
        ("/", ""),
        ("/mcp", "/mcp"),
        ("/mcp/", "/mcp/"),
        ("/mcp?a=b", "/mcp?a=b"),
        ("?a=b", "?a=b"),
        ("/?a=b", "?a=b"),
    ] {
        let found = resource_metadata_url(&format!("https://rs.example{resource}")).unwrap();
        let expected = format!("https://rs.example/.well-known/oauth-protected-resource{expected}");
        assert_eq!(found.to_string(), expected);
    }
}

#[test]
fn an_insecure_or_invalid_url_is_refused_with_the_reason() {
    for (url, reason) in [
        ("http://as.example/", "plaintext"),
        ("ftp://as.example/", "neither"),
        ("/relative", "not an absolute"),
        ("as.example", "not an absolute"),
        ("https://as.example/#here", "fragment"),
        ("https://user:secret@as.example/", "user name"),
        ("https://as example/", "not a URL"),
        ("", "not a URL"),
    ] {
        let error = secure_url(url, "it").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Metadata);
        assert!(error.to_string().contains(reason), "{url}: {error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    assert!(secure_url("http://127.0.0.1:8080/", "it").is_ok());
    assert!(secure_url("http://[::1]:8080/", "it").is_ok());
    let error = issuer_metadata_urls("https://as.example/?q").unwrap_err();
    assert!(error.to_string().contains("query"), "{error}");
}
