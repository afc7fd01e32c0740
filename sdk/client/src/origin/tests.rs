use super::*;

fn origin(uri: &str) -> Result<Origin, Error> {
    Ok(Origin::from_uri(&uri.parse().unwrap())?)
}

#[test]
fn case_and_default_port_do_not_make_another_origin() {
    assert_eq!(
        origin("https://EXAMPLE.com/a").unwrap(),
        origin("https://example.com:443/b").unwrap()
    );
    assert_ne!(
        origin("https://example.com/").unwrap(),
        origin("http://example.com/").unwrap()
    );
    assert_ne!(
        origin("https://example.com/").unwrap(),
        origin("https://example.com:8443/").unwrap()
    );
    assert_eq!(
        origin("https://example.com:443/").unwrap().to_string(),
        "https://example.com"
    );
    assert_eq!(
        origin("https://[::1]:8443/").unwrap().to_string(),
        "https://[::1]:8443"
    );
}

#[test]
fn a_uri_without_an_origin_is_an_error() {
    for uri in [
        "/path",
        "ftp://example.com/",
        "https://user:pw@example.com/",
        "https://example.com:65536/",
    ] {
        assert_eq!(
            origin(uri).unwrap_err().kind(),
            ErrorKind::InvalidRequest,
            "{uri}"
        );
    }
    let error = origin("https://user:pw@example.com/").unwrap_err();
    assert!(error.to_string().contains("user information"), "{error}");
    assert!(!error.to_string().contains("pw"), "{error}");
}

#[test]
fn loopback_is_decided_by_name() {
    for uri in ["http://localhost:1/", "http://127.0.0.9/", "http://[::1]/"] {
        assert!(is_loopback(&origin(uri).unwrap()), "{uri}");
    }
    for uri in [
        "http://localhost.example.com/",
        "http://10.0.0.1/",
        "http://127.0.0.1.nip.io/",
    ] {
        assert!(!is_loopback(&origin(uri).unwrap()), "{uri}");
    }
}
