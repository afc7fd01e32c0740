//! PR-7: one form of `htu` on both ends.

use bowline_proof::{InvalidTarget, target_uri};

#[test]
fn equivalent_uris_have_one_target() {
    for uri in [
        "https://api.example.com/v1/mcp",
        "HTTPS://API.Example.COM/v1/mcp",
        "https://api.example.com:443/v1/mcp",
        "https://api.example.com:/v1/mcp",
        "https://api.example.com/v1/mcp?session=1",
        "https://api.example.com/v1/./mcp",
        "https://api.example.com/v1/x/../mcp",
        "https://api.example.com/../v1/mcp",
        "https://api.example.com/v1/x/%2e%2E/mcp",
        "https://api.example.com/v1/%6d%63p",
        "https://api.example.com/v1/m%63%70?a#b",
    ] {
        assert_eq!(
            target(uri).as_deref(),
            Ok("https://api.example.com/v1/mcp"),
            "{uri}"
        );
    }
}

#[test]
fn what_differs_stays_different() {
    for (uri, expected) in [
        ("http://h", "http://h/"),
        ("http://h:80?q", "http://h/"),
        ("http://h:443/", "http://h:443/"),
        ("https://h:80/", "https://h:80/"),
        ("https://h:08443/", "https://h:8443/"),
        ("https://h/A", "https://h/A"),
        ("https://h/a/", "https://h/a/"),
        ("https://h//a", "https://h//a"),
        ("https://h/a//../b", "https://h/a/b"),
        ("https://h/a/..", "https://h/"),
        ("https://h/a/b/.", "https://h/a/b/"),
        ("https://h/..a/.b/c.", "https://h/..a/.b/c."),
        ("https://h/a%2fb", "https://h/a%2Fb"),
        ("https://h/%3a:%40@", "https://h/%3A:%40@"),
        ("https://h/~%7e", "https://h/~~"),
        ("https://h/é", "https://h/%C3%A9"),
        ("https://h/%c3%a9", "https://h/%C3%A9"),
        ("https://h/{id}\"", "https://h/%7Bid%7D%22"),
        ("https://[2001:DB8::1]:443/", "https://[2001:db8::1]/"),
        ("https://[::1]:8443/x", "https://[::1]:8443/x"),
        ("https://127.0.0.1:8443/x", "https://127.0.0.1:8443/x"),
    ] {
        assert_eq!(target(uri).as_deref(), Ok(expected), "{uri}");
    }
}

#[test]
fn normalising_twice_changes_nothing() {
    for uri in [
        "https://H:0443/a/%2e%2e/é/%2f{",
        "http://h:80//..//a/./",
        "https://h/%25%36%31",
    ] {
        let once = target(uri).unwrap();
        assert_eq!(target(&once).as_ref(), Ok(&once));
    }
}

#[test]
fn a_uri_that_cannot_be_a_target_is_refused() {
    for (uri, error) in [
        ("/path", InvalidTarget::NotAbsolute),
        ("*", InvalidTarget::NotAbsolute),
        ("host:443", InvalidTarget::NotAbsolute),
        ("ftp://h/", InvalidTarget::Scheme),
        ("https://user@h/", InvalidTarget::Authority),
        ("https://user:pw@h/", InvalidTarget::Authority),
        ("https://h:65536/", InvalidTarget::Authority),
        ("https://h:port/", InvalidTarget::Authority),
        ("https://h/%", InvalidTarget::Path),
        ("https://h/%4", InvalidTarget::Path),
        ("https://h/%zz", InvalidTarget::Path),
        ("https://h/%+1", InvalidTarget::Path),
    ] {
        if let Ok(parsed) = uri.parse() {
            assert_eq!(target_uri(&parsed), Err(error), "{uri}");
        } else {
            panic!("`http` refuses {uri}, so it tests nothing");
        }
    }
}

fn target(uri: &str) -> Result<String, InvalidTarget> {
    target_uri(&uri.parse().unwrap())
}
