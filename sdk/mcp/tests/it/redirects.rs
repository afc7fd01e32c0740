//! Redirects: which ones are followed, and what the errors for the others say (CL-6).

use std::collections::HashMap;

use axum::Router;
use axum::response::Redirect;
use axum::routing::any;
use bowline_http_client::{HttpVersions, ProofKind};
use bowline_mcp::{ErrorKind, RequestBoundCalls, StreamableHttp};
use bowline_server::RequireRequestBound;
use futures_util::StreamExt;
use http::header;
use rmcp::transport::streamable_http_client::{StreamableHttpClient, StreamableHttpPostResponse};

use crate::fixture::Fixture;
use crate::scripted::{DONE, EVENTS, JSON, Scripted, Seen, own, ping, ping_over, respond, soon};

#[tokio::test]
async fn a_307_or_308_below_the_endpoint_takes_the_whole_request_with_it() {
    for status in [307, 308] {
        let server =
            Scripted::start(
                move |seen| match (seen.path.as_str(), seen.method.as_str()) {
                    ("/mcp", _) => respond(status, &[("location", "mcp/v2")], "moved"),
                    (_, "POST") => respond(200, &[JSON], DONE),
                    (_, "GET") => respond(200, &[EVENTS], "data: 1\n\n"),
                    _ => respond(200, &[], ""),
                },
            )
            .await;
        let (session, token) = (Some("session".into()), Some("the-token".into()));
        let custom = HashMap::from([(
            header::HeaderName::from_static("x-tenant"),
            "7".parse().unwrap(),
        )]);
        let posting = server
            .http
            .post_message(server.uri.clone(), ping(), session, token, custom);
        let posted = soon(posting).await;
        assert!(
            matches!(posted, Ok(StreamableHttpPostResponse::Json(..))),
            "{posted:?}"
        );
        let events = server.get(Some("session"), Some("7")).await.unwrap();
        assert_eq!(soon(events.count()).await, 1);
        server.delete().await.unwrap();

        let seen = server.seen();
        let way: Vec<_> = seen
            .iter()
            .map(|seen| (seen.method.as_str(), seen.path.as_str()))
            .collect();
        let (first, second) = ("/mcp", "/mcp/v2");
        assert_eq!(
            way,
            [
                ("POST", first),
                ("POST", second),
                ("GET", first),
                ("GET", second),
                ("DELETE", first),
                ("DELETE", second)
            ]
        );
        for pair in seen.chunks(2) {
            assert_eq!(pair[0].headers, pair[1].headers);
            assert_eq!(pair[0].body, pair[1].body);
        }
        assert_eq!(seen[1].header("authorization"), Some("Bearer the-token"));
        assert_eq!(server.stats().connections_opened, 1);
    }
}

#[tokio::test]
async fn three_are_followed_and_a_fourth_is_an_error() {
    let hop = |last: usize| {
        move |seen: &Seen| {
            let hops = seen.path.trim_start_matches("/mcp/").parse().unwrap_or(0);
            if hops == last {
                respond(200, &[JSON], DONE)
            } else {
                respond(307, &[("location", &format!("/mcp/{}", hops + 1))], "")
            }
        }
    };
    let server = Scripted::start(hop(3)).await;
    server.post(ping()).await.unwrap();
    assert_eq!(server.seen().len(), 4);

    let server = Scripted::start(hop(usize::MAX)).await;
    let error = own(server.post(ping()).await);
    assert_eq!(error.kind(), ErrorKind::Redirect);
    assert!(error.to_string().contains("more than 3 times"), "{error}");
    assert_eq!(server.seen().len(), 4);
}

#[tokio::test]
async fn another_path_or_query_of_the_same_origin_is_another_audience() {
    for location in ["/new", "/mcp-2", "/mcp/../new", "/mcp/%2e%2e/new", "?x=1"] {
        let server = Scripted::start(move |seen| {
            if seen.path == "/mcp" && seen.query.is_none() {
                respond(308, &[("location", location)], "")
            } else {
                respond(202, &[], "")
            }
        })
        .await;
        let error = own(server.post(ping()).await);
        assert_eq!(error.kind(), ErrorKind::Redirect, "{location}");
        assert_eq!(server.seen().len(), 1, "{location}");
    }
}

#[tokio::test]
async fn any_other_redirect_is_an_error_that_says_where_it_leads() {
    for status in [301, 302, 303] {
        let server = Scripted::start(move |seen| match seen.path.as_str() {
            "/mcp" => respond(status, &[("location", "/elsewhere?code=s3cret")], ""),
            _ => respond(202, &[], ""),
        })
        .await;
        for error in [
            own(server.post(ping()).await),
            own(server.get(None, None).await),
            own(server.delete().await),
        ] {
            assert_eq!(error.kind(), ErrorKind::Redirect);
            let text = error.to_string();
            assert!(
                text.contains("/elsewhere") && text.contains(&status.to_string()),
                "{text}"
            );
            assert!(!text.contains("s3cret"), "{text}");
        }
        assert!(server.seen().iter().all(|seen| seen.path == "/mcp"));
    }
    let server = Scripted::answering(
        308,
        &[("location", "https://user:s3cret@mcp.example.com/v2")],
        "",
    )
    .await;
    let text = own(server.post(ping()).await).to_string();
    assert!(text.contains(" to https://mcp.example.com/v2;"), "{text}");
    let server = Scripted::answering(307, &[], "").await;
    assert!(
        own(server.post(ping()).await)
            .to_string()
            .contains("to nowhere")
    );
}

#[tokio::test]
async fn nothing_goes_to_another_origin() {
    let other = Scripted::answering(200, &[JSON], DONE).await;
    for status in [307, 308] {
        let target = format!("{}/mcp", other.uri.trim_end_matches("/mcp"));
        let server = Scripted::start(move |_| respond(status, &[("location", &target)], "")).await;
        let posting = server.http.post_message(
            server.uri.clone(),
            ping(),
            None,
            Some("the-token".into()),
            HashMap::new(),
        );
        let error = own(soon(posting).await);
        assert_eq!(error.kind(), ErrorKind::Redirect);
        assert!(error.to_string().contains(&*other.uri), "{error}");
        assert!(own(server.get(None, None).await).kind() == ErrorKind::Redirect);
        assert!(own(server.delete().await).kind() == ErrorKind::Redirect);
    }
    assert!(other.seen().is_empty());
}

#[tokio::test]
async fn a_request_bound_call_is_not_redirected() {
    let moved = |routes: Router| {
        let to_new = any(|| async { Redirect::permanent("/old/mcp") });
        routes.route("/old", to_new)
    };
    let fixture = Fixture::open_with(moved, |layer| {
        layer.require_request_bound(RequireRequestBound::Always)
    });
    let client = fixture.client(HttpVersions::Http2);
    let calls = RequestBoundCalls::none().for_method("ping");
    let http = StreamableHttp::new(client.clone())
        .token(fixture.token())
        .request_bound_calls(calls);
    let old = format!("{}/old", fixture.server.origin());
    let error = own(ping_over(&http, &old.into(), None).await);
    assert_eq!(error.kind(), ErrorKind::Redirect);
    assert!(
        error
            .to_string()
            .contains("the call's proof is for the URL"),
        "{error}"
    );
    // The verifier accepted the proof of the only request.
    let totals = client.stats().totals;
    assert_eq!((totals.requests, totals.refused), (1, 0));
    assert_eq!(totals.minted, [(ProofKind::Request, 1)].into());
}
