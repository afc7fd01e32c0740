use http::Request;

use super::*;

fn contains(routes: &Routes, method: &str, path: &str) -> bool {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .body(())
        .unwrap();
    routes.contain(&request.into_parts().0)
}

#[test]
fn a_pattern_is_a_path_or_a_prefix_perhaps_with_a_method() {
    let routes = Routes::new(["/one", "DELETE /two", "/below/*", "GET /read"]).unwrap();
    for (method, path, is_chosen) in [
        ("GET", "/one", true),
        ("PURGE", "/one", true),
        ("GET", "/one?a=b", true),
        ("GET", "/one/x", false),
        ("GET", "/onex", false),
        ("DELETE", "/two", true),
        ("delete", "/two", true),
        ("GET", "/two", false),
        ("GET", "/below", true),
        ("GET", "/below/", true),
        ("POST", "/below/a/b", true),
        ("GET", "/belowx", false),
        ("GET", "/read", true),
        ("HEAD", "/read", true),
        ("POST", "/read", false),
        ("GET", "/", false),
    ] {
        assert_eq!(
            contains(&routes, method, path),
            is_chosen,
            "{method} {path}"
        );
    }
    assert!(contains(&Routes::new(["/*"]).unwrap(), "GET", "/"));
    assert!(contains(&Routes::new(["/*"]).unwrap(), "GET", "/a/b"));
    assert!(contains(&Routes::new(["HEAD /x"]).unwrap(), "HEAD", "/x"));
    assert!(!contains(&Routes::new(["HEAD /x"]).unwrap(), "GET", "/x"));
}

#[test]
fn rs_12_any_reading_chooses_and_only_all_readings_except() {
    let routes = Routes::new(["/admin/*"])
        .unwrap()
        .except(["/admin/public/*", "GET /admin/status"])
        .unwrap();
    for path in [
        "/admin/public",
        "/admin/public/x",
        "/admin/status",
        "/other",
    ] {
        assert!(!contains(&routes, "GET", path), "{path}");
    }
    for path in [
        "/admin/x",
        "/%61dmin/x",
        "/other/../admin/x",
        "/other/..;/admin/x",
        "/other/%252e%252e/admin/x",
        "//admin/x",
        "/admin/public/../x",
        "/admin/public/%2e%2e/x",
        "/admin/public/..;/x",
        "/admin/public/%252e%252e/x",
        "/admin/public\\..\\x",
        "/admin/status/",
        "/admin/status;v=1",
    ] {
        assert!(contains(&routes, "GET", path), "{path}");
    }
    assert!(contains(&routes, "POST", "/admin/status"));
    assert!(!contains(&routes, "HEAD", "/admin/status"));
}

#[test]
fn a_pattern_that_cannot_match_as_it_is_written_is_refused() {
    for pattern in [
        "",
        "admin",
        "*",
        "/a*",
        "/*/b",
        "/a/*/b",
        "/a/../b",
        "/a//b",
        "/a;b",
        "/%61",
        "GET",
        "GET  /a",
        "G@T /a",
        "GET /a ",
        "/a b c",
        "https://host/a",
    ] {
        assert_eq!(
            Routes::new([pattern]).unwrap_err(),
            InvalidRoute,
            "{pattern}"
        );
        assert!(Routes::default().except([pattern]).is_err(), "{pattern}");
    }
}
