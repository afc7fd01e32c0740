//! Origins: one form for every spelling, and their parts.

use bowline_proof::{InvalidTarget, Origin};

fn from_uri(uri: &str) -> Result<Origin, InvalidTarget> {
    Origin::from_uri(&uri.parse().unwrap())
}

#[test]
fn an_origin_is_normalised_and_holds_no_path() {
    for text in ["https://API.example.com", "HTTPS://api.example.com:443/"] {
        let origin: Origin = text.parse().unwrap();
        assert_eq!(origin.to_string(), "https://api.example.com");
        assert_eq!(origin.as_str(), "https://api.example.com");
    }
    for (text, error) in [
        ("api.example.com", InvalidTarget::NotAbsolute),
        ("", InvalidTarget::NotAbsolute),
        ("wss://api.example.com", InvalidTarget::Scheme),
        ("https://", InvalidTarget::Authority),
        ("https://:443", InvalidTarget::Authority),
        ("https://[::1", InvalidTarget::Authority),
        ("https://[::1]8443", InvalidTarget::Authority),
        ("https://h:+1", InvalidTarget::Authority),
        ("https://user@h", InvalidTarget::Authority),
        ("https://h a", InvalidTarget::Authority),
        ("https://h/path", InvalidTarget::Path),
        ("https://h?q", InvalidTarget::Path),
        ("https://h/#f", InvalidTarget::Path),
    ] {
        assert_eq!(text.parse::<Origin>(), Err(error), "{text}");
    }
}

#[test]
fn case_and_default_port_do_not_make_another_origin() {
    assert_eq!(
        from_uri("https://EXAMPLE.com/a"),
        from_uri("https://example.com:443/b")
    );
    for other in ["http://example.com/", "https://example.com:8443/"] {
        assert_ne!(from_uri("https://example.com/"), from_uri(other));
    }
}

#[test]
fn an_origin_shows_its_parts() {
    for (uri, text, https, host, port, authority) in [
        ("https://H/x", "https://h", true, "h", 443, "h"),
        ("http://h:80/", "http://h", false, "h", 80, "h"),
        ("https://h:80/", "https://h:80", true, "h", 80, "h:80"),
        ("https://h:/", "https://h", true, "h", 443, "h"),
        (
            "https://[::1]/",
            "https://[::1]",
            true,
            "[::1]",
            443,
            "[::1]",
        ),
        (
            "http://[::1]:8443/",
            "http://[::1]:8443",
            false,
            "[::1]",
            8443,
            "[::1]:8443",
        ),
    ] {
        let origin = from_uri(uri).unwrap();
        assert_eq!((origin.as_str(), origin.is_https()), (text, https));
        assert_eq!((origin.host(), origin.port()), (host, port), "{uri}");
        assert_eq!(origin.authority(), authority, "{uri}");
        assert_eq!(format!("{origin} {origin:?}"), format!("{text} {text}"));
    }
}

#[test]
fn a_uri_without_an_origin_is_an_error() {
    for (uri, error) in [
        ("/path", InvalidTarget::NotAbsolute),
        ("ftp://example.com/", InvalidTarget::Scheme),
        ("https://user:pw@example.com/", InvalidTarget::Authority),
        ("https://example.com:65536/", InvalidTarget::Authority),
    ] {
        assert_eq!(from_uri(uri), Err(error), "{uri}");
    }
}
