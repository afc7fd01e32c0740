use http::HeaderName;

use super::*;

fn outcome(method: &str, target: &str, fields: &[(&str, &str)]) -> Option<&'static str> {
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in fields {
        request = request.header(name.parse::<HeaderName>().unwrap(), *value);
    }
    let (parts, ()) = request.body(()).unwrap().into_parts();
    check(&parts).err().map(|refused| refused.reason)
}

#[test]
fn one_host_the_same_one_everywhere() {
    for (target, hosts, expected) in [
        ("/", &["a"][..], None),
        ("/", &["a:8443"], None),
        ("/", &["[::1]:8443"], None),
        ("https://a/x", &["a"], None),
        ("https://a/x", &["A:443"], None),
        ("https://a:8443/x", &["a:8443"], None),
        ("https://a/x", &[], None),
        ("/", &[], Some("host")),
        ("/", &["a", "a"], Some("host")),
        ("/", &["a", "b"], Some("host")),
        ("/", &[""], Some("host")),
        ("/", &["u@a"], Some("host")),
        ("/", &["a b"], Some("host")),
        ("/", &["a, b"], Some("host")),
        ("/", &["a/b"], Some("host")),
        ("https://a/x", &["b"], Some("host")),
        ("https://a:1/x", &["a:2"], Some("host")),
        ("https://u@a/x", &[], Some("host")),
        ("http://a/x", &["a"], Some("host")),
    ] {
        let fields: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();
        assert_eq!(
            outcome("GET", target, &fields),
            expected,
            "{target} {hosts:?}"
        );
    }
}

#[test]
fn websocket_and_connect_are_refused_and_other_upgrades_pass() {
    for (value, expected) in [
        ("websocket", Some("websocket")),
        ("h2c, WebSocket", Some("websocket")),
        ("websocket/13", Some("websocket")),
        ("h2c", None),
        ("TLS/1.0", None),
    ] {
        let fields = [("host", "a"), ("upgrade", value)];
        assert_eq!(outcome("GET", "/", &fields), expected, "{value}");
    }
    assert_eq!(outcome("CONNECT", "a:443", &[]), Some("connect"));
    assert_eq!(outcome("OPTIONS", "*", &[("host", "a")]), None);
    assert_eq!(outcome("GET", "*", &[("host", "a")]), Some("target"));
}
