use super::*;

#[test]
fn a_card_is_at_its_well_known_place_below_the_base() {
    for (base, url) in [
        (
            "https://a.example",
            "https://a.example/.well-known/agent-card.json",
        ),
        (
            "https://a.example/",
            "https://a.example/.well-known/agent-card.json",
        ),
        (
            "https://a.example:8443/tenants/7//",
            "https://a.example:8443/tenants/7/.well-known/agent-card.json",
        ),
    ] {
        assert_eq!(well_known(base).unwrap().to_string(), url);
    }
    for base in [
        "",
        "a.example",
        "/x",
        "ftp://a.example",
        "https://u:p@a.example",
        "https://a.example?x=1",
        "https://a.example#x",
        "https://a.example/#/x",
        "https://",
        "https://user:secret@a.example",
        "user:secret@a.example",
        "https://a.example?key=secret",
        "https://user:secret@",
    ] {
        let failure = well_known(base).unwrap_err();
        assert_eq!(failure.kind(), ErrorKind::InvalidCall, "{base}");
        assert!(!failure.to_string().contains("secret"), "{failure}");
        assert!(
            failure.to_string().contains("such as https://"),
            "{failure}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn freshness_ends_and_a_304_begins_it_anew_with_the_same_bytes() {
    let text = r#"{"name":"x","version":"1","supportedInterfaces":[],"capabilities":{}}"#;
    let caching = |max_age: &'static str| {
        let mut fields = HeaderMap::new();
        fields.insert(CACHE_CONTROL, HeaderValue::from_static(max_age));
        Freshness::from_fields(&fields)
    };
    let (head, ()) = Response::new(()).into_parts();
    let url = Uri::from_static("https://a.example/");
    let card = Card::read(
        &url,
        Bytes::from_static(text.as_bytes()),
        &head,
        caching("max-age=60"),
    )
    .unwrap();
    tokio::time::advance(Duration::from_secs(59)).await;
    assert!(card.is_fresh());
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(!card.is_fresh());
    let same = card.renewed(caching("max-age=10"));
    assert!(same.is_fresh() && !card.is_fresh());
    assert_eq!(same.bytes().as_ptr(), card.bytes().as_ptr());
}

#[test]
fn a_card_is_fresh_for_as_long_as_its_server_says_and_no_longer() {
    for (cache_control, age, seconds) in [
        (&[][..], None, 0),
        (&["max-age=300"], None, 300),
        (&["public, Max-Age=300"], Some("100"), 200),
        (&["max-age=300"], Some("301"), 0),
        (&["public", "max-age=\"60\""], None, 60),
        (&["max-age=300, no-cache"], None, 0),
        (&["no-cache=\"set-cookie\", max-age=300"], None, 0),
        (&["max-age=300", "no-store"], None, 0),
        (&["max-age=-1"], None, 0),
        (&["max-age=nonsense"], None, 0),
        (&["s-maxage=300"], None, 0),
        (
            &["max-age=18446744073709551615"],
            None,
            MAX_FRESHNESS.as_secs(),
        ),
    ] {
        let mut fields = HeaderMap::new();
        for value in cache_control {
            fields.append(CACHE_CONTROL, HeaderValue::from_static(value));
        }
        if let Some(age) = age {
            fields.insert(AGE, HeaderValue::from_static(age));
        }
        assert_eq!(
            freshness(&fields),
            Duration::from_secs(seconds),
            "{cache_control:?} {age:?}"
        );
    }
}

fn fields(name: http::HeaderName, lines: &[&[u8]]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for line in lines {
        fields.append(name.clone(), HeaderValue::from_bytes(line).unwrap());
    }
    fields
}

/// RFC 9111 §4.2.1: what is invalid counts as stale, and a line with `obs-text` is a line.
#[test]
fn a_lifetime_that_cannot_be_read_is_none() {
    let fresh = |lines: &[&[u8]]| freshness(&fields(CACHE_CONTROL, lines)).as_secs();
    for (lines, seconds) in [
        (&[&b"max-age=60"[..]][..], 60),
        (&[b"Max-Age=\"60\", x=\xfc"], 60),
        (&[b"max-age=99999999999999999999"], MAX_FRESHNESS.as_secs()),
        (&[b"max-age=1.5"], 0),
        (&[b"max-age=soon, max-age=60"], 0),
        (&[b"max-age=-1"], 0),
        (&[b"max-age=60", b"x=\xfc, no-store"], 0),
        (&[b"max-age=60", b"x=\xfc"], 60),
    ] {
        assert_eq!(fresh(lines), seconds, "{lines:?}");
    }
    // RFC 9111 §5.1: of a list the first counts, and what is invalid is ignored.
    for (age, seconds) in [
        ("5, 10", 55),
        ("5", 55),
        ("old", 60),
        ("99999999999999999999", 0),
    ] {
        let mut fields = fields(CACHE_CONTROL, &[b"max-age=60"]);
        fields.insert(AGE, HeaderValue::from_static(age));
        assert_eq!(freshness(&fields).as_secs(), seconds, "{age}");
    }
}

#[test]
fn what_a_card_has_beside_what_is_needed_does_not_spoil_it() {
    let (head, ()) = Response::new(()).into_parts();
    let url = Uri::from_static("https://a.example/");
    let read = |text: &str| {
        let caching = Freshness::from_fields(&HeaderMap::new());
        Card::read(&url, Bytes::from(text.to_owned()), &head, caching)
    };
    let card = r#""name":"x","version":"1","supportedInterfaces":[],"capabilities":{}"#;
    for more in [
        r#""new":{"a":[1]}"#,
        r#""signatures":null,"skills":null,"securitySchemes":null"#,
        r#""securitySchemes":{"new":{"passkeySecurityScheme":{"a":1}}}"#,
        r#""capabilities2":1"#,
    ] {
        let text = format!("{{{card},{more}}}");
        assert!(
            read(&text).is_ok(),
            "{text}: {:?}",
            read(&text).map(drop).unwrap_err()
        );
    }
    for broken in [
        r#""securitySchemes":{"new":{"passkeySecurityScheme":{}},"m":{"mtlsSecurityScheme":7}}"#,
        r#""securitySchemes":{"new":{"passkeySecurityScheme":{}},"m":7}"#,
        r#""securitySchemes":[{"passkeySecurityScheme":{}}]"#,
        r#""securitySchemes":{"new":{"passkeySecurityScheme":{}}},"version":7"#,
    ] {
        assert!(read(&format!("{{{card},{broken}}}")).is_err(), "{broken}");
    }
    let with_mark = format!("\u{feff}{{{card}}}");
    let read = read(&with_mark).unwrap();
    assert_eq!(
        read.bytes().len(),
        with_mark.len(),
        "signatures cover the bytes as they came"
    );
}
