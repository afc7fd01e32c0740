use super::*;

fn admitted(ambient: &Ambient, fields: &[(&str, &str)]) -> Result<HeaderMap, &'static str> {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        let name: HeaderName = name.parse().expect("a name");
        headers.append(name, value.parse().expect("a value"));
    }
    let name = HostPort::parse("api.example:8443").expect("a name");
    let admitted = ambient.admit(&name, &mut headers);
    admitted.map(|()| headers).map_err(|refused| refused.reason)
}

#[test]
fn a_request_of_a_browser_or_of_another_origin_gets_no_token() {
    let ambient = Ambient::default();
    for (name, value, reason) in [
        ("sec-fetch-site", "same-origin", "browser"),
        ("sec-fetch-site", "none", "browser"),
        ("origin", "https://evil.example", "foreign_origin"),
        ("origin", "null", "foreign_origin"),
        ("origin", "http://api.example:8443", "foreign_origin"),
        ("origin", "https://api.example", "foreign_origin"),
        (
            "origin",
            "https://api.example:8443@evil.example",
            "foreign_origin",
        ),
        (
            "origin",
            "https://api.example:8443.evil.example",
            "foreign_origin",
        ),
        (
            "referer",
            "https://evil.example/api.example:8443",
            "foreign_origin",
        ),
        ("referer", "/x", "foreign_origin"),
        ("referer", "", "foreign_origin"),
        ("dpop", "x", "caller_token"),
    ] {
        assert_eq!(
            admitted(&ambient, &[(name, value)]),
            Err(reason),
            "{name}: {value}"
        );
    }
    let two = [
        ("origin", "https://api.example:8443"),
        ("origin", "https://evil.example"),
    ];
    assert_eq!(admitted(&ambient, &two), Err("foreign_origin"));
    for (name, value) in [
        ("origin", "https://api.example:8443"),
        ("origin", "https://API.example:8443"),
        ("referer", "https://api.example:8443/x?y"),
        ("sec-fetch-mode", "cors"), // Node sends it
        ("cookie", "a=b"),
    ] {
        let headers = admitted(&ambient, &[(name, value)]).expect(value);
        assert_eq!(headers[name], value);
    }
}

#[test]
fn a_token_of_the_caller_is_refused_unless_it_is_the_placeholder() {
    let none = Ambient::default();
    let some = Ambient {
        placeholder: Some("unused".to_owned()),
        ..Ambient::default()
    };
    for value in [
        "Bearer other",
        "Basic dW51c2Vk",
        "unused",
        "Bearer",
        "Bearer unused2",
        "",
    ] {
        let fields = [("authorization", value)];
        assert_eq!(admitted(&none, &fields), Err("caller_token"), "{value}");
        assert_eq!(admitted(&some, &fields), Err("caller_token"), "{value}");
    }
    let placeholder = ("authorization", "bearer unused");
    assert_eq!(admitted(&none, &[placeholder]), Err("caller_token"));
    assert_eq!(
        admitted(&some, &[placeholder, placeholder]),
        Err("caller_token")
    );
    // It does not leave.
    assert!(
        admitted(&some, &[placeholder])
            .expect("admitted")
            .is_empty()
    );
}
