//! RS-13: which paths need no token, and what a request for one loses.

use bowline_proof::Check;
use http::HeaderName;

use super::fixture::*;
use crate::Routes;

/// A server behind this one may read such a path differently.
#[tokio::test]
async fn a_path_with_a_second_reading_needs_a_token_even_if_it_is_configured() {
    let plain = [
        "/public/x",
        "/public/",
        "/",
        "/a.b/..c",
        "/caf%C3%A9",
        "/a%20b",
    ];
    let ambiguous = [
        "/public/../x",
        "/public/%2e%2e/x",
        "/public/%2E./x",
        "/public//x",
        "//public/x",
        "/public/..;/x",
        "/public/x;v=1",
        "/public\\x",
        "/public%5cx",
        "/public%2fx",
        "/public%2Fx",
        "/public/%252e/x",
        "/public/./x",
        "/public/.",
        "/public/..",
        "/public//",
        "/publi%63/x",
        "/caf%c3%a9",
    ];
    let configured: Vec<_> = plain.into_iter().chain(ambiguous).collect();
    let mut fixture = public(&configured);
    for path in &configured {
        for query in ["", "?v=1"] {
            fixture.uri = format!("{path}{query}");
            let outcome = fixture.send().await;
            let is_plain = plain.contains(path);
            assert_eq!(outcome.reached, is_plain, "{path}");
            let check = (!is_plain).then_some(Check::NoToken);
            assert_eq!(outcome.check(), check, "{path}");
        }
    }
    // And with a public path of their own prefix only.
    let mut fixture = public(&["/public/", "/public", "/x"]);
    for path in ambiguous {
        fixture.uri = path.to_owned();
        assert!(!fixture.send().await.reached, "{path}");
    }
}

#[tokio::test]
async fn a_public_request_carries_no_token_and_no_proof_onward() {
    let basic = || vec!["Basic dTpw".to_owned()];
    let two = vec!["Basic dTpw".to_owned(), "Bearer t0k".to_owned()];
    for (authorization, kept) in [
        (vec![], false),
        (vec!["Bearer t0k".to_owned()], false),
        (vec!["DPoP t0k".to_owned()], false),
        (vec!["Basic".to_owned()], false),
        (vec!["Basic dTpw, Bearer t0k".to_owned()], false),
        (vec!["Basic dTpw Bearer t0k".to_owned()], false),
        (vec!["Basicer dTpw".to_owned()], false),
        (vec!["Basic, Bearer t0k".to_owned()], false),
        (vec![" Bearer t0k".to_owned()], false),
        (vec![String::new()], false),
        (basic(), true),
        (vec!["bASIC dTpw".to_owned()], true),
        (two, false),
        (vec![basic().concat(), basic().concat()], false),
    ] {
        let mut fixture = public(&["/mcp"]);
        fixture.uri = "/mcp".to_owned();
        fixture.authorization = Some(authorization.clone());
        fixture.proofs = None;
        fixture.fields = vec![
            ("dpop", "proof".to_owned()),
            ("dpop", "another".to_owned()),
            ("session_binding_proof", "proof".to_owned()),
            ("x-other", "stays".to_owned()),
        ];
        let outcome = fixture.send().await;
        assert!(outcome.reached, "{authorization:?}");
        let arrived = outcome.arrived();
        let names: Vec<_> = arrived.keys().map(HeaderName::as_str).collect();
        assert_eq!(
            arrived.contains_key("authorization"),
            kept,
            "{authorization:?}"
        );
        let expected = if kept { 3 } else { 2 };
        assert_eq!(
            names.len(),
            expected,
            "host, x-other and perhaps one more: {names:?}"
        );
    }
}

#[tokio::test]
async fn routes_are_public_by_method_and_prefix() {
    let routes = Routes::new(["GET /.well-known/*"])
        .unwrap()
        .except(["/.well-known/secret"])
        .unwrap();
    let mut fixture = public(&[]);
    fixture.layer = fixture.layer.public_routes(routes);
    for (method, uri, reached) in [
        ("GET", "/.well-known/agent-card.json", true),
        ("HEAD", "/.well-known/agent-card.json", true),
        ("POST", "/.well-known/agent-card.json", false),
        ("GET", "/.well-known/secret", false),
        ("GET", "/.well-known/secret/", false),
        ("GET", "/.well-known/../mcp", false),
    ] {
        fixture.method = method;
        fixture.uri = uri.to_owned();
        assert_eq!(fixture.send().await.reached, reached, "{uri}");
    }
}

#[tokio::test]
async fn a_token_in_the_query_of_a_public_path_is_refused() {
    let mut fixture = public(&["/mcp"]);
    for query in ["access_token=x", "a=b&access%5Ftoken=x"] {
        fixture.uri = format!("/mcp?{query}");
        assert_eq!(fixture.send().await.check(), Some(Check::TokenTransport));
    }
}
