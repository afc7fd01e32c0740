//! Chooses the messages whose proof is for one request only.
//!
//! [`RequestBoundCalls`] holds the caller's choice. This module applies it to MCP messages: it
//! finds a message's target, and remembers which tools a server listed as non-destructive.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use bowline_transport::Call;
use http::Extensions;
use rmcp::model::{ClientJsonRpcMessage, ClientRequest};
use serde::Deserialize;
use serde_json::Value;

use crate::{RequestBoundCalls, operation};

/// Maximum number of tools remembered as non-destructive, of all servers together. Further ones
/// count as destructive.
const MAX_TOOLS: usize = 4096;
/// Maximum length of a tool's name in bytes. A tool with a longer name counts as destructive.
const MAX_NAME: usize = 256;

/// The caller's choice, and what servers said about their tools. Clones share both.
#[derive(Clone, Debug, Default)]
pub(crate) struct RequestBoundPolicy {
    calls: Arc<RequestBoundCalls>,
    non_destructive: Arc<Mutex<HashSet<ToolKey>>>,
}

/// A tool, by the endpoint of its server and its name.
type ToolKey = (Arc<str>, Box<str>);

impl RequestBoundPolicy {
    pub(crate) fn new(calls: RequestBoundCalls) -> Self {
        Self {
            calls: Arc::new(calls),
            non_destructive: Arc::default(),
        }
    }

    /// Marks the request to `endpoint` that carries this message, if its proof must be for this
    /// request only.
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
            is_destructive: self.calls.ask_about_destruction()
                && self.is_destructive(endpoint, message),
        };
        self.calls.apply_to(&call, extensions);
    }

    /// Whether to [record](Self::record_tools) the tools in the response to this message.
    pub(crate) fn needs_tools_of(&self, message: &ClientJsonRpcMessage) -> bool {
        self.needs_tools() && operation::method(message) == Some("tools/list")
    }

    /// Whether to record the tools in any response.
    pub(crate) fn needs_tools(&self) -> bool {
        self.calls.ask_about_destruction()
    }

    /// Records the annotations of the tools that a response lists, if it lists any. The newest list
    /// counts. A tool that cannot be read costs no other its hints.
    pub(crate) fn record_tools(&self, endpoint: &Arc<str>, response: &[u8]) {
        let Ok(ListToolsResponse { result }) = serde_json::from_slice(response) else {
            return;
        };
        let mut known = self
            .non_destructive
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for tool in result.tools {
            let Some(name) = tool.get("name").and_then(Value::as_str) else {
                // Nothing can be known of it.
                continue;
            };
            let key: ToolKey = (endpoint.clone(), Box::from(name));
            if is_destructive(&tool) || name.len() > MAX_NAME {
                known.remove(&key);
            } else if known.len() < MAX_TOOLS {
                known.insert(key);
            }
        }
    }

    /// Whether a message calls a tool that may be destructive: one that the server never listed, or
    /// listed without a hint, counts as such.
    fn is_destructive(&self, endpoint: &Arc<str>, message: &ClientJsonRpcMessage) -> bool {
        let ClientJsonRpcMessage::Request(request) = message else {
            return false;
        };
        let ClientRequest::CallToolRequest(call) = &request.request else {
            return false;
        };
        let tool: ToolKey = (endpoint.clone(), Box::from(&*call.params.name));
        let known = self
            .non_destructive
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        !known.contains(&tool)
    }
}

/// The target of a request: a tool, a prompt or a resource.
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

/// The part of a response to `tools/list` that is needed here.
#[derive(Deserialize)]
struct ListToolsResponse {
    result: Tools,
}

#[derive(Deserialize)]
struct Tools {
    tools: Vec<Value>,
}

/// Whether a listed tool may be destructive. MCP's defaults are "not read-only" and "destructive",
/// also for hints that are not booleans. The second hint has a meaning only for tools that are not
/// read-only.
fn is_destructive(tool: &Value) -> bool {
    let hint = |name: &str| tool.get("annotations")?.get(name)?.as_bool();
    hint("destructiveHint").unwrap_or(true) && !hint("readOnlyHint").unwrap_or(false)
}

#[cfg(test)]
mod tests;
