//! Which proofs are for one request only: MCP's part of it.
//!
//! [`RequestBoundCalls`] chooses; here stands what a message is applied to, and what a server has
//! said about its tools.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use bowline_transport::{Call, RequestBoundCalls};
use http::Extensions;
use rmcp::model::{ClientJsonRpcMessage, ClientRequest};
use serde::Deserialize;

use crate::operation;

/// Tools remembered as harmless, of all servers together. What finds no room is taken for
/// destructive.
const MAX_TOOLS: usize = 4096;
/// In bytes. A tool of a longer name is taken for destructive.
const MAX_NAME: usize = 256;

/// A policy, and what it has to know about tools. Clones share both.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claims {
    policy: Arc<RequestBoundCalls>,
    harmless: Arc<Mutex<HashSet<Named>>>,
}

/// A tool, by the endpoint of its server and its name.
type Named = (Arc<str>, Box<str>);

impl Claims {
    pub(crate) fn new(policy: RequestBoundCalls) -> Self {
        Self {
            policy: Arc::new(policy),
            harmless: Arc::default(),
        }
    }

    /// Marks the request to `endpoint` that carries this message, if its proof is to be for it
    /// alone.
    pub(crate) fn mark(
        &self,
        endpoint: &Arc<str>,
        message: &ClientJsonRpcMessage,
        extensions: &mut Extensions,
    ) {
        let Some(method) = operation::method(message) else {
            return;
        };
        let target = target(message);
        let call = Call {
            method,
            target,
            is_destructive: self.policy.ask_about_destruction()
                && self.may_destroy(endpoint, message),
        };
        self.policy.apply_to(&call, extensions);
    }

    /// Whether the answer to this message is worth [learning](Self::learn) from.
    pub(crate) fn can_learn_from(&self, asked: &ClientJsonRpcMessage) -> bool {
        self.policy.ask_about_destruction() && operation::method(asked) == Some("tools/list")
    }

    /// Whether a stream that is resumed may bring such an answer.
    pub(crate) fn can_learn(&self) -> bool {
        self.policy.ask_about_destruction()
    }

    /// Learns from a response what the tools that it lists, if it does, may do. What was listed
    /// last counts.
    pub(crate) fn learn(&self, endpoint: &Arc<str>, response: &[u8]) {
        let Ok(Listing { result }) = serde_json::from_slice(response) else {
            return;
        };
        let mut harmless = self.harmless.lock().unwrap_or_else(PoisonError::into_inner);
        for Tool { name, annotations } in result.tools {
            let tool: Named = (endpoint.clone(), Box::from(&*name));
            if annotations.may_destroy() || name.len() > MAX_NAME {
                harmless.remove(&tool);
            } else if harmless.len() < MAX_TOOLS {
                harmless.insert(tool);
            }
        }
    }

    /// A tool that the server never listed may do anything, as may one that it listed without a
    /// hint.
    fn may_destroy(&self, endpoint: &Arc<str>, message: &ClientJsonRpcMessage) -> bool {
        let ClientJsonRpcMessage::Request(request) = message else {
            return false;
        };
        let ClientRequest::CallToolRequest(call) = &request.request else {
            return false;
        };
        let tool: Named = (endpoint.clone(), Box::from(&*call.params.name));
        let harmless = self.harmless.lock().unwrap_or_else(PoisonError::into_inner);
        !harmless.contains(&tool)
    }
}

/// What a request is applied to: a tool, a prompt or a resource.
fn target(message: &ClientJsonRpcMessage) -> Option<&str> {
    let ClientJsonRpcMessage::Request(request) = message else {
        return None;
    };
    match &request.request {
        ClientRequest::CallToolRequest(r) => Some(&r.params.name),
        ClientRequest::GetPromptRequest(r) => Some(&r.params.name),
        ClientRequest::ReadResourceRequest(r) => Some(&r.params.uri),
        ClientRequest::SubscribeRequest(r) => Some(&r.params.uri),
        ClientRequest::UnsubscribeRequest(r) => Some(&r.params.uri),
        _ => None,
    }
}

/// The response to `tools/list`, as far as it matters here.
#[derive(Deserialize)]
struct Listing<'a> {
    #[serde(borrow)]
    result: Tools<'a>,
}

#[derive(Deserialize)]
struct Tools<'a> {
    #[serde(borrow)]
    tools: Vec<Tool<'a>>,
}

#[derive(Deserialize)]
struct Tool<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(default)]
    annotations: Annotations,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Annotations {
    read_only_hint: Option<bool>,
    destructive_hint: Option<bool>,
}

impl Annotations {
    /// MCP's defaults: not read-only, and destructive, which says something only of what is not
    /// read-only.
    fn may_destroy(&self) -> bool {
        self.destructive_hint.unwrap_or(true) && !self.read_only_hint.unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use bowline_client::RequestBoundProof;
    use serde_json::{Value, json};

    use super::*;

    fn is_marked(claims: &Claims, endpoint: &str, method: &str, params: Value) -> bool {
        let message = serde_json::from_value(
            json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }),
        );
        let mut extensions = Extensions::new();
        claims.mark(&endpoint.into(), &message.unwrap(), &mut extensions);
        extensions.get::<RequestBoundProof>().is_some()
    }

    fn list(claims: &Claims, endpoint: &str, tools: Value) {
        let response = json!({ "jsonrpc": "2.0", "id": 1, "result": { "tools": tools } });
        claims.learn(&endpoint.into(), response.to_string().as_bytes());
    }

    #[test]
    fn a_tool_a_prompt_and_a_resource_are_what_a_request_is_applied_to() {
        let claims = Claims::new(
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
            assert_eq!(is_marked(&claims, "e", method, params), marked, "{method}");
        }
    }

    #[test]
    fn a_tool_is_destructive_unless_it_was_last_listed_as_harmless_by_this_very_server() {
        let claims = Claims::new(RequestBoundCalls::none().for_destructive());
        let call = |endpoint, name: &str| {
            is_marked(&claims, endpoint, "tools/call", json!({ "name": name }))
        };
        assert!(call("a", "unlisted"));
        list(
            &claims,
            "a",
            json!([
                { "name": "bare" },
                { "name": "empty", "annotations": {} },
                { "name": "wipes", "annotations": { "destructiveHint": true } },
                { "name": "reads", "annotations": { "readOnlyHint": true } },
                { "name": "reads-whatever-else", "annotations": { "readOnlyHint": true, "destructiveHint": true } },
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
        list(&claims, "a", json!([{ "name": "reads" }]));
        assert!(call("a", "reads"), "listed again, as something else");
        assert!(!call("a", "adds"), "not in this page");
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_rest_is_destructive() {
        let claims = Claims::new(RequestBoundCalls::none().for_destructive());
        let tools: Vec<_> = (0..2 * MAX_TOOLS)
            .map(|n| json!({ "name": n.to_string(), "annotations": { "readOnlyHint": true } }))
            .collect();
        list(&claims, "a", tools.into());
        assert_eq!(claims.harmless.lock().unwrap().len(), MAX_TOOLS);
        assert!(is_marked(
            &claims,
            "a",
            "tools/call",
            json!({ "name": (2 * MAX_TOOLS - 1).to_string() })
        ));
    }

    #[test]
    fn nonsense_teaches_nothing() {
        let claims = Claims::new(RequestBoundCalls::none().for_destructive());
        for nonsense in [
            "",
            "{}",
            "[]",
            r#"{"result":{"tools":[{"name":7}]}}"#,
            r#"{"result":{"tools":{}}}"#,
        ] {
            claims.learn(&"a".into(), nonsense.as_bytes());
        }
        assert!(claims.harmless.lock().unwrap().is_empty());
    }
}
