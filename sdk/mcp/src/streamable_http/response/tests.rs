use http::HeaderValue;

use super::*;

#[test]
fn a_scope_is_found_however_it_is_written() {
    for (challenge, found) in [
        (
            r#"Bearer error="insufficient_scope", scope="a:r a:w""#,
            Some("a:r a:w"),
        ),
        ("Bearer SCOPE=a:r, error=insufficient_scope", Some("a:r")),
        ("Bearer error=x;scope=a:r;b=c", Some("a:r")),
        (
            r#"Bearer error_description="needs scope=a", scope="b""#,
            Some("b"),
        ),
        (r#"Bearer x_scope="a", scope=b"#, Some("b")),
        (r#"Bearer scope="""#, None),
        (r#"Bearer scope="a"#, None),
        (
            r#"Bearer error = "insufficient_scope", scope = "files:write""#,
            Some("files:write"),
        ),
        (r#"Basic scope="b", DPoP scope="d""#, Some("d")),
        ("Bearer scope=files:read", Some("files:read")),
        ("Basic abc==", None),
        ("Bearer", None),
        ("=", None),
        ("", None),
    ] {
        let value = HeaderValue::from_str(challenge).unwrap();
        let headers = HeaderMap::from_iter([(WWW_AUTHENTICATE, value)]);
        assert_eq!(scope(&headers).as_deref(), found, "{challenge}");
    }
}
