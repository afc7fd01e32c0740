//! Redirects: which are followed, and what the others say (CL-6).

use std::collections::HashMap;

use axum::Router;
use axum::response::Redirect;
use axum::routing::any;
use bowline_client::{HttpVersions, ProofKind};
use bowline_mcp::{ErrorKind, StreamableHttp};
use bowline_server::RequireRequestBound;
use bowline_transport::RequestBoundCalls;
use futures_util::StreamExt;
use http::header;
use rmcp::transport::streamable_http_client::{
    StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse,
};

use crate::house::House;
use crate::scripted::{DONE, EVENTS, JSON, Scripted, own, ping, respond, soon};

#[tokio::test]
async fn a_307_or_308_to_the_same_origin_takes_the_whole_request_with_it() {
    for status in [307, 308] {
        let server =
            Scripted::start(
                move |seen| match (seen.path.as_str(), seen.method.as_str()) {
                    ("/mcp", _) => respond(status, &[("location", "v2/mcp?x=1")], "moved"),
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
        let (first, second) = ("/mcp", "/v2/mcp");
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
async fn ten_are_followed_and_an_eleventh_is_an_error() {
    let hop = |last: usize| {
        move |seen: &crate::scripted::Seen| match seen
            .path
            .trim_start_matches('/')
            .parse()
            .unwrap_or(0)
        {
            hops if hops == last => respond(200, &[JSON], DONE),
            hops => respond(307, &[("location", &format!("/{}", hops + 1))], ""),
        }
    };
    let server = Scripted::start(hop(10)).await;
    server.post(ping()).await.unwrap();
    assert_eq!(server.seen().len(), 11);

    let server = Scripted::start(hop(usize::MAX)).await;
    let error = own(server.post(ping()).await);
    assert_eq!(error.kind(), ErrorKind::Redirect);
    assert!(error.to_string().contains("more than 10 times"), "{error}");
    assert_eq!(server.seen().len(), 11);
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
async fn a_redirected_request_has_a_proof_of_its_own_if_proofs_are_for_one_request() {
    let moved =
        |routes: Router| routes.route("/old", any(|| async { Redirect::permanent("/mcp") }));
    let house = House::open_with(moved, |layer| {
        layer.require_request_bound(RequireRequestBound::Always)
    });
    let client = house.client(HttpVersions::Http2);
    let claims = RequestBoundCalls::none().for_method("ping");
    let http = StreamableHttp::new(client.clone())
        .token(house.token())
        .request_bound_calls(claims);
    let old = format!("{}/old", house.server.origin());
    let posting = http.post_message(old.into(), ping(), None, None, HashMap::new());
    // What the MCP server makes of it does not matter: the verifier let it through, with the `htu`
    // of either target.
    let posted = soon(posting).await;
    let refused = matches!(
        &posted,
        Err(StreamableHttpError::AuthRequired(_) | StreamableHttpError::Client(_))
    );
    assert!(!refused, "{posted:?}");
    let totals = client.stats().totals;
    assert_eq!((totals.requests, totals.refused), (2, 0));
    assert_eq!(totals.minted, [(ProofKind::Request, 2)].into());
}
