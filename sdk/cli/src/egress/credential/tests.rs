use super::*;

#[test]
fn only_the_whole_credential_is_taken() {
    let credential = Credential::new().expect("random numbers");
    let proxy = ([127, 0, 0, 1], 8080).into();
    let url = credential.url(proxy);
    let shown = url
        .strip_prefix("http://")
        .and_then(|rest| rest.strip_suffix("@127.0.0.1:8080"))
        .expect("a URL");
    let other = Credential::new().expect("random numbers").url(proxy);
    assert_ne!(url, other);
    let whole = STANDARD.encode(shown);
    for (value, expected) in [
        (format!("Basic {whole}"), true),
        (format!("basic  {whole} "), true),
        (whole.clone(), false),
        (format!("Bearer {whole}"), false),
        (format!("Basic {}", &whole[..whole.len() - 4]), false),
        (format!("Basic {whole}AAAA"), false),
        (format!("Basic {}", STANDARD.encode("bowline:")), false),
        ("Basic ".to_owned(), false),
        (String::new(), false),
    ] {
        let mut headers = HeaderMap::new();
        let value = value.parse().expect("a value");
        headers.insert(PROXY_AUTHORIZATION, value);
        assert_eq!(credential.is_shown(&headers), expected, "{headers:?}");
    }
    assert!(!credential.is_shown(&HeaderMap::new()));
    assert!(!format!("{credential:?}").contains(shown));
}
