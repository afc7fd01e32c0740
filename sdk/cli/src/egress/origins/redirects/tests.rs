use super::*;

#[test]
fn each_reading_of_a_location_counts() {
    let from = HostPort::parse("a.example:8443").expect("a name");
    let other = HostPort::parse("b.example").expect("a name");
    for location in [
        "https://b.example/x",
        "https://B.example:443/x",
        "https://b.example./x",
        "http://b.example/x",
        "//b.example/x",
        "https://user@b.example/x",
        "https://a.example:8443@b.example/x",
        "https:\\\\b.example\\x",
        "\\\\b.example/x",
        "https:/\\b.example/x",
        "https:///b.example/x",
        "https:b.example:443",
        " https://b.example/x",
        "ht\ttps://b.example/x",
        "https://b.example\\@a.example:8443/",
        "https://a.example:8443\\@b.example/",
        "https://b.example#@a.example:8443/",
        "HTTPS://B.EXAMPLE",
        "https://%62.example/",
    ] {
        let location = HeaderValue::from_bytes(location.as_bytes()).expect("a value");
        let readings = readings(&from, &location);
        assert!(readings.contains(&other), "{location:?}: {readings:?}");
    }
    for location in [
        "/x",
        "/x//b.example",
        "x/b.example",
        "?next=https://b.example/",
        "https://a.example:8443/login?next=/b.example",
        "https://b.example:444/",
        "https://b.example.org/",
        "#",
        "",
    ] {
        let location = HeaderValue::from_bytes(location.as_bytes()).expect("a value");
        let readings = readings(&from, &location);
        assert!(!readings.contains(&other), "{location:?}: {readings:?}");
    }
}
