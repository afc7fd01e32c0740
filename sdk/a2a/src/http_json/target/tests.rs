use super::*;

fn uri(
    interface: &'static str,
    tenant: Option<&str>,
    id: &str,
    parameter: Option<&str>,
) -> Result<String, ErrorKind> {
    let interface = Uri::from_static(interface);
    let target = Target::below(&interface, tenant)
        .and_then(|target| target.fixed("/tasks/").segment("task id", id));
    let uri = target.and_then(|target| {
        target
            .fixed(":cancel")
            .parameter("x", parameter)
            .uri(&interface)
    });
    uri.map(|uri| uri.to_string())
        .map_err(|failure| failure.kind())
}

#[test]
fn calls_go_below_the_interface_s_url() {
    for (interface, expected) in [
        ("https://a.example", "https://a.example/tasks/t:cancel"),
        ("https://a.example/", "https://a.example/tasks/t:cancel"),
        (
            "https://a.example:8443/v1/rest//",
            "https://a.example:8443/v1/rest/tasks/t:cancel",
        ),
        (
            "https://a.example/v1?key=1",
            "https://a.example/v1/tasks/t:cancel?key=1",
        ),
    ] {
        assert_eq!(uri(interface, None, "t", None).as_deref(), Ok(expected));
    }
    let both = uri("https://a.example/v1?key=1", Some(""), "t", Some("é +&=1"));
    assert_eq!(
        both.as_deref(),
        Ok("https://a.example/v1/tasks/t:cancel?key=1&x=%C3%A9%20%2B%26%3D1")
    );
}

#[test]
fn a_name_is_one_segment_whatever_it_is() {
    for (id, expected) in [
        ("a/b", "a%2Fb"),
        ("../admin", "..%2Fadmin"),
        ("a?b#c", "a%3Fb%23c"),
        ("a:cancel", "a%3Acancel"),
        ("50%", "50%25"),
        ("%2F", "%252F"),
        ("a b\r\n", "a%20b%0D%0A"),
        ("é", "%C3%A9"),
        ("...", "..."),
        ("a-._~Z9", "a-._~Z9"),
    ] {
        let expected = format!("https://a.example/%C3%A4%2F1/tasks/{expected}:cancel");
        assert_eq!(
            uri("https://a.example", Some("ä/1"), id, None),
            Ok(expected),
            "{id:?}"
        );
    }
    for id in ["", ".", ".."] {
        assert_eq!(
            uri("https://a.example", None, id, None),
            Err(ErrorKind::InvalidCall),
            "{id:?}"
        );
    }
    assert_eq!(
        uri("https://a.example", Some(".."), "t", None),
        Err(ErrorKind::InvalidCall)
    );
    let long = "x".repeat(100_000);
    assert_eq!(
        uri("https://a.example", None, &long, None),
        Err(ErrorKind::InvalidCall)
    );
}
