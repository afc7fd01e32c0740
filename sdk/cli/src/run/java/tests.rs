use super::*;
use crate::egress::names::HostPort;

fn inherited(name: &str, value: &str) -> Vec<(OsString, OsString)> {
    vec![(name.into(), value.into())]
}

fn set(inherited: &[(OsString, OsString)], store: &str, origin: &str) -> Result<String, Failure> {
    let allowed: Allowed = [HostPort::from_origin(origin).expect("an origin")]
        .into_iter()
        .collect();
    let proxy = ([127, 0, 0, 1], 8080).into();
    let options = options(inherited, proxy, Path::new(store), &allowed)?;
    Ok(options.into_string().expect("UTF-8"))
}

#[test]
fn the_proxy_and_the_trust_store_behind_what_was_inherited() {
    const OURS: &str = "-Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=8080 \
                        -Djavax.net.ssl.trustStoreType=JKS -Djavax.net.ssl.trustStore=";
    let none = inherited("PATH", "/bin");
    let options = set(&none, "/run/a b/java.jks", "https://tools.example").expect("options");
    assert_eq!(options, format!("{OURS}\"/run/a b/java.jks\""));
    let some = inherited(VARIABLE, "-Xmx1g");
    let options = set(&some, "/run/a\"b", "https://tools.example").expect("options");
    assert_eq!(options, format!("-Xmx1g {OURS}'/run/a\"b'"));
}

#[test]
fn loopback_is_reached_past_the_proxy_unless_it_is_allowed() {
    for (origin, expected) in [
        ("https://localhost:8443", true),
        ("https://a.example", false),
    ] {
        let options = set(&[], "/run/java.jks", origin).expect("options");
        assert_eq!(options.contains("-Dhttp.nonProxyHosts= "), expected);
    }
}

#[test]
fn what_the_environment_sets_itself_is_not_overridden_in_silence() {
    for (name, value) in [
        (VARIABLE, "-Djavax.net.ssl.trustStore=/etc/mine"),
        ("JDK_JAVA_OPTIONS", "-Xmx1g -Dhttps.proxyHost=10.0.0.1"),
        ("_JAVA_OPTIONS", "-Dhttp.nonProxyHosts=*"),
    ] {
        let failure = set(
            &inherited(name, value),
            "/run/java.jks",
            "https://a.example",
        );
        let line = failure.expect_err("a conflict").line();
        assert!(line.starts_with(name), "{line}");
        assert!(line.contains("--java sets: take it out"), "{line}");
    }
    assert!(set(&[], "/run/\"'", "https://a.example").is_err());
}

/// Byte by byte; that Java reads it, a run with Java shows (`agents::nightly`).
#[test]
fn the_format_of_a_trust_store() {
    let certificate = CertificateDer::from(vec![1, 2, 3]);
    let now = UNIX_EPOCH + std::time::Duration::from_millis(0x0102);
    let store = trust_store([&certificate].into_iter(), now);
    let (body, digest) = store.split_at(store.len() - 20);
    let expected = [
        &[0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2, 0, 0, 0, 1][..],
        &[0, 0, 0, 2, 0, 1, b'0', 0, 0, 0, 0, 0, 0, 1, 2],
        b"\0\x05X.509\0\0\0\x03\x01\x02\x03",
    ];
    assert_eq!(body, expected.concat());
    let password = b"\0c\0h\0a\0n\0g\0e\0i\0tMighty Aphrodite";
    let whole = [password, body].concat();
    let again = aws_lc_rs::digest::digest(&SHA1_FOR_LEGACY_USE_ONLY, &whole);
    assert_eq!(digest, again.as_ref());
}
