//! Servers that lie, babble, or say nothing: a bounded and precise error each.

use axum::Router;
use axum::body::Bytes;
use axum::routing::{any, get};
use bowline_mcp::{CONNECTION_CLOSED, ErrorKind};
use bowline_testkit::peers::LegacySse;
use bowline_testkit::peers::legacy_sse::{echo as reply, event};
use serde_json::json;

use super::{Plain, SHORT, agent, call_error, hurried, refusal, says, serve, transport};
use crate::scripted::{EVENTS, JSON, Scripted, chunks, respond, soon};

/// A server whose answer to the GET is this.
async fn answering(status: u16, headers: &'static [(&str, &str)], body: impl Into<Bytes>) -> Plain {
    let body = body.into();
    let answer = get(async move || respond(status, headers, chunks([body.clone()], true)));
    Plain::start(|_| Router::new().route("/sse", answer)).await
}

#[tokio::test]
async fn nothing_is_sent_to_an_endpoint_on_another_origin() {
    let elsewhere = Scripted::answering(202, &[], "").await;
    let endpoint = format!("event: endpoint\ndata: {}\n\n", elsewhere.uri);
    let plain = answering(200, &[EVENTS], endpoint).await;
    let error = refusal(transport(), &plain.uri()).await;
    assert_eq!(error.kind(), ErrorKind::EndpointElsewhere);
    assert!(
        error
            .to_string()
            .contains(elsewhere.uri.trim_end_matches("/mcp")),
        "{error}"
    );
    assert!(elsewhere.seen().is_empty());
}

#[tokio::test]
async fn an_endpoint_that_moves_to_another_origin_ends_the_transport() {
    let elsewhere = Scripted::answering(202, &[], "").await;
    let server = LegacySse::greeting(|_, message| reply(message), hurried);
    let plain = Plain::of(&server).await;
    let agent = agent(transport(), &plain.uri()).await;
    server.say(0, format!("event: endpoint\ndata: {}\n\n", elsewhere.uri));
    soon(agent.waiting()).await.unwrap();
    assert!(elsewhere.seen().is_empty());
    assert_eq!(server.sessions(), 1);
}

#[tokio::test]
async fn what_is_no_endpoint_is_refused() {
    for endpoint in [
        "ftp://x/",
        "http://user@127.0.0.1/",
        "http://",
        &format!("/{}", "x".repeat(2048)),
    ] {
        let plain = answering(
            200,
            &[EVENTS],
            format!("event: endpoint\ndata: {endpoint}\n\n"),
        )
        .await;
        let error = refusal(transport(), &plain.uri()).await;
        assert_eq!(error.kind(), ErrorKind::InvalidEndpoint, "{endpoint}");
    }
}

#[tokio::test]
async fn an_answer_to_the_get_that_is_no_event_stream_says_what_it_is() {
    let plain = answering(200, &[JSON], "{}").await;
    let error = refusal(transport(), &plain.uri()).await;
    assert_eq!(error.kind(), ErrorKind::NoEventStream);
    assert!(error.to_string().contains("application/json"), "{error}");
    for (status, headers, kind, text) in [
        (
            405,
            &[][..],
            ErrorKind::Status(http::StatusCode::METHOD_NOT_ALLOWED),
            "HTTP+SSE",
        ),
        (401, &[][..], ErrorKind::Unauthorized, "access token"),
        (
            403,
            &[][..],
            ErrorKind::Status(http::StatusCode::FORBIDDEN),
            "403",
        ),
        (
            302,
            &[("location", "https://evil.example/sse?code=secret")][..],
            ErrorKind::Redirect,
            "https://evil.example/sse;",
        ),
        (
            302,
            &[("location", "/there")][..],
            ErrorKind::Redirect,
            "/there;",
        ),
    ] {
        let plain = answering(status, headers, "").await;
        let error = refusal(transport(), &plain.uri()).await;
        assert_eq!(error.kind(), kind);
        assert!(error.to_string().contains(text), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

#[tokio::test]
async fn a_stream_without_an_endpoint_is_waited_for_so_long_and_no_longer() {
    for beginning in ["", ": ping\n\n", "event: message\ndata: {}\n\n"] {
        let plain = answering(200, &[EVENTS], beginning).await;
        let error = refusal(transport().open_timeout(SHORT), &plain.uri()).await;
        assert_eq!(error.kind(), ErrorKind::Stream, "{error}");
        assert!(error.to_string().contains("50ms"), "{error}");
    }
    let ending = get(async || respond(200, &[EVENTS], ""));
    let plain = Plain::start(|_| Router::new().route("/sse", ending)).await;
    let error = refusal(transport(), &plain.uri()).await;
    assert!(
        error.to_string().contains("ended the event stream"),
        "{error}"
    );
}

/// What is wrong with a stream that says this, as the call that waits for its answer hears it. The
/// next one works.
async fn answered_with(bytes: impl Into<Bytes>) -> String {
    let bytes = bytes.into();
    let server = LegacySse::greeting(
        |_, message| reply(message).filter(|_| message["params"]["arguments"]["text"] != "lost"),
        hurried,
    );
    let plain = Plain::of(&server).await;
    let agent = agent(transport().max_event(1000), &plain.uri()).await;
    let (error, ()) = tokio::join!(call_error(&agent), async {
        soon(server.has_received_text(0, "lost")).await;
        server.say(0, bytes);
    });
    assert_eq!(error.code, CONNECTION_CLOSED);
    says(&agent, "ahoy").await;
    error.message.into_owned()
}

#[tokio::test]
async fn oversized_and_endless_events_cost_their_stream() {
    for bytes in [
        format!("data: {}\n\n", "x".repeat(1000)),
        "x".repeat(1001),
        "data: x\n".repeat(1000),
        format!(":{}", "x".repeat(1001)),
    ] {
        let text = answered_with(bytes).await;
        assert!(text.contains("more than 1000 bytes"), "{text}");
    }
}

#[tokio::test]
async fn bytes_that_are_no_utf8_cost_their_stream() {
    let text = answered_with(&b"data: \xff\n\n"[..]).await;
    assert!(text.contains("not UTF-8"), "{text}");
}

#[tokio::test]
async fn an_event_that_is_no_message_costs_nothing_and_an_answer_that_is_none_its_call() {
    let server = LegacySse::greeting(
        |_, message| match message["method"] == "tools/call"
            && message["params"]["arguments"]["text"] == "lost"
        {
            true => Some(json!({ "id": message["id"], "nonsense": true })),
            false => reply(message),
        },
        |session| format!("{}data: <html>\n\ndata: [1]\n\ndata\n\n", hurried(session)),
    );
    let plain = Plain::of(&server).await;
    let agent = agent(transport(), &plain.uri()).await;
    let error = call_error(&agent).await;
    assert_eq!(error.code.0, -32700);
    says(&agent, "ahoy").await;
    assert_eq!(server.sessions(), 1);
}

#[tokio::test]
async fn a_stream_that_says_nothing_is_taken_for_broken_if_it_is_to_be() {
    let server = LegacySse::greeting(
        |session, message| {
            reply(message).filter(|_| session > 0 || message["method"] != "tools/call")
        },
        hurried,
    );
    let plain = Plain::of(&server).await;
    let agent = agent(transport().silence(SHORT).reconnects(1000), &plain.uri()).await;
    let error = call_error(&agent).await;
    assert!(error.message.contains("said nothing for 50ms"), "{error:?}");
}

#[tokio::test]
async fn a_post_that_nobody_accepts_fails_and_may_have_been_processed() {
    let endless = any(std::future::pending::<String>);
    let plain = Plain::start(|_| {
        let server = LegacySse::greeting(
            |_, _| None,
            |_| "event: endpoint\ndata: /never\n\n".to_owned(),
        );
        server.router().route("/never", endless)
    })
    .await;
    let error = refusal(transport().post_timeout(SHORT), &plain.uri()).await;
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.may_have_been_processed());
}

#[tokio::test]
async fn a_post_that_is_refused_fails_by_itself() {
    let server = LegacySse::greeting(|_, message| reply(message), hurried);
    let refusing = axum::middleware::from_fn(
        |request: axum::extract::Request, next: axum::middleware::Next| async {
            let (head, body) = request.into_parts();
            let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
            match bytes.windows(4).any(|window| window == b"lost") {
                true => respond(400, &[], ""),
                false => {
                    next.run(axum::extract::Request::from_parts(head, bytes.into()))
                        .await
                }
            }
        },
    );
    let plain = Plain::start(|_| server.router().layer(refusing)).await;
    let agent = agent(transport(), &plain.uri()).await;
    let failed = soon(agent.call_tool(crate::house::echo("lost")))
        .await
        .unwrap_err();
    assert!(format!("{failed:?}").contains("400"), "{failed:?}");
    says(&agent, "ahoy").await;
    assert_eq!(server.sessions(), 1);
}

#[tokio::test]
async fn a_server_that_asks_without_end_is_left() {
    let server = LegacySse::greeting(|_, message| reply(message), hurried);
    let plain = Plain::of(&server).await;
    let agent = serve(Deaf, transport(), &plain.uri()).await.unwrap();
    let questions: String = (0..=1024)
        .map(|id| event(&json!({ "jsonrpc": "2.0", "id": id, "method": "roots/list" })))
        .collect();
    server.say(0, questions);
    soon(server.has_received(1, "notifications/initialized")).await;
    says(&agent, "ahoy").await;
}

/// Never says what its roots are.
struct Deaf;

impl rmcp::ClientHandler for Deaf {
    async fn list_roots(
        &self,
        _: rmcp::service::RequestContext<rmcp::RoleClient>,
    ) -> Result<rmcp::model::ListRootsResult, rmcp::model::ErrorData> {
        std::future::pending().await
    }
}

#[test]
fn nothing_secret_is_shown() {
    let token = bowline_client::AccessToken::new("very-secret-token").unwrap();
    assert!(!format!("{:?}", transport().token(token)).contains("secret"));
}
