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
