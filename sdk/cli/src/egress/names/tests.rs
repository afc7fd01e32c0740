use http::{Request, Version};

use super::*;

fn allowed<const N: usize>(origins: [&str; N]) -> Allowed {
    let origins = origins.map(|text| HostPort::from_origin(text).expect(text));
    origins.into_iter().collect()
}

fn name(text: &str) -> HostPort {
    HostPort::parse(text).unwrap_or_else(|| panic!("{text}"))
}

#[test]
fn names_are_compared_without_case_trailing_dot_and_default_port() {
    for same in [
        "tools.example",
        "TOOLS.example.",
        "tools.example:443",
        "Tools.Example.:443",
    ] {
        assert_eq!(name(same), name("tools.example"), "{same}");
    }
    for other in [
        "tools.example:8443",
        "tool.example",
        "tools.example.org",
        "[::1]",
        "127.0.0.1",
    ] {
        assert_ne!(name(other), name("tools.example"), "{other}");
    }
    assert_eq!(name("[::1]:8443"), name("[0:0:0:0:0:0:0:1]:8443"));
    assert_eq!(name("[::1]").ip(), Some("::1".parse().expect("an address")));
}

#[test]
fn what_resolvers_read_in_different_ways_is_no_name() {
    for text in [
        "",
        ".",
        ":443",
        "a:",
        "a:0",
        "a:65536",
        "a:+443",
        "a:44 3",
        "a..b",
        "a b",
        "u@a",
        "a/b",
        "a%2eb",
        "[::1",
        "::1",
        "[::1%25lo]",
        "127.1",
        "0x7f.0.0.1",
        "2130706433",
        "1.2.3.4.5",
        "0177.0.0.1",
        "a.0x10",
        "tools.example..",
        "é.example",
    ] {
        assert_eq!(HostPort::parse(text), None, "{text:?}");
    }
}

#[test]
fn an_allowed_origin_is_https_with_a_host_name() {
    let allowed = self::allowed(["https://Tools.example/", "https://api.example:8443"]);
    assert!(allowed.contains(&name("tools.example")));
    assert!(allowed.contains(&name("api.example:8443")));
    assert!(!allowed.contains(&name("api.example")));
    for (text, why) in [
        ("http://tools.example", "begins with https://"),
        ("tools.example", "begins with https://"),
        ("https://tools.example/mcp", "no path"),
        ("https://tools.example?x", "no path"),
        ("https://u@tools.example", "no host name"),
        ("https://*.example", "no host name"),
    ] {
        let error = HostPort::from_origin(text).expect_err(text);
        assert!(error.contains(why), "{error}");
    }
    assert_eq!(allowed.check_interceptable(), Ok(()));
}

#[test]
fn gw_6_an_address_cannot_be_intercepted() {
    for origin in ["https://127.0.0.1:8443", "https://[::1]"] {
        let error = allowed(["https://tools.example", origin]).check_interceptable();
        let error = error.expect_err(origin);
        assert!(
            error.contains("an IP address cannot be intercepted"),
            "{error}"
        );
        assert!(error.contains(origin), "{error}");
    }
}

const ORIGINS: [&str; 5] = [
    "tools.example",
    "tools.example:8443",
    "api.example",
    "other.example",
    "www.tools.example",
];

/// Every combination of names that an intercepted request can carry: exactly those that all name
/// the `CONNECT` authority's origin pass.
#[test]
fn every_name_of_an_intercepted_request_must_agree() {
    let (mut passed, mut refused) = (0, 0);
    for connect in &ORIGINS[..3] {
        for sni in [
            None,
            Some("tools.example"),
            Some("api.example"),
            Some("other.example"),
        ] {
            let on = Intercepted {
                connect: name(connect),
                sni: sni.map(str::to_owned),
            };
            let sni_agrees = sni == Some(on.connect.host());
            for target in std::iter::once(None).chain(ORIGINS.map(Some)) {
                for host in std::iter::once(None).chain(ORIGINS.map(Some)) {
                    for scheme in ["https", "http"] {
                        for version in [Version::HTTP_11, Version::HTTP_2] {
                            if target.is_none() && scheme == "http" {
                                continue;
                            }
                            let parts = request(target, host, scheme, version);
                            let agrees = sni_agrees
                                && (target.is_none() || scheme == "https")
                                && target.is_none_or(|target| name(target) == on.connect)
                                && host.is_none_or(|host| name(host) == on.connect)
                                && (host.is_some()
                                    || (target.is_some() && version == Version::HTTP_2));
                            let checked = check_intercepted(&on, &parts);
                            let context = format!(
                                "{connect} {sni:?} {target:?} {host:?} {scheme} {version:?}"
                            );
                            match checked {
                                Ok(()) => passed += 1,
                                Err(refused_with) => {
                                    refused += 1;
                                    let expected = [421, 400];
                                    let status = refused_with.status.as_u16();
                                    assert!(expected.contains(&status), "{context}");
                                }
                            }
                            assert_eq!(check_intercepted(&on, &parts).is_ok(), agrees, "{context}");
                        }
                    }
                }
            }
        }
    }
    // 3 origins: with `Host` alone or `Host` and target, on two versions, and on h2 without `Host`.
    assert_eq!((passed, refused), (15, 1569));
}

fn request(target: Option<&str>, host: Option<&str>, scheme: &str, version: Version) -> Parts {
    let uri = target.map_or("/mcp".to_owned(), |name| format!("{scheme}://{name}/mcp"));
    let mut request = Request::post(uri).version(version);
    if let Some(host) = host {
        request = request.header("host", host);
    }
    request.body(()).expect("a request").into_parts().0
}

fn inside(change: impl FnOnce(http::request::Builder) -> http::request::Builder) -> u16 {
    let on = Intercepted {
        connect: name("tools.example"),
        sni: Some("tools.example".to_owned()),
    };
    let request = change(Request::builder()).body(()).expect("a request");
    match check_intercepted(&on, &request.into_parts().0) {
        Ok(()) => 200,
        Err(refused) => refused.status.as_u16(),
    }
}

#[test]
fn spellings_and_repetitions_inside_an_intercepted_connection() {
    assert_eq!(
        inside(|r| r.uri("/").header("host", "TOOLS.example.:443")),
        200
    );
    assert_eq!(
        inside(|r| r.uri("/").header("host", "tools.example:80")),
        421
    );
    assert_eq!(
        inside(|r| r.uri("/").header("host", "u@tools.example")),
        400
    );
    let twice = inside(|r| {
        r.uri("/")
            .header("host", "tools.example")
            .header("host", "tools.example")
    });
    assert_eq!(twice, 400);
    let connect = inside(|r| {
        r.method("CONNECT")
            .uri("tools.example:443")
            .header("host", "tools.example")
    });
    assert_eq!(connect, 501);
}

#[test]
fn sni_of_another_form_is_still_compared_as_a_name() {
    let parts = request(None, Some("tools.example"), "https", Version::HTTP_11);
    for (sni, passes) in [
        ("TOOLS.EXAMPLE", true),
        ("tools.example.", true),
        ("tools.example:443", false),
        ("", false),
    ] {
        let on = Intercepted {
            connect: name("tools.example"),
            sni: Some(sni.to_owned()),
        };
        assert_eq!(check_intercepted(&on, &parts).is_ok(), passes, "{sni}");
    }
}

#[test]
fn absolute_targets_mean_allowed_https_origins() {
    let allowed = self::allowed(["https://tools.example", "https://api.example:8443"]);
    for (target, host, expected) in [
        (
            "http://tools.example/x",
            Some("tools.example"),
            Ok("tools.example"),
        ),
        (
            "http://TOOLS.example:443/x",
            Some("tools.example"),
            Ok("tools.example"),
        ),
        (
            "http://tools.example:80/x",
            Some("tools.example:80"),
            Err(403),
        ),
        ("http://tools.example/x", Some("tools.example:80"), Err(421)),
        ("http://tools.example/x", Some("api.example:8443"), Err(421)),
        ("http://tools.example/x", None, Err(400)),
        ("http://api.example/x", Some("api.example"), Err(403)),
        (
            "http://api.example:8443/x",
            Some("api.example:8443"),
            Ok("api.example:8443"),
        ),
        ("http://other.example/x", Some("other.example"), Err(403)),
        ("https://tools.example/x", Some("tools.example"), Err(400)),
        (
            "http://u:p@tools.example/x",
            Some("tools.example"),
            Err(400),
        ),
        (
            "http://169.254.169.254/x",
            Some("169.254.169.254"),
            Err(403),
        ),
    ] {
        let mut request = Request::get(target);
        if let Some(host) = host {
            request = request.header("host", host);
        }
        let parts = request.body(()).expect("a request").into_parts().0;
        let checked = check_absolute(&allowed, false, &parts);
        let seen = checked
            .map(|origin| origin.to_string())
            .map_err(|r| r.status.as_u16());
        assert_eq!(seen, expected.map(str::to_owned), "{target} {host:?}");
    }
}

/// DNS rebinding: a web page's own name reaches the listener and says so in `Host`.
#[test]
fn a_reverse_proxy_answers_to_its_own_names_alone() {
    let (upstream, own) = (name("tools.example"), own_names(8080));
    for (host, passes) in [
        ("tools.example", true),
        ("localhost:8080", true),
        ("127.0.0.1:8080", true),
        ("[::1]:8080", true),
        ("localhost", false),
        ("localhost:8081", false),
        ("rebound.example:8080", false),
        ("127.0.0.2:8080", false),
    ] {
        let parts = request(None, Some(host), "http", Version::HTTP_11);
        let checked = check_reverse(&upstream, Some(&own), &parts);
        assert_eq!(checked.is_ok(), passes, "{host}");
        assert!(check_reverse(&upstream, None, &parts).is_ok());
    }
}

#[test]
fn websocket_is_refused_and_no_other_upgrade() {
    for (field, passes) in [
        ("websocket", false),
        ("h2c, WebSocket", false),
        ("websocket/13", false),
        ("h2c", true),
        ("TLS/1.0", true),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert("upgrade", field.parse().expect("a field"));
        assert_eq!(check_upgrade(&headers).is_ok(), passes, "{field}");
    }
}
