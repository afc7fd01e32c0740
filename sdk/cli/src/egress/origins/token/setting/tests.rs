use super::*;

#[test]
fn a_simple_source_is_a_file_or_a_seed_of_one_origin() {
    let name = |text: &str| HostPort::parse(text).expect("a name");
    let file = |path: &str| SimpleSource::File(path.into());
    for (text, origin, source) in [
        ("file:/run/token", None, file("/run/token")),
        ("file:a=b:c", None, file("a=b:c")),
        ("refresh:seed", None, SimpleSource::Refresh("seed".into())),
        (
            "https://api.example:8443=file:/run/a=b",
            Some(name("api.example:8443")),
            file("/run/a=b"),
        ),
        (
            "https://api.example/=file:x",
            Some(name("api.example")),
            file("x"),
        ),
    ] {
        assert_eq!(TokenSetting::parse(text), Ok((origin, source)), "{text}");
    }
    for text in [
        "",
        "file:",
        "/run/token",
        "oauth:x",
        "https://api.example",
        "https://api.example=",
        "https://api.example/x=file:y",
        "http://api.example=file:y",
    ] {
        assert!(TokenSetting::parse(text).is_err(), "{text}");
    }
}
