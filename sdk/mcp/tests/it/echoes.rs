//! Servers that echo the access token, or a proof, into what becomes an error: no error shows it
//! (EX-7).

use std::error::Error;
use std::sync::{Arc, Mutex};

use axum::response::Response;
use bowline_http_client::AccessToken;
use bowline_mcp::StreamableHttp;
use bowline_testkit::peers::echoes::{ECHOED_TOKENS, assert_hidden, echoed_pieces};
use bowline_token::Fixed;
use futures_util::StreamExt;
use hyper::ext::ReasonPhrase;
use rmcp::model::ServerJsonRpcMessage;
use rmcp::transport::streamable_http_client::{StreamableHttpClient, StreamableHttpPostResponse};
use serde_json::json;

use crate::scripted::{
    EVENTS, JSON, Opened, Posted, Scripted, TEXT, ping, ping_over, plaintext_client, respond, soon,
};

/// Fails if an error shows a piece of the token, or of the proof: in its `Display`, its `Debug`, or
/// those of its sources.
pub(crate) fn assert_error_hides(error: &(dyn Error + 'static), token: &str, context: &str) {
    let mut next = Some(error);
    while let Some(error) = next {
        assert_hidden(&format!("{error}\n{error:?}"), token, context);
        next = error.source();
    }
}

type Echo = fn(&str) -> Response;

fn challenge(status: u16, error: &str, token: &str) -> Response {
    let value = format!(r#"Bearer error="{error}", error_description="what is {token}?""#);
    respond(status, &[("www-authenticate", &value)], token.to_owned())
}

fn json_rpc_error(token: &str) -> String {
    let data = json!({ "seen": [token], "quoted": format!("'{token}'") });
    let error = json!({ "code": -32602, "message": format!("{token}?"), "data": data });
    json!({ "jsonrpc": "2.0", "id": 1, "error": error }).to_string()
}

/// The error of a call, as escaped by a JSON writer that escapes slashes.
fn escaped_json_rpc_error(token: &str) -> String {
    json_rpc_error(token).replace('/', "\\/")
}

fn redirect(status: u16, location: &str) -> Response {
    respond(status, &[("location", location)], location.to_owned())
}

const ECHOES: &[(&str, Echo)] = &[
    ("a text", |t| respond(400, &[TEXT], format!("what is {t}?"))),
    ("fields", |t| {
        let names = [
            "server",
            "set-cookie",
            "dpop-nonce",
            "mcp-session-id",
            "etag",
        ];
        respond(500, &names.map(|name| (name, t)), "")
    }),
    ("a status line", |t| {
        let mut response = respond(500, &[TEXT], "");
        let phrase = ReasonPhrase::try_from(t.as_bytes()).unwrap();
        response.extensions_mut().insert(phrase);
        response
    }),
    ("a text without spaces", |t| {
        respond(404, &[TEXT], format!("<{t}>"))
    }),
    ("JSON that is not JSON-RPC", |t| {
        respond(400, &[JSON], json!({ "token": t }).to_string())
    }),
    ("a JSON-RPC error", |t| {
        respond(400, &[JSON], json_rpc_error(t))
    }),
    ("a JSON-RPC error with 200", |t| {
        respond(200, &[JSON], escaped_json_rpc_error(t))
    }),
    ("a reply that is not JSON-RPC", |t| {
        respond(200, &[JSON], json!({ "token": t }).to_string())
    }),
    ("a reply that is not JSON", |t| {
        respond(200, &[JSON], t.to_owned())
    }),
    ("a reply of an unknown type", |t| {
        respond(200, &[("content-type", &format!("text/{t}"))], "")
    }),
    ("a failure", |t| {
        respond(503, &[("retry-after", t), TEXT], t.to_owned())
    }),
    ("401 invalid_token", |t| challenge(401, "invalid_token", t)),
    ("401 invalid_proof", |t| challenge(401, "invalid_proof", t)),
    ("401 with the token as its error", |t| challenge(401, t, t)),
    ("401 without a challenge", |t| {
        respond(401, &[TEXT], t.to_owned())
    }),
    ("403 insufficient_scope", |t| {
        challenge(403, "insufficient_scope", t)
    }),
    ("a redirect to a path", |t| redirect(307, &format!("/{t}"))),
    ("a redirect with a query", |t| {
        redirect(308, &format!("/mcp?token={t}"))
    }),
    ("a redirect to another origin", |t| {
        redirect(302, &format!("https://mcp.example.com/{t}"))
    }),
    ("a redirect with user information", |t| {
        redirect(307, &format!("https://{t}@mcp.example.com/"))
    }),
    ("a line that is no event", |t| {
        respond(200, &[EVENTS], format!("{t}\n\n"))
    }),
    ("an event id with a control character", |t| {
        respond(200, &[EVENTS], format!("id: \u{1}{t}\ndata: 1\n\n"))
    }),
    ("an event with a JSON-RPC error", |t| {
        respond(200, &[EVENTS], format!("data: {}\n\n", json_rpc_error(t)))
    }),
    ("an event with escapes", |t| {
        respond(
            200,
            &[EVENTS],
            format!("data: {}\n\n", escaped_json_rpc_error(t)),
        )
    }),
];

#[tokio::test]
async fn no_error_of_streamable_http_shows_a_token_or_a_proof_that_the_server_echoes() {
    for (name, echo) in ECHOES {
        let echoed = Arc::new(Mutex::new(""));
        let shared = echoed.clone();
        let server = Scripted::start(move |_| echo(*shared.lock().unwrap())).await;
        for token in ECHOED_TOKENS {
            let access = || AccessToken::new(token).unwrap();
            let http = || StreamableHttp::new(plaintext_client());
            for (http, header) in [
                (http(), Some(token)),
                (http().token(access()), None),
                (http().source(Fixed::new(access())), None),
            ] {
                for form in echoed_pieces(token) {
                    *echoed.lock().unwrap() = form;
                    let posted = ping_over(&http, &server.uri, header).await;
                    assert_post_hides(posted, token, name).await;
                    let header = || header.map(Into::into);
                    let uri = || server.uri.clone();
                    let none = std::collections::HashMap::new;
                    let opened = soon(http.get_stream(uri(), None, None, header(), none())).await;
                    assert_get_hides(opened, token, name).await;
                    let ended = http.delete_session(uri(), "s".into(), header(), none());
                    if let Err(e) = soon(ended).await {
                        assert_error_hides(&e, token, name);
                    }
                    assert_hidden(&format!("{http:?}"), token, name);
                }
            }
        }
        for seen in server.seen() {
            let sent = seen.header("authorization").unwrap();
            assert!(ECHOED_TOKENS.iter().any(|token| sent.ends_with(token)));
        }
    }
}

async fn assert_post_hides(posted: Posted, token: &str, name: &str) {
    match posted {
        Err(e) => assert_error_hides(&e, token, name),
        Ok(StreamableHttpPostResponse::Json(ServerJsonRpcMessage::Error(e), _)) => {
            assert_error_hides(&e.error, token, name);
        }
        Ok(StreamableHttpPostResponse::Sse(events, _)) => {
            assert_get_hides(Ok(events), token, name).await
        }
        Ok(other) => panic!("{name}: expected an error, got {other:?}"),
    }
}

async fn assert_get_hides(opened: Opened, token: &str, name: &str) {
    match opened {
        Err(e) => assert_error_hides(&e, token, name),
        Ok(mut events) => match soon(events.next()).await {
            // A line that is no field is ignored.
            None => {}
            Some(Err(e)) => assert_error_hides(&e, token, name),
            Some(Ok(event)) => {
                let data = event.data.unwrap();
                match serde_json::from_str(&data).unwrap() {
                    ServerJsonRpcMessage::Error(e) => assert_error_hides(&e.error, token, name),
                    other => panic!("{name}: expected an error, got {other:?}"),
                }
            }
        },
    }
}

#[tokio::test]
async fn what_is_not_a_secret_stays_in_a_challenge_and_in_a_json_rpc_error() {
    let challenge = r#"Bearer resource_metadata="https://mcp.example.com/.well-known/oauth-protected-resource/v2-2026", scope="files:read""#;
    let message = "no such file: /srv/projects/2026-01/notes-v12345.txt\nask for another one";
    let body =
        json!({ "jsonrpc": "2.0", "id": 1, "error": { "code": -32002, "message": message } });
    let body = body.to_string();
    let server = Scripted::start(move |seen| {
        if seen.method == "POST" {
            respond(200, &[JSON], body.clone())
        } else {
            respond(401, &[("www-authenticate", challenge)], "")
        }
    })
    .await;
    match crate::scripted::json(server.post(ping()).await).0 {
        ServerJsonRpcMessage::Error(e) => assert_eq!(e.error.message, message),
        other => panic!("{other:?}"),
    }
    let error = server.delete().await.unwrap_err();
    assert!(
        format!("{error:?}").contains("oauth-protected-resource/v2-2026"),
        "{error:?}"
    );
}
