//! Servers that echo the access token: no error of the transport shows it (EX-7).

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use bowline_http_client::AccessToken;
use bowline_testkit::peers::LegacySse;
use bowline_testkit::peers::echoes::{ECHOED_TOKENS, echoed_pieces};
use bowline_testkit::peers::legacy_sse::echo as reply;
use http::header::AUTHORIZATION;
use rmcp::ServiceError;
use serde_json::json;

use super::{Agent, Plain, agent, fast_retry, is_lost_call, refusal, transport};
use crate::echoes::assert_error_hides;
use crate::fixture::echo;
use crate::scripted::{EVENTS, respond, soon};

type Echo = fn(&str) -> Response;

fn challenge(error: &str, token: &str) -> Response {
    let value = format!(r#"Bearer error="{error}", error_description="what is {token}?""#);
    respond(401, &[("www-authenticate", &value)], token.to_owned())
}

fn endpoint(endpoint: &str) -> Response {
    let event = format!("event: endpoint\ndata: {endpoint}\n\n");
    respond(200, &[EVENTS], event)
}

const ECHOES: &[(&str, Echo)] = &[
    ("401 invalid_token", |t| challenge("invalid_token", t)),
    ("401 invalid_proof", |t| challenge("invalid_proof", t)),
    ("401 with the token as its error", |t| challenge(t, t)),
    ("a text", |t| respond(400, &[], format!("what is {t}?"))),
    ("a failure", |t| respond(503, &[("retry-after", t)], "")),
    ("a redirect to a path", |t| {
        respond(302, &[("location", &format!("/{t}?token={t}"))], "")
    }),
    ("a redirect to another origin", |t| {
        let location = format!("https://{t}@mcp.example.com/{t}");
        respond(307, &[("location", &location)], "")
    }),
    ("a response of an unknown type", |t| {
        respond(200, &[("content-type", &format!("text/{t}"))], "")
    }),
    ("an endpoint on another origin", |t| {
        endpoint(&format!("https://mcp.example.com/{t}"))
    }),
    ("an endpoint that is not HTTP", |t| {
        endpoint(&format!("ftp://x/{t}"))
    }),
    ("an event that is too long", |t| {
        respond(200, &[EVENTS], t.repeat(2000))
    }),
    ("a stream that ends", |t| {
        respond(200, &[EVENTS], format!("{t}\n\n"))
    }),
];

/// Each token, with each form that is echoed.
fn forms_of_tokens() -> impl Iterator<Item = (&'static str, &'static str)> {
    let tokens = ECHOED_TOKENS.into_iter();
    tokens.flat_map(|token| {
        echoed_pieces(token)
            .into_iter()
            .map(move |form| (token, form))
    })
}

fn token_of(request: &Request) -> String {
    let value = request.headers()[AUTHORIZATION].to_str().unwrap();
    value.strip_prefix("Bearer ").unwrap().to_owned()
}

/// An agent of a server that works, apart from what `echo` makes of a POST with the text "lost".
async fn agent_with(token: &str, server: &LegacySse, echo: Option<Echo>) -> (Agent<()>, Plain) {
    let failing = from_fn(move |request: Request, next: Next| async move {
        let token = token_of(&request);
        let (head, body) = request.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        match echo {
            Some(echo) if bytes.windows(4).any(|window| window == b"lost") => echo(&token),
            _ => next.run(Request::from_parts(head, bytes.into())).await,
        }
    });
    let plain = Plain::start(|_| server.router().layer(failing)).await;
    let transport = transport()
        .token(AccessToken::new(token).unwrap())
        .max_event_bytes(100_000);
    (agent(transport, &plain.uri()).await, plain)
}

async fn failed_call(agent: &Agent<()>) -> ServiceError {
    soon(agent.call_tool(echo("lost"))).await.unwrap_err()
}

#[tokio::test]
async fn no_error_of_a_get_shows_a_token_that_the_server_echoes() {
    for (name, echo) in ECHOES {
        for (token, form) in forms_of_tokens() {
            let answer = move |request: Request| async move {
                assert_eq!(token_of(&request), token);
                echo(form)
            };
            let plain = Plain::start(|_| Router::new().fallback(answer)).await;
            let transport = transport()
                .token(AccessToken::new(token).unwrap())
                .max_event_bytes(5000);
            assert_error_hides(&refusal(transport, &plain.uri()).await, token, name);
        }
    }
}

#[tokio::test]
async fn no_error_of_a_post_shows_a_token_that_the_server_echoes() {
    for (name, echo) in &ECHOES[..7] {
        for token in ECHOED_TOKENS {
            let server = LegacySse::with_greeting(|_, message| reply(message), fast_retry);
            let (agent, _plain) = agent_with(token, &server, Some(*echo)).await;
            match failed_call(&agent).await {
                ServiceError::TransportSend(e) => {
                    assert_error_hides(&*e.error, token, name);
                    assert_error_hides(&ServiceError::TransportSend(e), token, name);
                }
                other => panic!("{name}: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn no_json_rpc_error_shows_a_token_that_the_server_echoes() {
    for (token, form) in forms_of_tokens() {
        let server = LegacySse::with_greeting(
            move |_, message| {
                if !is_lost_call(message) {
                    return reply(message);
                }
                let error = json!({ "code": -7, "message": format!("{form}?"), "data": [form] });
                Some(json!({ "jsonrpc": "2.0", "id": message["id"], "error": error }))
            },
            fast_retry,
        );
        let (agent, _plain) = agent_with(token, &server, None).await;
        let error = failed_call(&agent).await;
        assert!(
            matches!(&error, ServiceError::McpError(e) if e.code.0 == -7),
            "{error:?}"
        );
        assert_error_hides(&error, token, "a JSON-RPC error");
    }
}

#[tokio::test]
async fn no_error_of_a_broken_stream_shows_a_token_that_the_server_echoes() {
    for token in ECHOED_TOKENS {
        for bytes in [
            format!("event: endpoint\ndata: https://mcp.example.com/{token}\n\n"),
            token.repeat(10_000),
        ] {
            let server = LegacySse::with_greeting(
                |_, message| reply(message).filter(|_| !is_lost_call(message)),
                fast_retry,
            );
            let (agent, _plain) = agent_with(token, &server, None).await;
            let (error, ()) = tokio::join!(failed_call(&agent), async {
                soon(server.has_received_text(0, "lost")).await;
                server.send(0, bytes);
            });
            assert_error_hides(&error, token, "a broken stream");
        }
    }
}
