use super::*;

#[test]
fn durations_and_sizes_have_units() {
    assert_eq!(duration("15s"), Ok(Duration::from_secs(15)));
    assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
    assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
    assert_eq!(duration("1h"), Ok(Duration::from_secs(3600)));
    for wrong in [
        "",
        "15",
        "s",
        "0s",
        "-1s",
        "1.5s",
        "1 s",
        "99999999999999999999h",
    ] {
        assert!(duration(wrong).is_err(), "{wrong}");
    }
    assert_eq!(size("0"), Ok(0));
    assert_eq!(size("64KiB"), Ok(65_536));
    assert_eq!(size("16MiB"), Ok(16 << 20));
    for wrong in ["", "KiB", "1KB", "1kib", "-1", "99999999999GiB"] {
        assert!(size(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn gw_2_an_upstream_is_a_socket_or_loopback() {
    let tcp = |text: &str| match text.parse() {
        Ok(UpstreamAt::Tcp(addrs)) => addrs,
        other => panic!("{text}: {other:?}"),
    };
    assert_eq!(
        tcp("http://127.0.0.1:8000"),
        ["127.0.0.1:8000".parse().unwrap()]
    );
    assert_eq!(tcp("http://[::1]:8000/"), ["[::1]:8000".parse().unwrap()]);
    assert_eq!(tcp("http://localhost:8000").len(), 2);
    assert_eq!(tcp("http://127.0.0.2"), ["127.0.0.2:80".parse().unwrap()]);
    assert_eq!("unix:/a".parse(), Ok(UpstreamAt::Unix("/a".into())));
    for (wrong, why) in [
        ("http://10.0.0.1:80", "loopback"),
        ("http://0.0.0.0:80", "loopback"),
        ("http://example.com", "loopback"),
        ("http://localhost.example.com", "loopback"),
        ("http://127.0.0.1.example.com", "loopback"),
        ("https://127.0.0.1:80", "without TLS"),
        ("http://a@127.0.0.1:80", "user name"),
        ("http://127.0.0.1:80/app", "path"),
        ("http://127.0.0.1:80/?a", "query"),
        ("127.0.0.1:80", "is no upstream"),
        ("ftp://127.0.0.1:80", "is no upstream"),
        ("unix:", "needs the path"),
        ("", "is no upstream"),
    ] {
        let error = wrong.parse::<UpstreamAt>().unwrap_err();
        assert!(error.contains(why), "{wrong}: {error}");
    }
}

#[test]
fn a_pattern_may_take_out() {
    let pattern: Pattern = "!GET /health".parse().unwrap();
    assert!(pattern.takes_out);
    assert_eq!(pattern.text, "GET /health");
    assert!(!"*".parse::<Pattern>().unwrap().takes_out);
    for wrong in ["", "!", "health", "/a/../b", "/a*"] {
        assert!(wrong.parse::<Pattern>().is_err(), "{wrong}");
    }
}
