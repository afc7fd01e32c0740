use bowline_http_client::RequestBoundProof;
use serde_json::{Value, json};

use super::*;

fn is_marked(policy: &RequestBoundPolicy, endpoint: &str, method: &str, params: Value) -> bool {
    let message = serde_json::from_value(
        json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }),
    );
    let mut extensions = Extensions::new();
    policy.mark(&endpoint.into(), &message.unwrap(), &mut extensions);
    extensions.get::<RequestBoundProof>().is_some()
}

fn list(policy: &RequestBoundPolicy, endpoint: &str, tools: Value) {
    let response = json!({ "jsonrpc": "2.0", "id": 1, "result": { "tools": tools } });
    policy.record_tools(&endpoint.into(), response.to_string().as_bytes());
}

#[test]
fn a_tool_a_prompt_or_a_resource_is_the_target_of_a_request() {
    let policy = RequestBoundPolicy::new(
        RequestBoundCalls::none()
            .for_target("tools/call", "delete")
            .for_target("resources/read", "file:///x")
            .for_target("prompts/get", "p"),
    );
    for (marked, method, params) in [
        (true, "tools/call", json!({ "name": "delete" })),
        (false, "tools/call", json!({ "name": "read" })),
        (true, "resources/read", json!({ "uri": "file:///x" })),
        (false, "resources/subscribe", json!({ "uri": "file:///x" })),
        (true, "prompts/get", json!({ "name": "p" })),
        (false, "tools/list", json!({})),
    ] {
        assert_eq!(is_marked(&policy, "e", method, params), marked, "{method}");
    }
}

#[test]
fn a_tool_is_destructive_unless_this_server_last_listed_it_as_non_destructive() {
    let policy = RequestBoundPolicy::new(RequestBoundCalls::none().for_destructive());
    let call =
        |endpoint, name: &str| is_marked(&policy, endpoint, "tools/call", json!({ "name": name }));
    assert!(call("a", "unlisted"));
    list(
        &policy,
        "a",
        json!([
            { "name": "bare" },
            { "name": "empty", "annotations": {} },
            { "name": "wipes", "annotations": { "destructiveHint": true } },
            { "name": "reads", "annotations": { "readOnlyHint": true } },
            {
                "name": "reads-whatever-else",
                "annotations": { "readOnlyHint": true, "destructiveHint": true },
            },
            { "name": "adds", "annotations": { "readOnlyHint": false, "destructiveHint": false } },
            { "name": "n".repeat(MAX_NAME + 1), "annotations": { "readOnlyHint": true } },
        ]),
    );
    for (name, destructive) in [
        ("bare", true),
        ("empty", true),
        ("wipes", true),
        ("reads", false),
        ("reads-whatever-else", false),
        ("adds", false),
    ] {
        assert_eq!(call("a", name), destructive, "{name}");
        assert!(call("b", name), "{name} of another server");
    }
    assert!(call("a", &"n".repeat(MAX_NAME + 1)));
    list(&policy, "a", json!([{ "name": "reads" }]));
    assert!(call("a", "reads"), "listed again, as something else");
    assert!(!call("a", "adds"), "not in this page");
}

#[test]
fn the_number_of_tools_remembered_is_bounded_and_further_ones_are_destructive() {
    let policy = RequestBoundPolicy::new(RequestBoundCalls::none().for_destructive());
    let tools: Vec<_> = (0..2 * MAX_TOOLS)
        .map(|n| json!({ "name": n.to_string(), "annotations": { "readOnlyHint": true } }))
        .collect();
    list(&policy, "a", tools.into());
    assert_eq!(policy.non_destructive.lock().unwrap().len(), MAX_TOOLS);
    assert!(is_marked(
        &policy,
        "a",
        "tools/call",
        json!({ "name": (2 * MAX_TOOLS - 1).to_string() })
    ));
}

#[test]
fn an_invalid_response_records_nothing() {
    let policy = RequestBoundPolicy::new(RequestBoundCalls::none().for_destructive());
    for invalid in [
        "",
        "{}",
        "[]",
        r#"{"result":{"tools":[{"name":7}]}}"#,
        r#"{"result":{"tools":{}}}"#,
    ] {
        policy.record_tools(&"a".into(), invalid.as_bytes());
    }
    assert!(policy.non_destructive.lock().unwrap().is_empty());
}

/// A tool that cannot be read is destructive, whatever was known of it, and costs no other its
/// hints.
#[test]
fn an_unreadable_tool_is_destructive_and_spoils_no_other() {
    let policy = RequestBoundPolicy::new(RequestBoundCalls::none().for_destructive());
    let reads = json!({ "readOnlyHint": true });
    let known = |name: &str| json!({ "name": name, "annotations": reads });
    list(
        &policy,
        "a",
        json!([known("null"), known("text"), known("hint"), known("other")]),
    );
    list(
        &policy,
        "a",
        json!([
            7,
            { "name": 7 },
            { "annotations": reads },
            { "name": "null", "annotations": null },
            { "name": "text", "annotations": "read-only" },
            { "name": "hint", "annotations": { "readOnlyHint": "true" } },
            { "name": "other", "annotations": { "readOnlyHint": true, "title": 7, "new": [] } },
            { "name": "next", "annotations": reads, "inputSchema": null },
        ]),
    );
    let destructive = |name| is_marked(&policy, "a", "tools/call", json!({ "name": name }));
    for name in ["null", "text", "hint"] {
        assert!(destructive(name), "{name}");
    }
    for name in ["other", "next"] {
        assert!(!destructive(name), "{name}");
    }
}
