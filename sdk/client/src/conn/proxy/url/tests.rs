use super::*;

#[test]
fn a_url_s_parts_are_read_with_or_without_a_scheme() {
    for (url, address, authorization) in [
        ("http://proxy.example:3128", "proxy.example:3128", None),
        (" http://proxy.example:3128/ \n", "proxy.example:3128", None),
        ("HTTP://proxy.example", "proxy.example:80", None),
        ("proxy.example:3128", "proxy.example:3128", None),
        ("proxy_1", "proxy_1:80", None),
        ("http://[::1]:3128", "[::1]:3128", None),
        ("[0:0::1]", "[::1]:80", None),
        ("http://user:pw@h:1", "h:1", Some("Basic dXNlcjpwdw==")),
        ("http://user@h:1", "h:1", Some("Basic dXNlcjo=")),
        (
            "http://u%40x:p%3Aw%25@h:1",
            "h:1",
            Some("Basic dUB4OnA6dyU="),
        ),
        ("http://u:p@w@h:1", "h:1", Some("Basic dTpwQHc=")),
    ] {
        let read = ProxyUrl::parse(url).unwrap();
        assert_eq!(read.address(), address, "{url}");
        let value = read.authorization().map(|value| value.to_str().unwrap());
        assert_eq!(value, authorization, "{url}");
    }
}
