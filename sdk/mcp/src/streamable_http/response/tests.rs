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
        ("Basic abc==", None),
        ("Bearer", None),
        ("=", None),
        ("", None),
    ] {
        assert_eq!(scope(challenge).as_deref(), found, "{challenge}");
    }
}
