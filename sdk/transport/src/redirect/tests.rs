use std::cell::RefCell;
use std::convert::Infallible;
use std::future::ready;

use super::*;

const FIRST: &str = "https://mcp.example.com/v1/mcp?x=1";

fn head(status: u16, location: Option<&str>) -> Parts {
    let mut response = Response::builder().status(status);
    if let Some(location) = location {
        response = response.header(LOCATION, location);
    }
    response.body(()).unwrap().into_parts().0
}

fn followed(first: &str, configured: &str, location: &str) -> Result<String, Reason> {
    let first = first.parse().unwrap();
    let found = target(&first, &first, configured, &head(307, Some(location)));
    let same = target(&first, &first, configured, &head(308, Some(location)));
    assert_eq!(found, same, "{location}");
    found.map(|uri| uri.to_string())
}

#[test]
fn a_307_or_308_to_the_same_path_or_below_the_configured_one_is_followed() {
    for (location, to) in [
        ("", "https://mcp.example.com/v1/mcp?x=1"),
        ("#part", "https://mcp.example.com/v1/mcp?x=1"),
        ("?x=1", "https://mcp.example.com/v1/mcp?x=1"),
        ("mcp/?x=1", "https://mcp.example.com/v1/mcp/?x=1"),
        (
            "/v1/mcp/v2?x=1#part",
            "https://mcp.example.com/v1/mcp/v2?x=1",
        ),
        ("mcp/a/../b?x=1", "https://mcp.example.com/v1/mcp/b?x=1"),
        (
            "HTTPS://MCP.example.com:443/v1/mcp/v2?x=1",
            "https://mcp.example.com/v1/mcp/v2?x=1",
        ),
        (
            "//mcp.example.com/v1/mcp/?x=1",
            "https://mcp.example.com/v1/mcp/?x=1",
        ),
    ] {
        assert_eq!(
            followed(FIRST, "/v1/mcp", location).as_deref(),
            Ok(to),
            "{location}"
        );
        let same = followed(FIRST, "/v1/mcp/", location);
        assert_eq!(same.as_deref(), Ok(to), "{location}, slash at the end");
    }
}

#[test]
fn no_other_redirect_is_followed_and_the_error_has_the_reason() {
    for (location, reason) in [
        ("http://mcp.example.com/v1/mcp?x=1", Reason::OtherOrigin),
        (
            "https://mcp.example.com:8443/v1/mcp?x=1",
            Reason::OtherOrigin,
        ),
        ("https://example.com/v1/mcp?x=1", Reason::OtherOrigin),
        ("//example.com/v1/mcp?x=1", Reason::OtherOrigin),
        (
            "https://mcp.example.com.evil.com/v1/mcp?x=1",
            Reason::OtherOrigin,
        ),
        (
            "https://user:pw@mcp.example.com/v1/mcp?x=1",
            Reason::NoTarget,
        ),
        (r"/\evil.com/v1/mcp?x=1", Reason::NoTarget),
        ("/v1/mcp/\t..?x=1", Reason::NoTarget),
        ("data:x", Reason::NoTarget),
        ("https://", Reason::NoTarget),
        ("/v2?x=1", Reason::OtherPath),
        ("v2?x=1", Reason::OtherPath),
        ("../v2?x=1#part", Reason::OtherPath),
        ("/v1/mcp2?x=1", Reason::OtherPath),
        ("/v1?x=1", Reason::OtherPath),
        ("/?x=1", Reason::OtherPath),
        ("/V1/mcp?x=1", Reason::OtherPath),
        ("/v1/mcp/../x?x=1", Reason::OtherPath),
        ("/v1/mcp/%2e%2e/x?x=1", Reason::OtherPath),
        ("/v1/mcp/%2E/x?x=1", Reason::OtherPath),
        ("/v1/mcp/a%2e?x=1", Reason::OtherPath),
        ("/v1/mcp/..%2fx?x=1", Reason::OtherPath),
        ("/v1/mcp/..%5Cx?x=1", Reason::OtherPath),
        ("/v1/mcp", Reason::OtherQuery),
        ("/v1/mcp?", Reason::OtherQuery),
        ("?y=2", Reason::OtherQuery),
        ("/v1/mcp/v2?x=1&y=2", Reason::OtherQuery),
        ("/v1/mcp?x=%31", Reason::OtherQuery),
    ] {
        assert_eq!(
            followed(FIRST, "/v1/mcp", location),
            Err(reason),
            "{location}"
        );
    }
    let first = FIRST.parse().unwrap();
    for status in [300, 301, 302, 303, 305, 399] {
        let head = head(status, Some("/v1/mcp?x=1"));
        assert_eq!(
            target(&first, &first, "/v1/mcp", &head),
            Err(Reason::Status),
            "{status}"
        );
    }
    let without = target(&first, &first, "/v1/mcp", &head(307, None));
    assert_eq!(without, Err(Reason::NoTarget));
}

#[test]
fn nothing_is_below_the_root() {
    let first = "https://a.example/mcp";
    assert_eq!(
        followed(first, "/", "/mcp/").as_deref(),
        Ok("https://a.example/mcp/")
    );
    assert_eq!(followed(first, "/", "/mcp/v2"), Err(Reason::OtherPath));
    assert_eq!(followed(first, "", "/v2"), Err(Reason::OtherPath));
    let root = "https://a.example";
    assert_eq!(
        followed(root, "/", "/").as_deref(),
        Ok("https://a.example/")
    );
    assert_eq!(followed(root, "/", "//a.example/x"), Err(Reason::OtherPath));
}

#[test]
fn the_query_is_sent_again_as_it_was() {
    // A reader of URLs would escape the quotation mark.
    let first = "https://a.example/mcp?q='a|b'";
    let to = followed(first, "/mcp", "/mcp/?q='a|b'");
    assert_eq!(to.as_deref(), Ok("https://a.example/mcp/?q='a|b'"));
}

#[test]
fn an_escaped_path_is_followed_only_to_the_same_path() {
    let first = "https://a.example/tasks/a%2Fb";
    let slash = followed(first, "/tasks", "/tasks/a%2Fb/");
    assert_eq!(slash.as_deref(), Ok("https://a.example/tasks/a%2Fb/"));
    assert_eq!(
        followed(first, "/tasks", "/tasks/a%2Fc"),
        Err(Reason::OtherPath)
    );
}

/// Answers with these one after the other; also returns where the requests went.
async fn exchange(
    request: Request<&str>,
    answers: &[(u16, &str)],
) -> (Result<StatusCode, Reason>, Vec<String>) {
    let sent = RefCell::new(Vec::new());
    let discarded = RefCell::new(0);
    let send = |request: Request<&str>| {
        assert_eq!(*request.body(), "body");
        assert_eq!(request.headers()["x-kept"], "yes");
        let (status, location) = answers[sent.borrow().len()];
        sent.borrow_mut().push(request.uri().path().to_owned());
        let response = Response::from_parts(head(status, Some(location)), ());
        ready(Ok::<_, Infallible>(response))
    };
    let discard = |()| {
        *discarded.borrow_mut() += 1;
        ready(())
    };
    let found = follow(request, "/mcp", send, discard).await;
    let Ok(found) = found;
    let found = found.map(|response| response.status());
    assert_eq!(*discarded.borrow(), sent.borrow().len() - 1);
    (
        found.map_err(|redirect| redirect.reason()),
        sent.into_inner(),
    )
}

fn request() -> Request<&'static str> {
    let request = Request::post("https://a.example/mcp").header("x-kept", "yes");
    request.body("body").unwrap()
}

#[tokio::test]
async fn three_redirects_are_followed_and_a_fourth_is_not() {
    let hops = [(307, "/mcp/a"), (308, "/mcp/b"), (307, "/mcp")];
    let (found, sent) = exchange(request(), &[&hops[..], &[(200, "")]].concat()).await;
    assert_eq!(found, Ok(StatusCode::OK));
    assert_eq!(sent, ["/mcp", "/mcp/a", "/mcp/b", "/mcp"]);
    let (found, sent) = exchange(request(), &[&hops[..], &[(307, "/mcp/c")]].concat()).await;
    assert_eq!(found, Err(Reason::TooMany));
    assert_eq!(sent.len(), 1 + MAX_REDIRECTS);
}

#[tokio::test]
async fn a_call_with_a_proof_of_its_own_is_not_redirected() {
    let mut request = request();
    request.extensions_mut().insert(RequestBoundProof);
    let (found, sent) = exchange(request, &[(307, "/mcp/")]).await;
    assert_eq!((found, sent.len()), (Err(Reason::RequestBound), 1));
}

#[tokio::test]
async fn a_response_that_is_no_redirect_is_returned() {
    for status in [200, 304, 401, 500] {
        let (found, _) = exchange(request(), &[(status, "/mcp/")]).await;
        assert_eq!(found.map(|status| status.as_u16()), Ok(status));
    }
    let (found, _) = exchange(request(), &[(307, "/mcp/"), (302, "/mcp/")]).await;
    assert_eq!(found, Err(Reason::Status));
}

#[test]
fn a_message_names_the_target_and_shows_no_secret() {
    let shown = |location| {
        let response = Response::from_parts(head(307, location), ());
        let reason = Reason::OtherOrigin;
        NotFollowed { response, reason }.to_string()
    };
    assert_eq!(
        shown(Some(
            "https://user:pw@b.example:8443/mF_9.B5f-4.1JqM-SlA/x?code=1#y"
        )),
        "a redirect (HTTP 307 Temporary Redirect) to https://b.example:8443/.../x?... is not \
         followed: \
         it leads to another origin"
    );
    assert!(shown(None).contains("to nowhere"));
}

#[test]
fn references_are_resolved_within_the_origin() {
    let base = Uri::from_static("https://Mcp.example:8443/a/b/sse?x=1");
    let resolved = |reference: &str| resolve(&base, reference).map(|uri| uri.to_string());
    let root = "https://mcp.example:8443";
    for (reference, target) in [
        ("/messages/?session_id=7", "/messages/?session_id=7"),
        ("/message#part", "/message"),
        ("message?s=7", "/a/b/message?s=7"),
        ("../message", "/a/message"),
        ("/../../x/..", "/"),
        ("", "/a/b/sse?x=1"),
        ("//mcp.example:8443/m", "/m"),
        // No field value and no request line is split by these.
        ("/a b\r\nx: y", "/a%20bx:%20y"),
    ] {
        assert_eq!(
            resolved(reference),
            Ok(format!("{root}{target}")),
            "{reference}"
        );
    }
    for reference in [
        "https://evil.example/m",
        "http://mcp.example:8443/m",
        r"/\evil.example:8443/m",
    ] {
        let error = resolved(reference).unwrap_err();
        assert!(
            matches!(error, ResolveError::OtherOrigin { .. }),
            "{reference}"
        );
    }
    for reference in [
        "https://user@mcp.example:8443/m",
        "ftp://mcp.example:8443/m",
    ] {
        assert_eq!(
            resolved(reference),
            Err(ResolveError::NotHttp),
            "{reference}"
        );
    }
    for reference in ["https://", "//"] {
        assert_eq!(
            resolved(reference),
            Err(ResolveError::NotUrl),
            "{reference}"
        );
    }
}
