use super::*;

fn reads_as(path: &str, reading: &str) -> bool {
    readings(path)
        .iter()
        .any(|found| **found == *reading.as_bytes())
}

#[test]
fn every_spelling_of_a_path_reads_as_that_path() {
    for path in [
        "/admin/x",
        "/public/../admin/x",
        "/public/%2e%2e/admin/x",
        "/public/%252e%252E/admin/x",
        "/public/..;/admin/x",
        "/public/..;v=1/admin/x",
        "/public/..%3b/admin/x",
        "//admin/x",
        "/admin//x",
        "/admin/./x",
        "/admin/x/",
        "/admin/x/.",
        "/admin;a=b/x;c",
        "/%61dmin/x",
        "/%2561dmin/x",
        "/admin%2fx",
        "/admin%252Fx",
        "/admin\\x",
        "/admin%5cx",
        "\\admin\\x",
        "/public\\..\\admin\\x",
        "/../admin/x",
    ] {
        assert!(reads_as(path, "/admin/x"), "{path}");
    }
    for path in [
        "/admin",
        "/admin/xy",
        "/admin/x/y",
        "/admin%/x",
        "/%25252561dmin/x",
        "/a/x",
    ] {
        assert!(!reads_as(path, "/admin/x"), "{path}");
    }
}

#[test]
fn damaged_escapes_are_read_as_they_are() {
    for path in ["/%", "/%4", "/%zz", "/%é", "/%%", "/%c3", "*", ""] {
        assert!(reads_as(path, path), "{path}");
    }
    assert!(reads_as("/%%34%31", "/%41"));
    assert!(reads_as("/%%34%31", "/A"));
}

#[test]
fn a_plain_path_is_what_it_says() {
    for path in [
        "/",
        "/a",
        "/a/",
        "/a/b",
        "/a-._~!$&'()*+,=:@",
        "/...",
        "/%20%C3%A9%3B",
    ] {
        assert!(is_plain(path), "{path}");
    }
    for path in [
        "", "a", "*", "//", "/a//b", "//a", "/a//", "/.", "/..", "/a/./b", "/a/..", "/;", "/a;b",
        "/a\\b", "/é", "/a\"", "/a|b", "/%", "/%2", "/%2e", "/%2E", "/%41", "/%2f", "/%2F", "/%5C",
        "/%25", "/%c3", "/%C3%a9", "/%GG", "/a?b", "/a#b",
    ] {
        assert!(!is_plain(path), "{path}");
    }
}
