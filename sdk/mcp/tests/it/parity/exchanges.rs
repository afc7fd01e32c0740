//! Single requests.

use std::collections::HashMap;
use std::panic::resume_unwind;

use axum::response::Response;
use bowline_mcp::StreamableHttp;
use http::HeaderValue;
use rmcp::transport::streamable_http_client::{StreamableHttpClient, StreamableHttpResponseLimits};
use serde_json::json;

use super::outcome::{ErrorText, of_error, of_events, of_post};
use super::{Better, Comparison, Same, Verdict};
use crate::scripted::{
    DONE, ERROR, EVENTS, JSON, Scripted, Seen, TEXT, breaking, chunks, initialized, message, ping,
    plaintext_client, request, respond, soon,
};

/// What is sent.
#[derive(Clone, Copy)]
enum Sending {
    /// A request, without a session.
    Request,
    RequestInSession,
    /// A request with one more header.
    RequestWith(&'static str),
    Notification,
    Initialize,
    Discover,
    /// GET.
    Open,
    OpenInSession,
    /// DELETE.
    End,
}

use Sending::*;

struct Exchange {
    name: &'static str,
    send: Sending,
    script: fn(&Seen) -> Response,
    expected: &'static str,
    verdict: Verdict,
}

const fn row(
    name: &'static str,
    send: Sending,
    script: fn(&Seen) -> Response,
    expected: &'static str,
    verdict: Verdict,
) -> Exchange {
    Exchange {
        name,
        send,
        script,
        expected,
        verdict,
    }
}

/// In bytes, for a body, an event, and the text of an error.
const LIMITS: (usize, usize, usize) = (1000, 1000, 20);
const CHALLENGE: (&str, &str) = ("www-authenticate", r#"Bearer error="invalid_token""#);
const SESSION: (&str, &str) = ("mcp-session-id", "s1");
const LONG: &str = "9999999999999999999999999999999999999999999999999999999999999999\
                    99999999999999999999999999999999999999999999999999999999999999999";

#[rustfmt::skip]
const LIST: &[Exchange] = &[
    // What a success means.
    row("202 to a notification", Notification, |_| respond(202, &[], ""), "accepted", Same),
    row("204 to a notification", Notification, |_| respond(204, &[], ""), "accepted", Same),
    row("202 to a request", Request, |_| respond(202, &[], ""), "accepted", Same),
    row("an empty 200 to a notification", Notification, |_| respond(200, &[], ""), "accepted", Same),
    row("a chunked empty 200 to a notification", Notification, |_| respond(200, &[], chunks([""; 0], false)), "accepted", Same),
    row("text to a notification", Notification, |_| respond(200, &[TEXT], "fine"), "accepted", Same),
    row("JSON that is no message to a notification", Notification, |_| respond(200, &[JSON], "{}"), "accepted", Same),
    row("JSON to a request", Request, |_| respond(200, &[JSON], DONE), "result", Same),
    row("JSON by another spelling of its type, with a session", Request, |_| respond(200, &[("content-type", "Application/JSON; charset=utf-8"), SESSION], DONE), r#"result in session "s1""#, Same),
    row("a JSON-RPC error with 200", Request, |_| respond(200, &[JSON], ERROR), "error -32602 for 1", Same),
    row("another type that begins with JSON's", Request, |_| respond(200, &[("content-type", "application/json-seq")], DONE), r#"unexpected content type: Some("application/json-seq")"#, Same),
    row("no type at all", Request, |_| respond(200, &[], DONE), "unexpected content type: None", Same),
    row("JSON that is no message", Request, |_| respond(200, &[JSON], r#"{"a":1}"#), "unexpected: no JSON-RPC message", Same),
    row("an empty JSON body", Request, |_| respond(200, &[JSON], ""), "unexpected: no JSON-RPC message", Same),
    row("JSON that is not UTF-8", Request, |_| respond(200, &[JSON], &b"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"a\":\"\xff\"}}"[..]), "unexpected: no JSON-RPC message", Same),
    row("JSON of the limit's length", Request, |_| respond(200, &[JSON], format!("{DONE:1000}")), "result", Same),
    row("JSON one byte longer", Request, |_| respond(200, &[JSON], format!("{DONE:1001}")), "body of more than 1000", Same),
    row("endless JSON", Request, |_| respond(200, &[JSON], chunks(vec!["[".repeat(100); 20], true)), "body of more than 1000", Same),

    // Event streams.
    row("one event", Request, |_| respond(200, &[EVENTS, SESSION], "data: 1\n\n"), r#"events "1" in session "s1""#, Same),
    row("comments, ids, retry, lines, every line end", Request, |_| respond(200, &[EVENTS], ": hi\n\nid: 7\nretry: 20\ndata:\n\ndata: a\r\ndata: b\r\n\r\ndata: c\r\r"), "events #7 retry 20 \"\" \"a\\nb\" \"c\"", Same),
    row("a byte order mark", Request, |_| respond(200, &[EVENTS], "\u{feff}data: 1\n\n"), r#"events "1""#, Same),
    row("an event over the limit", Request, |_| respond(200, &[EVENTS], format!("data: {}\n\n", "x".repeat(1000))), "events (too long)", Same),
    row("an endless line", Request, |_| respond(200, &[EVENTS], chunks(vec!["x".repeat(100); 20], true)), "events (too long)", Same),
    row("an event that is not UTF-8", Request, |_| respond(200, &[EVENTS], &b"data: \xff\n\n"[..]), "events (not UTF-8)", Same),
    row("a line that is none", Request, |_| respond(200, &[EVENTS], "<html>\n\n"), "events (invalid line)", Same),
    row("a stream that is cut off", Request, |_| respond(200, &[EVENTS], breaking(["data: 1\n\n"])), r#"events "1" (cut off)"#, Same),

    // Sessions.
    row("404 where there was a session", RequestInSession, |_| respond(404, &[TEXT], "gone"), "session expired", Same),
    row("404 where there was none", Request, |_| respond(404, &[TEXT], "no such page"), "unexpected: HTTP 404 Not Found: no such page", Same),
    row("a session id with a tab", Initialize, |_| respond(200, &[JSON, ("mcp-session-id", "a\tb")], DONE), "client error: InvalidId", Better {
        stock: r#"result in session "a\tb""#,
        why: "control characters in a session id say that it was tampered with; MCP allows visible ASCII only",
    }),
    row("a session id that is not ASCII", Initialize, |_| respond(200, &[JSON, ("mcp-session-id", "sé")], DONE), "client error: InvalidId", Better {
        stock: "result",
        why: "a session that is dropped in silence fails later, and elsewhere",
    }),

    // Authorization.
    row("401 with a challenge", Request, |_| respond(401, &[JSON, CHALLENGE], ERROR), r#"authorization required: Bearer error="invalid_token""#, Same),
    row("401 without one", Request, |_| respond(401, &[TEXT], "who?"), "unexpected: HTTP 401 Unauthorized: who?", Same),
    row("401 without one, and JSON", Request, |_| respond(401, &[JSON], "{\"id\":1}"), "unexpected: HTTP 401 Unauthorized: {\"id\":1}", Same),
    row("401 with one that cannot be read", Request, |_| respond(401, &[("www-authenticate", "Bearer é")], ""), "unexpected: unreadable challenge", Same),
    row("401 that asks for a proof", Request, |_| respond(401, &[("www-authenticate", "Bearer error=use_session_binding")], ""), "client error: BindingRefused", Better {
        stock: "authorization required: Bearer error=use_session_binding",
        why: "another token would not help, and rmcp would ask for one",
    }),
    row("403 that names a scope", Request, |_| respond(403, &[("www-authenticate", r#"Bearer error="insufficient_scope", scope="a b""#)], ""), r#"scope required: Some("a b")"#, Same),
    row("403 that names a scope without quotes", Request, |_| respond(403, &[("www-authenticate", "Bearer SCOPE=a, error=x")], ""), r#"scope required: Some("a")"#, Same),
    row("403 that names one in another parameter", Request, |_| respond(403, &[("www-authenticate", r#"Bearer error_description="scope=x is missing", scope="b""#)], ""), r#"scope required: Some("b")"#, Better {
        stock: r#"scope required: Some("x")"#,
        why: "the parameter is found, not the word",
    }),
    row("403 without a challenge", Request, |_| respond(403, &[TEXT], "no"), "unexpected: HTTP 403 Forbidden: no", Same),

    // Failures.
    row("429 that says when", Request, |_| respond(429, &[TEXT, ("retry-after", "7")], "slow down"), "HTTP 429, retry after 7", Same),
    row("429 with a JSON-RPC error", Request, |_| respond(429, &[JSON, ("retry-after", "7")], ERROR), "HTTP 429, retry after 7", Same),
    row("503 that says when", Request, |_| respond(503, &[TEXT, ("retry-after", "Fri, 31 Dec 2027 23:59:59 GMT")], ""), "HTTP 503, retry after Fri, 31 Dec 2027 23:59:59 GMT", Same),
    row("500 that takes long to say when", Request, |_| respond(500, &[TEXT, ("retry-after", LONG)], ""), "HTTP 500", Same),
    row("500 with a JSON-RPC error", Request, |_| respond(500, &[JSON, SESSION], ERROR), r#"error -32602 for 1 in session "s1""#, Same),
    row("500 with other JSON", Request, |_| respond(500, &[JSON], "{}"), "HTTP 500", Same),
    row("503 with too much JSON", Request, |_| respond(503, &[JSON], format!("{ERROR:1001}")), "HTTP 503", Same),
    row("400 with a JSON-RPC error", Request, |_| respond(400, &[JSON], ERROR), "error -32602 for 1", Same),
    row("400 with too much JSON", Request, |_| respond(400, &[JSON], format!("{ERROR:1001}")), "body of more than 1000", Same),
    row("400 with a result", Request, |_| respond(400, &[JSON], r#"{"result":{}}"#), "unexpected: HTTP 400 Bad Request: {\"result\":{}}", Same),
    row("400 with a long text", Request, |_| respond(400, &[TEXT], "0123456789".repeat(10_000)), "unexpected: HTTP 400 Bad Request: 01234567890123456789", Same),
    row("405 to a POST", Request, |_| respond(405, &[TEXT], "no"), "unexpected: HTTP 405 Method Not Allowed: no", Same),
    row("a connection that ends without an answer", Request, |_| resume_unwind(Box::new("by design")), "client error: MayHaveBeenProcessed", Better {
        stock: "client error: request failed",
        why: "it says that the server may have acted on the request (CL-7)",
    }),

    // Redirects that are followed stand in the list of sessions: they are a setting of the stock
    // client.
    row("302", Request, |_| respond(302, &[("location", "/new"), TEXT], ""), "client error: Redirect", Better {
        stock: "unexpected: HTTP 302 Found: ",
        why: "it names the target",
    }),

    // Discovery (2026-07-28): an older server may refuse it in any way.
    row("server/discover refused with text", Discover, |_| respond(400, &[TEXT], "what?"), "error -32600 for 1", Same),
    row("server/discover refused with another id", Discover, |_| respond(404, &[JSON], r#"{"jsonrpc":"2.0","id":"server-error","error":{"code":-32601,"message":"no"}}"#), "error -32601 for 1", Same),
    row("server/discover unauthorized", Discover, |_| respond(401, &[TEXT], "no"), "unexpected: HTTP 401 Unauthorized: no", Same),
    row("server/discover met by a failure", Discover, |_| respond(500, &[TEXT], "no"), "HTTP 500", Same),

    // Headers.
    row("a custom header of MCP's", RequestWith("x-tenant"), |seen| respond(if seen.header("x-tenant").is_some() { 202 } else { 400 }, &[], ""), "accepted", Same),
    row("a custom Accept", RequestWith("accept"), |_| respond(202, &[], ""), "reserved header: accept", Same),
    row("a custom Mcp-Session-Id", RequestWith("mcp-session-id"), |_| respond(202, &[], ""), "reserved header: mcp-session-id", Same),
    row("a custom Content-Type", RequestWith("content-type"), |_| respond(202, &[], ""), "reserved header: content-type", Better {
        stock: "accepted",
        why: "the body is JSON, whatever a caller calls it",
    }),
    row("a custom Session-Binding-Proof", RequestWith("session-binding-proof"), |_| respond(202, &[], ""), "reserved header: session-binding-proof", Better {
        stock: "accepted",
        why: "a proof fits one connection, which the caller does not know (CL-6)",
    }),

    // GET.
    row("a stream", Open, |_| respond(200, &[EVENTS], "id: 1\ndata: 1\n\n"), r#"events #1 "1""#, Same),
    row("405 to a GET", OpenInSession, |_| respond(405, &[], ""), "no event streams here", Same),
    row("a text in place of a stream", Open, |_| respond(200, &[TEXT], "fine"), r#"unexpected content type: Some("text/plain")"#, Same),
    row("JSON in place of a stream", Open, |_| respond(200, &[JSON], DONE), r#"unexpected content type: Some("application/json")"#, Better {
        stock: "events",
        why: "a message that is no event is lost in the stock client",
    }),
    row("401 to a GET", Open, |_| respond(401, &[CHALLENGE], ""), r#"authorization required: Bearer error="invalid_token""#, Same),
    row("403 to a GET", Open, |_| respond(403, &[("www-authenticate", "Bearer scope=a")], ""), r#"scope required: Some("a")"#, Same),
    row("503 to a GET", Open, |_| respond(503, &[("retry-after", "7")], ""), "HTTP 503, retry after 7", Same),
    row("409 to a GET", Open, |_| respond(409, &[], ""), "client error: HTTP 409", Same),
    row("404 to a GET, with a session", OpenInSession, |_| respond(404, &[], ""), "session expired", Better {
        stock: "client error: HTTP 404",
        why: "MCP gives this status this meaning",
    }),

    // DELETE.
    row("a session ended", End, |_| respond(200, &[], ""), "ended", Same),
    row("405 to a DELETE", End, |_| respond(405, &[], ""), "ended", Same),
    row("409 to a DELETE", End, |_| respond(409, &[], ""), "client error: HTTP 409", Same),
    row("401 to a DELETE", End, |_| respond(401, &[CHALLENGE], ""), r#"authorization required: Bearer error="invalid_token""#, Better {
        stock: "client error: HTTP 401",
        why: "AuthClient refreshes its token for the other methods, and now for this one",
    }),
    row("503 to a DELETE", End, |_| respond(503, &[("retry-after", "7")], ""), "HTTP 503, retry after 7", Better {
        stock: "client error: HTTP 503",
        why: "it says when to try again",
    }),
];

pub(super) async fn run_all() -> Vec<Comparison> {
    // As rmcp sets it up, redirects aside.
    let reqwest = reqwest::Client::builder()
        .pool_max_idle_per_host(0)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .unwrap();
    let mut compared = Vec::new();
    for exchange in LIST {
        let server = Scripted::start(exchange.script).await;
        compared.push(Comparison {
            name: exchange.name,
            expected: exchange.expected,
            verdict: exchange.verdict,
            stock: outcome(&reqwest, &server, exchange.send).await,
            ours: outcome(
                &StreamableHttp::new(plaintext_client()),
                &server,
                exchange.send,
            )
            .await,
        });
    }
    compared
}

async fn outcome<C: StreamableHttpClient>(http: &C, server: &Scripted, send: Sending) -> String
where
    C::Error: ErrorText,
{
    let uri = server.uri.clone();
    let session = matches!(send, RequestInSession | OpenInSession).then(|| "session".into());
    let mut headers = HashMap::new();
    let message = match send {
        Open | OpenInSession => {
            let opening = http
                .get_stream_with_max_sse_event_size(uri, session, None, None, headers, LIMITS.1);
            return match soon(opening).await {
                Ok(events) => of_events(events).await,
                Err(e) => of_error(&e),
            };
        }
        End => {
            let ended = soon(http.delete_session(uri, "session".into(), None, headers)).await;
            return ended.map_or_else(|e| of_error(&e), |()| "ended".to_owned());
        }
        Notification => initialized(),
        Discover => request("server/discover", json!({ "_meta": meta() })),
        Initialize => message(json!({
            "jsonrpc": "2.0", "id": 1, "method": "initialize",
            "params": { "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "x", "version": "1" } },
        })),
        RequestWith(name) => {
            headers.insert(name.parse().unwrap(), HeaderValue::from_static("x"));
            ping()
        }
        Request | RequestInSession => ping(),
    };
    let mut limits = StreamableHttpResponseLimits::default();
    (
        limits.max_json_response_size,
        limits.max_sse_event_size,
        limits.max_error_response_size,
    ) = LIMITS;
    let posting =
        http.post_message_with_response_limits(uri, message, session, None, headers, limits);
    of_post(soon(posting).await).await
}

fn meta() -> serde_json::Value {
    json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": { "name": "x", "version": "1" },
        "io.modelcontextprotocol/clientCapabilities": {},
    })
}
