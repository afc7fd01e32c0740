//! Whole sessions: rmcp's client over each HTTP client, the stock one with rmcp's settings.
//!
//! An outcome is the result of the session and the requests that the server has seen: in order,
//! each with its session, then the GETs.

use axum::response::Response;
use bowline_mcp::StreamableHttp;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransport;
use serde_json::{Value, json};

use super::fixture::{Action, Lifecycle, Script, run_session, server};
use super::{Better, Comparison, Same, Verdict};
use crate::scripted::{EVENTS, JSON, Seen, TEXT, breaking, chunks, plaintext_client, respond};

use Action::*;
use Lifecycle::*;

/// A name, what is done, the server's script, the expected outcome, and how the stock client's
/// compares.
type Session = (
    &'static str,
    Lifecycle,
    Action,
    Script,
    &'static str,
    Verdict,
);

/// The answer to a tool call, as an event.
fn result(seen: &Seen) -> String {
    let message: Value = serde_json::from_slice(&seen.body).unwrap_or_default();
    // On a stream that is resumed: rmcp's second request is the call.
    let id = message.get("id").cloned().unwrap_or(json!(1));
    format!(
        "data: {}\n\n",
        json!({ "jsonrpc": "2.0", "id": id, "result": { "content": [] } })
    )
}

/// rmcp counts its requests from 0, and a session begins with one.
fn is_first_call(seen: &Seen) -> bool {
    let message: Value = serde_json::from_slice(&seen.body).unwrap_or_default();
    message["id"] == 1
}

/// The response to the requests of one name.
fn on(name: &str, expected: &str, response: impl FnOnce() -> Option<Response>) -> Option<Response> {
    (name == expected).then(response).flatten()
}

fn events(body: impl Into<axum::body::Body>) -> Option<Response> {
    Some(respond(200, &[EVENTS], body))
}

fn status(status: u16, headers: &[(&str, &str)]) -> Option<Response> {
    Some(respond(status, headers, ""))
}

fn subscription(seen: &Seen) -> Option<Response> {
    let message: Value = serde_json::from_slice(&seen.body).unwrap();
    let meta = json!({ "io.modelcontextprotocol/subscriptionId": message["id"] });
    let acknowledged = json!({
        "jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged",
        "params": { "_meta": meta, "notifications": { "toolsListChanged": true } },
    });
    let changed = json!({ "jsonrpc": "2.0", "method": "notifications/tools/list_changed", "params": { "_meta": meta } });
    events(chunks(
        [
            format!("data: {acknowledged}\n\n"),
            format!("data: {changed}\n\n"),
        ],
        true,
    ))
}

#[rustfmt::skip]
const LIST: &[Session] = &[
    ("from initialize to DELETE", Initialize, Call, |_, _| None,
        "answered; initialize, notifications/initialized s1, tools/call s1, DELETE s1, GET s1", Same),
    ("a server without sessions", Initialize, Call, |_, name| match name {
        "initialize" => Some(respond(200, &[JSON], json!({ "jsonrpc": "2.0", "id": 0, "result": {
            "protocolVersion": "2025-03-26", "capabilities": {}, "serverInfo": { "name": "x", "version": "1" } } }).to_string())),
        _ => None,
    }, "answered; initialize, notifications/initialized, tools/call", Same),
    ("initialize answered by an event", Initialize, Call, |seen, name| match name {
        "initialize" => {
            let message: Value = serde_json::from_slice(&seen.body).unwrap();
            let reply = json!({ "jsonrpc": "2.0", "id": message["id"], "result": {
                "protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": { "name": "x", "version": "1" } } });
            Some(respond(200, &[EVENTS, ("mcp-session-id", "s1")], format!("data: {reply}\n\n")))
        }
        _ => None,
    }, "answered; initialize, notifications/initialized s1, tools/call s1, DELETE s1, GET s1", Same),
    ("a call answered by an event", Initialize, Call,
        |seen, name| on(name, "tools/call s1", || events(result(seen))),
        "answered; initialize, notifications/initialized s1, tools/call s1, DELETE s1, GET s1", Same),
    ("a session that has expired", Initialize, Call,
        |_, name| on(name, "tools/call s1", || status(404, &[])),
        "answered; initialize, notifications/initialized s1, tools/call s1, initialize, notifications/initialized s2, tools/call s2, DELETE s2, GET s1, GET s2", Same),
    ("sessions that all have expired", Initialize, Call, |_, name| if name.starts_with("tools/call") {
        status(404, &[])
    } else {
        None
    }, "failed: session expired; initialize, notifications/initialized s1, tools/call s1, initialize, notifications/initialized s2, tools/call s2, DELETE s2, GET s1, GET s2", Same),
    ("a call whose stream ends early and is resumed", Initialize, Call, |seen, name| match name {
        "tools/call s1" => events("id: 7\nretry: 1\ndata:\n\n"),
        "GET s1 #7" => events(result(seen)),
        _ => None,
    }, "answered; initialize, notifications/initialized s1, tools/call s1, DELETE s1, GET s1, GET s1 #7", Same),
    ("one that breaks and is resumed, twice", Initialize, Call, |seen, name| match name {
        "tools/call s1" => events(breaking(["id: 7\ndata:\n\n"])),
        "GET s1 #7" => events(breaking(["id: 8\ndata:\n\n"])),
        "GET s1 #8" => events(result(seen)),
        _ => None,
    }, "answered; initialize, notifications/initialized s1, tools/call s1, DELETE s1, GET s1, GET s1 #7, GET s1 #8", Same),
    ("one that ends early and cannot be resumed", Initialize, Call,
        |_, name| on(name, "tools/call s1", || events("data:\n\n")),
        "failed: Transport closed; initialize, notifications/initialized s1, tools/call s1, DELETE s1, GET s1", Same),
    ("a server that drops every stream", Initialize, CallUntilGets(40), |_, name| match name {
        "tools/call s1" => events(breaking(["id: 7\ndata:\n\n"])),
        "GET s1 #7" => events(breaking([])),
        _ => None,
    }, "failed: Transport closed; initialize, notifications/initialized s1, tools/call s1, DELETE s1, GET s1, GET s1 #7", Better {
        stock: "unanswered after 40 GETs; initialize, notifications/initialized s1, tools/call s1, DELETE s1, GET s1, GET s1 #7",
        why: "ten streams that bring nothing are enough; until then each try waits longer",
    }),
    ("a server that ends every stream before its answer", Initialize, CallUntilGets(40), |_, name| match name {
        "tools/call s1" => events("id: 7\nretry: 1\ndata:\n\n"),
        "GET s1 #7" => events(""),
        _ => None,
    }, "failed: Transport closed; initialize, notifications/initialized s1, tools/call s1, DELETE s1, GET s1, GET s1 #7", Better {
        stock: "unanswered after 40 GETs; initialize, notifications/initialized s1, tools/call s1, DELETE s1, GET s1, GET s1 #7",
        why: "the same; a stream that lasts for five seconds is not counted",
    }),
    ("an event stream that ends as soon as it has begun", Initialize, CallAfterGets(10),
        |_, name| on(name, "GET s1", || events("")),
        "10 GETs in all: true; initialize, notifications/initialized s1, tools/call s1 x20, DELETE s1, GET s1", Better {
        stock: "10 GETs in all: false; initialize, notifications/initialized s1, tools/call s1 x20, DELETE s1, GET s1",
        why: "where each response ends its connection, each of these would cost a handshake and a proof",
    }),
    ("an answer that is too long for an event", Initialize, Call, |_, name| match name {
        "tools/call s1" => events(chunks(["id: 7\ndata:\n\n".to_owned(), format!("data: {}\n\n", "x".repeat(1000))], false)),
        "GET s1 #7" => events(format!("data: {}\n\n", "x".repeat(1000))),
        _ => None,
    }, "failed: Transport closed; initialize, notifications/initialized s1, tools/call s1, DELETE s1, GET s1", Same),
    ("an event stream that cannot be read", Initialize, CallAfterGets(10),
        |_, name| on(name, "GET s1", || events("nonsense\n\n")),
        "10 GETs in all: true; initialize, notifications/initialized s1, tools/call s1 x20, DELETE s1, GET s1", Better {
        stock: "10 GETs in all: false; initialize, notifications/initialized s1, tools/call s1 x20, DELETE s1, GET s1",
        why: "the stock client asks for it for as long as the session lasts, without a pause",
    }),
    ("an event stream that needs another scope", Initialize, Call,
        |_, name| on(name, "GET s1", || status(403, &[("www-authenticate", "Bearer scope=x")])),
        "answered; initialize, notifications/initialized s1, tools/call s1, DELETE s1, GET s1", Same),
    ("a cancelled call, 2025-11-25", Initialize, CallAndCancel, |seen, name| match name {
        "tools/call s1" if is_first_call(seen) => events(chunks([""; 0], true)),
        _ => None,
    }, "answered; initialize, notifications/initialized s1, tools/call s1, notifications/cancelled s1, tools/call s1, DELETE s1, GET s1", Same),
    ("a session that the client may not end", Initialize, Call,
        |_, name| on(name, "DELETE s1", || status(405, &[])),
        "answered; initialize, notifications/initialized s1, tools/call s1, DELETE s1, GET s1", Same),

    // 2026-07-28.
    ("without sessions, 2026-07-28", Discover, Call, |_, _| None,
        "answered; server/discover, tools/call (any)", Same),
    ("a call answered by an event, 2026-07-28", Discover, Call,
        |seen, name| on(name, "tools/call (any)", || events(result(seen))),
        "answered; server/discover, tools/call (any)", Same),
    ("a cancelled call, 2026-07-28", Discover, CallAndCancel, |seen, name| match name {
        "tools/call (any)" if is_first_call(seen) => events(chunks([""; 0], true)),
        _ => None,
    }, "answered; server/discover, tools/call (any) x2", Same),
    ("a subscription", Discover, Listen,
        |seen, name| on(name, "subscriptions/listen", || subscription(seen)),
        "notified: true; server/discover, subscriptions/listen", Same),
    ("an older server", Either, Call,
        |_, name| on(name, "server/discover", || Some(respond(400, &[TEXT], "what?"))),
        "answered; server/discover, initialize, notifications/initialized s1, tools/call s1, DELETE s1, GET s1", Same),
    ("an older server that is strict about its sessions", Either, Call,
        |_, name| on(name, "server/discover", || Some(respond(404, &[JSON], r#"{"jsonrpc":"2.0","id":"server-error","error":{"code":-32600,"message":"no session"}}"#))),
        "answered; server/discover, initialize, notifications/initialized s1, tools/call s1, DELETE s1, GET s1", Same),

    // Refusals of the first request.
    ("401 to begin with", Initialize, Nothing, |_, _| status(401, &[("www-authenticate", "Bearer")]),
        "no session: authorization required: Bearer; initialize", Same),
    ("503 to begin with", Initialize, Nothing, |_, _| status(503, &[("retry-after", "7")]),
        "no session: HTTP 503, retry after 7; initialize", Same),

    // Redirects.
    ("308 below the endpoint", Initialize, Call, |seen, _| match seen.path.as_str() {
        "/mcp" => status(308, &[("location", "/mcp/new")]),
        _ => None,
    }, "answered; initialize, initialize/mcp/new, notifications/initialized s1, notifications/initialized/mcp/new s1, tools/call s1, tools/call/mcp/new s1, DELETE s1, DELETE/mcp/new s1, GET s1, GET/mcp/new s1", Same),
    ("308 to another path of the same origin", Initialize, Call, |seen, _| match seen.path.as_str() {
        "/mcp" => status(308, &[("location", "/new")]),
        _ => None,
    }, "no session: client error: Redirect; initialize", Better {
        stock: "answered; initialize, initialize/new, notifications/initialized s1, notifications/initialized/new s1, tools/call s1, tools/call/new s1, DELETE s1, DELETE/new s1, GET s1, GET/new s1",
        why: "where several tenants share an origin, another path is another audience (CL-6)",
    }),
    ("307 to itself", Initialize, Nothing, |_, _| status(307, &[("location", "/mcp")]),
        "no session: client error: too many redirects; initialize x4", Better {
        stock: "no session: client error: too many redirects; initialize x11",
        why: "no server needs more than three (CL-6)",
    }),
    ("307 to another origin", Initialize, Nothing, |_, _| status(307, &[("location", "https://mcp.example.com/mcp"), TEXT]),
        "no session: client error: Redirect; initialize", Better {
        stock: "no session: unexpected: HTTP 307 Temporary Redirect: ; initialize",
        why: "it names the target",
    }),
];

pub(super) async fn run_all() -> Vec<Comparison> {
    let mut compared = Vec::new();
    for session in LIST {
        let (name, lifecycle, act, script, expected, verdict) = *session;
        let (of_stock, own) = (server(script).await, server(script).await);
        let bowline = |config| StreamableHttp::new(plaintext_client()).transport_with(config);
        compared.push(Comparison {
            name,
            expected,
            verdict,
            stock: run_session(
                StreamableHttpClientTransport::from_config,
                &of_stock,
                lifecycle,
                act.of_one_that_goes_on(verdict),
            )
            .await,
            ours: run_session(bowline, &own, lifecycle, act).await,
        });
    }
    compared
}
