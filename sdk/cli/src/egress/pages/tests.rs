use super::*;
use crate::egress::names::own_names;

fn answer(way: Way<'_>, fields: &[(&str, &str)]) -> Result<(), &'static str> {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        let name: HeaderName = name.parse().expect("a name");
        headers.append(name, value.parse().expect("a value"));
    }
    let name = HostPort::parse("api.example:8443").expect("a name");
    check(&headers, &name, way).map_err(|refused| refused.reason)
}

fn port(own: &[HostPort], over_tls: bool) -> Way<'_> {
    Way::Port { own, over_tls }
}

const BROWSER: Result<(), &str> = Err("browser");
const FOREIGN: Result<(), &str> = Err("foreign_origin");

#[test]
fn what_a_browser_says_of_a_page_decides_by_the_way_that_a_request_came() {
    let names = own_names(8080);
    let on_port_8080 = port(&names, false);
    for (fields, on_port, in_tunnel) in [
        (&[][..], Ok(()), Ok(())),
        // Node's `fetch` says it, and nothing else of the kind.
        (&[("sec-fetch-mode", "cors")], Ok(()), Ok(())),
        (&[("sec-fetch-site", "cross-site")], BROWSER, BROWSER),
        (&[("sec-fetch-site", "same-site")], BROWSER, BROWSER),
        (&[("sec-fetch-site", "none")], BROWSER, Ok(())),
        (&[("sec-fetch-site", "same-origin")], BROWSER, Ok(())),
        (&[("sec-fetch-site", "")], BROWSER, BROWSER),
        (&[("sec-fetch-site", "None")], BROWSER, BROWSER),
        (
            &[
                ("sec-fetch-site", "same-origin"),
                ("sec-fetch-site", "cross-site"),
            ],
            BROWSER,
            BROWSER,
        ),
        (&[("origin", "https://evil.example")], FOREIGN, FOREIGN),
        (&[("origin", "null")], FOREIGN, FOREIGN),
        (&[("origin", "")], FOREIGN, FOREIGN),
        (&[("origin", "https://api.example")], FOREIGN, FOREIGN),
        (&[("origin", "http://api.example:8443")], FOREIGN, FOREIGN),
        (&[("origin", "https://api.example:8443")], Ok(()), Ok(())),
        (&[("origin", "http://localhost:8080")], Ok(()), FOREIGN),
        (&[("origin", "http://127.0.0.1:8080")], Ok(()), FOREIGN),
        (&[("origin", "http://[::1]:8080")], Ok(()), FOREIGN),
        (&[("origin", "http://localhost:3000")], FOREIGN, FOREIGN),
        (&[("origin", "http://localhost")], FOREIGN, FOREIGN),
        (
            &[("origin", "http://localhost:8080.evil.example")],
            FOREIGN,
            FOREIGN,
        ),
        (
            &[
                ("origin", "https://api.example:8443"),
                ("origin", "https://evil.example"),
            ],
            FOREIGN,
            FOREIGN,
        ),
        // Go's client sends it after a redirect.
        (&[("referer", "https://other.example/")], Ok(()), Ok(())),
    ] {
        assert_eq!(answer(on_port_8080, fields), on_port, "{fields:?}");
        assert_eq!(answer(Way::Tunnel, fields), in_tunnel, "{fields:?}");
        assert_eq!(answer(Way::Socket, fields), Ok(()), "{fields:?}");
    }
    let names = own_names(80);
    let fields = [("origin", "http://localhost")];
    assert_eq!(answer(port(&names, false), &fields), Ok(()), "port 80");
}

#[test]
fn a_listener_that_ends_tls_is_named_by_https() {
    let names = ["egress.example:8443", "egress.example"];
    let names = names.map(|name| HostPort::parse(name).expect("a name"));
    for (origin, expected) in [
        ("https://egress.example:8443", Ok(())),
        ("https://egress.example", Ok(())),
        ("https://api.example:8443", Ok(())),
        ("http://egress.example:8443", FOREIGN),
        ("http://egress.example", FOREIGN),
        ("https://egress.example:8444", FOREIGN),
        ("https://evil.example", FOREIGN),
    ] {
        let way = port(&names, true);
        assert_eq!(answer(way, &[("origin", origin)]), expected, "{origin}");
    }
    for site in ["cross-site", "same-origin", "none"] {
        let fields = [("sec-fetch-site", site)];
        assert_eq!(answer(port(&names, true), &fields), BROWSER, "{site}");
    }
}
