//! Servers that send invalid, endless or no data: each case is a bounded and precise error.

use axum::Router;
use axum::body::Bytes;
use axum::routing::{any, get};
use bowline_mcp::{CONNECTION_CLOSED, ErrorKind};
use bowline_testkit::peers::LegacySse;
use bowline_testkit::peers::legacy_sse::{echo as reply, event};
use serde_json::json;

use super::{
    Plain, SHORT, agent, call_error, echoes, fast_retry, is_lost_call, refusal, serve, transport,
};
use crate::scripted::{EVENTS, JSON, Scripted, chunks, respond, soon};

/// A server with this response to the GET.
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
    assert_eq!(error.kind(), ErrorKind::EndpointOnOtherOrigin);
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
    let server = LegacySse::with_greeting(|_, message| reply(message), fast_retry);
    let plain = Plain::serving(&server).await;
    let agent = agent(transport(), &plain.uri()).await;
    server.send(0, format!("event: endpoint\ndata: {}\n\n", elsewhere.uri));
    soon(agent.waiting()).await.unwrap();
    assert!(elsewhere.seen().is_empty());
    assert_eq!(server.sessions(), 1);
}

#[tokio::test]
async fn an_invalid_endpoint_is_refused() {
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
async fn a_response_to_the_get_that_is_not_an_event_stream_is_described() {
    let plain = answering(200, &[JSON], "{}").await;
    let error = refusal(transport(), &plain.uri()).await;
    assert_eq!(error.kind(), ErrorKind::NotAnEventStream);
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
            "https://evil.example/sse?...;",
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
async fn a_stream_without_an_endpoint_times_out() {
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

/// The error text that a pending call gets when the stream brings these bytes. The next call works.
async fn error_after(bytes: impl Into<Bytes>) -> String {
    let bytes = bytes.into();
    let server = LegacySse::with_greeting(
        |_, message| reply(message).filter(|_| message["params"]["arguments"]["text"] != "lost"),
        fast_retry,
    );
    let plain = Plain::serving(&server).await;
    let agent = agent(transport().max_event_bytes(1000), &plain.uri()).await;
    let (error, ()) = tokio::join!(call_error(&agent), async {
        soon(server.has_received_text(0, "lost")).await;
        server.send(0, bytes);
    });
    assert_eq!(error.code, CONNECTION_CLOSED);
    echoes(&agent, "ahoy").await;
    error.message.into_owned()
}

#[tokio::test]
async fn oversized_and_endless_events_break_their_stream() {
    for bytes in [
        format!("data: {}\n\n", "x".repeat(1000)),
        "x".repeat(1001),
        "data: x\n".repeat(1000),
        format!(":{}", "x".repeat(1001)),
    ] {
        let text = error_after(bytes).await;
        assert!(text.contains("more than 1000 bytes"), "{text}");
    }
}

#[tokio::test]
async fn bytes_that_are_not_utf8_become_replacement_characters() {
    // As the standard decodes them: the event is no message, and is skipped.
    let server = LegacySse::with_greeting(|_, message| reply(message), fast_retry);
    let plain = Plain::serving(&server).await;
    let agent = agent(transport(), &plain.uri()).await;
    server.send(0, &b"data: \xff\n\n"[..]);
    echoes(&agent, "ahoy").await;
}

#[tokio::test]
async fn an_invalid_message_is_skipped_and_an_invalid_response_fails_its_call() {
    let server = LegacySse::with_greeting(
        |_, message| {
            if is_lost_call(message) {
                Some(json!({ "id": message["id"], "nonsense": true }))
            } else {
                reply(message)
            }
        },
        |session| {
            format!(
                "{}data: <html>\n\ndata: [1]\n\ndata\n\n",
                fast_retry(session)
            )
        },
    );
    let plain = Plain::serving(&server).await;
    let agent = agent(transport(), &plain.uri()).await;
    let error = call_error(&agent).await;
    assert_eq!(error.code.0, -32700);
    echoes(&agent, "ahoy").await;
    assert_eq!(server.sessions(), 1);
}

#[tokio::test]
async fn an_idle_stream_breaks_if_an_idle_timeout_is_set() {
    let server = LegacySse::with_greeting(
        |session, message| {
            reply(message).filter(|_| session > 0 || message["method"] != "tools/call")
        },
        fast_retry,
    );
    let plain = Plain::serving(&server).await;
    let agent = agent(
        transport().idle_timeout(SHORT).max_reconnects(1000),
        &plain.uri(),
    )
    .await;
    let error = call_error(&agent).await;
    assert!(error.message.contains("said nothing for 50ms"), "{error:?}");
}

#[tokio::test]
async fn a_post_that_is_not_accepted_in_time_fails_and_may_have_been_processed() {
    let endless = any(std::future::pending::<String>);
    let plain = Plain::start(|_| {
        let server = LegacySse::with_greeting(
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

/// CL-7: a gateway's 504 to a POST says that the server got the message. Only refusals from which it
/// follows that nobody acted count as not processed.
#[tokio::test]
async fn an_error_status_to_a_post_may_come_after_the_server_acted() {
    for (status, challenge, may_have_been_processed) in crate::refusals::STATUSES {
        let refusing = any(async move || {
            let headers = challenge.map(|challenge| ("www-authenticate", challenge));
            respond(*status, headers.as_slice(), "")
        });
        let plain = Plain::start(|_| {
            let server = LegacySse::with_greeting(
                |_, _| None,
                |_| "event: endpoint\ndata: /refusing\n\n".to_owned(),
            );
            server.router().route("/refusing", refusing)
        })
        .await;
        let error = refusal(transport(), &plain.uri()).await;
        assert_eq!(
            error.may_have_been_processed(),
            *may_have_been_processed,
            "{status} {challenge:?}: {error}"
        );
    }
}

/// A GET for the event stream carries no message: whatever it is answered with, nothing was acted
/// on.
#[tokio::test]
async fn an_error_status_to_the_get_says_that_no_message_was_processed() {
    for status in [400, 401, 500, 502, 504] {
        let plain = answering(status, &[], "").await;
        let error = refusal(transport().max_reconnects(0), &plain.uri()).await;
        assert!(!error.may_have_been_processed(), "{status}: {error}");
    }
}

#[tokio::test]
async fn a_refused_post_fails_alone() {
    let server = LegacySse::with_greeting(|_, message| reply(message), fast_retry);
    let refusing = axum::middleware::from_fn(
        |request: axum::extract::Request, next: axum::middleware::Next| async {
            let (head, body) = request.into_parts();
            let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
            if bytes.windows(4).any(|window| window == b"lost") {
                return respond(400, &[], "");
            }
            next.run(axum::extract::Request::from_parts(head, bytes.into()))
                .await
        },
    );
    let plain = Plain::start(|_| server.router().layer(refusing)).await;
    let agent = agent(transport(), &plain.uri()).await;
    let failed = soon(agent.call_tool(crate::fixture::echo("lost")))
        .await
        .unwrap_err();
    assert!(format!("{failed:?}").contains("400"), "{failed:?}");
    echoes(&agent, "ahoy").await;
    assert_eq!(server.sessions(), 1);
}

#[tokio::test]
async fn a_server_with_too_many_open_requests_loses_its_stream() {
    let server = LegacySse::with_greeting(|_, message| reply(message), fast_retry);
    let plain = Plain::serving(&server).await;
    let agent = serve(SilentRoots, transport(), &plain.uri()).await.unwrap();
    let questions: String = (0..=1024)
        .map(|id| event(&json!({ "jsonrpc": "2.0", "id": id, "method": "roots/list" })))
        .collect();
    server.send(0, questions);
    soon(server.has_received(1, "notifications/initialized")).await;
    echoes(&agent, "ahoy").await;
}

/// Never answers `roots/list`.
struct SilentRoots;

impl rmcp::ClientHandler for SilentRoots {
    async fn list_roots(
        &self,
        _: rmcp::service::RequestContext<rmcp::RoleClient>,
    ) -> Result<rmcp::model::ListRootsResult, rmcp::model::ErrorData> {
        std::future::pending().await
    }
}

#[test]
fn debug_output_shows_no_token() {
    let token = bowline_http_client::AccessToken::new("very-secret-token").unwrap();
    assert!(!format!("{:?}", transport().token(token)).contains("secret"));
}
