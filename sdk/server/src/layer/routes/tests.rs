use http::Request;

use super::*;

fn request(method: &str, path: &str) -> Parts {
    let request = Request::builder().method(method).uri(path);
    request.body(()).unwrap().into_parts().0
}

fn contains(routes: &Routes, method: &str, path: &str) -> bool {
    routes.contain(&request(method, path))
}

#[test]
fn a_star_is_every_path_perhaps_with_a_method() {
    let all = Routes::new(["*"]).unwrap();
    for path in ["/", "/a/b", "//a", "*", "/%2e%2e/a;b"] {
        assert!(contains(&all, "OPTIONS", path), "{path}");
        assert!(all.name_path_of(&request("GET", path)), "{path}");
    }
    let reads = Routes::new(["GET *"]).unwrap();
    assert!(contains(&reads, "HEAD", "/a"));
    assert!(!contains(&reads, "POST", "/a"));
    let but_one = all.except(["GET /health"]).unwrap();
    assert!(!contains(&but_one, "GET", "/health"));
    assert!(contains(&but_one, "GET", "/health/"));
    assert_eq!(
        format!("{but_one:?}"),
        "Routes { chosen: [*], excepted: [GET /health] }"
    );
}

#[test]
fn rs_13_surely_only_as_sent_and_not_where_any_reading_is_excepted() {
    let routes = Routes::new(["/docs/*", "GET /x"])
        .unwrap()
        .except(["/docs/private/*", "/docs/secret", "DELETE *"])
        .unwrap();
    for (method, path, is_sure) in [
        ("GET", "/docs", true),
        ("GET", "/docs/", true),
        ("POST", "/docs/a%20b", true),
        ("GET", "/docs/a?q=1", true),
        ("HEAD", "/x", true),
        ("POST", "/x", false),
        ("DELETE", "/docs/a", false),
        ("delete", "/docs/a", false),
        ("GET", "/docs/secret", false),
        // By one reading of two.
        ("GET", "/docs/secret/", false),
        ("GET", "/docs/private", false),
        ("GET", "/docs/private/", false),
        ("GET", "/docs/private/a", false),
        ("GET", "/other", false),
        // Chosen and not excepted by one reading, another one by another.
        ("GET", "/docs/../other", false),
        ("GET", "/%64ocs/a", false),
        ("GET", "//docs/a", false),
        ("GET", "/docs/;v=1", false),
        ("GET", "/docs/%2e%2e/other", false),
        ("GET", "/docs/%252e%252e/other", false),
        ("GET", "/docs\\..\\other", false),
    ] {
        let surely = routes.surely_contain(&request(method, path));
        assert_eq!(surely, is_sure, "{method} {path}");
    }
    let mut overridden = request("GET", "/docs");
    let field = ("x_http_method_override", "DELETE");
    overridden
        .headers
        .insert(field.0, http::HeaderValue::from_static(field.1));
    assert!(!routes.surely_contain(&overridden));
    let of_any_method = Routes::new(["/docs"]).unwrap();
    assert!(of_any_method.surely_contain(&overridden));
    assert!(
        !Routes::new(["*"])
            .unwrap()
            .surely_contain(&request("OPTIONS", "*"))
    );
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
        "**",
        "*/a",
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
