use serde_json::json;

use super::*;

#[test]
fn the_well_known_path_stands_between_host_and_path() {
    for (resource, url, path) in [
        (
            "https://api.example.com",
            "https://api.example.com/.well-known/oauth-protected-resource",
            WELL_KNOWN,
        ),
        (
            "https://api.example.com/",
            "https://api.example.com/.well-known/oauth-protected-resource",
            WELL_KNOWN,
        ),
        (
            "https://api.example.com:8443/a/b",
            "https://api.example.com:8443/.well-known/oauth-protected-resource/a/b",
            "/.well-known/oauth-protected-resource/a/b",
        ),
        (
            "http://127.0.0.1:8080/mcp",
            "http://127.0.0.1:8080/.well-known/oauth-protected-resource/mcp",
            "/.well-known/oauth-protected-resource/mcp",
        ),
        (
            "http://127.0.0.2",
            "http://127.0.0.2/.well-known/oauth-protected-resource",
            WELL_KNOWN,
        ),
        (
            "http://[::1]:8080",
            "http://[::1]:8080/.well-known/oauth-protected-resource",
            WELL_KNOWN,
        ),
    ] {
        let metadata = ResourceMetadata::new(resource).unwrap();
        assert_eq!((metadata.url(), metadata.path()), (url, path));
        assert_eq!(metadata.resource(), resource);
    }
}

#[test]
fn text_that_is_not_a_resource_identifier_is_refused() {
    for resource in [
        "",
        "/mcp",
        "api.example.com",
        "http://api.example.com/",
        "ftp://localhost/",
        "https:///mcp",
        "https://user@api.example.com/",
        "https://api.example.com/?a=b",
        "https://api.example.com/#a",
    ] {
        assert_eq!(
            ResourceMetadata::new(resource).map(|_| ()),
            Err(InvalidResource),
            "{resource}"
        );
    }
}

#[test]
fn the_document_has_the_members_of_rfc_9728_and_no_empty_ones() {
    let bare = ResourceMetadata::new("https://api.example.com").unwrap();
    let expected =
        json!({ "resource": "https://api.example.com", "bearer_methods_supported": ["header"] });
    assert_eq!(serde_json::to_value(&bare).unwrap(), expected);

    let whole = bare
        .authorization_servers(["https://as.example.com"])
        .scopes(["read", "write"])
        .certificate_bound_tokens(true)
        .dpop(false)
        .with("resource_name", "Example")
        .with("resource", "https://evil.example.com");
    let expected = json!({
        "resource": "https://api.example.com",
        "authorization_servers": ["https://as.example.com"],
        "scopes_supported": ["read", "write"],
        "bearer_methods_supported": ["header"],
        "tls_client_certificate_bound_access_tokens": true,
        "dpop_signing_alg_values_supported": Algorithm::ALL.map(Algorithm::name),
        "dpop_bound_access_tokens_required": false,
        "resource_name": "Example",
    });
    assert_eq!(serde_json::to_value(&whole).unwrap(), expected);
}
