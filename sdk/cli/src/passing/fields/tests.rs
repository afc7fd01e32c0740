use super::*;

pub(crate) fn fields(text: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in text {
        headers.append(*name, HeaderValue::from_static(value));
    }
    headers
}

/// In order.
pub(crate) fn names(headers: &HeaderMap) -> Vec<&str> {
    let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    names
}

#[test]
fn cookies_are_joined() {
    let mut headers = fields(&[("cookie", "a=b"), ("cookie", "c=d")]);
    join_cookies(&mut headers);
    let all: Vec<_> = headers.get_all(COOKIE).iter().collect();
    assert_eq!(all, ["a=b; c=d"]);
}

#[test]
fn te_is_read_as_a_list() {
    for (value, accepted) in [
        ("trailers", true),
        ("gzip;q=0.5, Trailers", true),
        ("gzip", false),
    ] {
        assert_eq!(
            accept_trailers(&fields(&[("te", value)])),
            accepted,
            "{value}"
        );
    }
}

#[test]
fn websocket_is_found_among_other_protocols() {
    for (field, found) in [
        ("websocket", true),
        ("h2c, WebSocket", true),
        ("websocket/13", true),
        ("h2c", false),
        ("TLS/1.0", false),
    ] {
        assert_eq!(
            ask_for_websocket(&fields(&[("upgrade", field)])),
            found,
            "{field}"
        );
    }
}
