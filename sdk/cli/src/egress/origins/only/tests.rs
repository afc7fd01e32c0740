use http::Request;

use super::*;

fn is_passed(only: &Only, method: &str, path: &str) -> bool {
    let request = Request::builder().method(method).uri(path).body(());
    let parts = request.expect("a request").into_parts().0;
    let name = HostPort::parse("api.example").expect("a name");
    only.check(&name, &parts).is_ok()
}

#[test]
fn without_settings_every_request_is_passed_on() {
    assert!(is_passed(&Only::default(), "DELETE", "/a/../b"));
}

#[test]
fn a_path_is_below_a_prefix_in_every_reading_or_it_is_refused() {
    let only = Only::new(&[], &["/mcp", "/a/b/"]).expect("plain prefixes");
    for path in [
        "/mcp",
        "/mcp/",
        "/mcp/x?y=/../z",
        "/a/b",
        "/a/b/c",
        "/mcp/%41",
    ] {
        assert!(is_passed(&only, "POST", path), "{path}");
    }
    for path in [
        "/",
        "/mcpx",
        "/MCP",
        "/x/mcp",
        "/mcp/../admin",
        "/mcp/./x",
        "/mcp//x",
        "/mcp/%2e%2e/admin",
        "/mcp/%2E./admin",
        "/mcp%2fadmin",
        "/mcp/..%5cadmin",
        "/mcp/..;/admin",
        "/mcp/%252e%252e/x",
        "//mcp",
        "/a",
        "/a/bc",
    ] {
        assert!(!is_passed(&only, "POST", path), "{path}");
    }
}

#[test]
fn a_method_is_named_or_refused() {
    let only = Only::new(&["GET", "POST"], &[]).expect("methods");
    for (method, passed) in [
        ("GET", true),
        ("HEAD", true),
        ("POST", true),
        ("DELETE", false),
    ] {
        assert_eq!(is_passed(&only, method, "/x"), passed, "{method}");
    }
    let request = Request::post("/x")
        .header("X_HTTP_Method-Override", "DELETE")
        .body(());
    let parts = request.expect("a request").into_parts().0;
    let name = HostPort::parse("api.example").expect("a name");
    assert!(only.check(&name, &parts).is_err());
}

#[test]
fn settings_that_are_no_methods_or_prefixes_are_errors() {
    for (methods, paths) in [
        (&["get"][..], &[][..]),
        (&[""], &[]),
        (&[], &["mcp"]),
        (&[], &["/a/../b"]),
    ] {
        assert!(Only::new(methods, paths).is_err(), "{methods:?} {paths:?}");
    }
}
