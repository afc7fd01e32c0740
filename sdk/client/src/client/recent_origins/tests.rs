use super::*;

fn uri(text: &str) -> Uri {
    text.parse().unwrap()
}

#[test]
fn a_uri_that_is_written_as_before_has_the_origin_of_before() {
    let origins = RecentOrigins::default();
    let find = |text: &str| origins.find_or_read(&uri(text)).unwrap();
    let first = find("https://API.example.com:443/a");
    assert_eq!(first.as_str(), "https://api.example.com");
    let again = find("https://API.example.com:443/b?c");
    assert!(Arc::ptr_eq(&first, &again));
    assert_eq!(find("https://api.example.com/"), first);
}

#[test]
fn the_scheme_and_the_port_tell_origins_apart() {
    let origins = RecentOrigins::default();
    let all = [
        "https://localhost:1/",
        "http://localhost:1/",
        "https://localhost:2/",
        "https://localhost/",
        "http://localhost/",
    ];
    for text in all.iter().chain(&all) {
        let found = origins.find_or_read(&uri(text)).unwrap();
        assert_eq!(found.as_str(), text.trim_end_matches('/'));
    }
}

#[test]
fn what_is_no_origin_stays_none_however_often_it_comes() {
    let origins = RecentOrigins::default();
    for (text, error) in [
        ("/path", InvalidTarget::NotAbsolute),
        ("ftp://localhost/", InvalidTarget::Scheme),
        ("https://user@localhost/", InvalidTarget::Authority),
    ] {
        for _ in 0..2 {
            assert_eq!(origins.find_or_read(&uri(text)), Err(error), "{text}");
        }
    }
}
