//! What MCP requests are counted as: labels of a fixed set, whatever stands on the wire.

use bowline_client::{Operation, Protocol};
use bowline_transport::Operations;
use rmcp::model::{ClientJsonRpcMessage, ClientNotification, ConstString};

/// MCP streamable HTTP.
pub const MCP_HTTP: Protocol = Protocol::new("mcp_http");

/// MCP legacy HTTP+SSE.
pub const MCP_SSE: Protocol = Protocol::new("mcp_sse");

/// The GET that opens or resumes an event stream.
pub const EVENT_STREAM: Operation = Operation::new(MCP_HTTP, "event_stream");

/// The DELETE that ends a session.
pub const SESSION_END: Operation = Operation::new(MCP_HTTP, "session_end");

/// A POST that answers a request of the server's.
pub const REPLY: Operation = Operation::new(MCP_HTTP, "reply");

/// A POST whose method is not one of MCP's.
pub const OTHER: Operation = TABLE.other();

const TABLE: Operations = Operations::new(MCP_HTTP, METHODS);

/// What a client may ask or tell, over all revisions from 2024-11-05 to 2026-07-28.
const METHODS: &[&str] = &[
    "completion/complete",
    "initialize",
    "logging/setLevel",
    "notifications/cancelled",
    "notifications/initialized",
    "notifications/progress",
    "notifications/roots/list_changed",
    "notifications/tasks/status",
    "ping",
    "prompts/get",
    "prompts/list",
    "resources/directory/read",
    "resources/list",
    "resources/read",
    "resources/subscribe",
    "resources/templates/list",
    "resources/unsubscribe",
    "server/discover",
    "skills/get",
    "skills/list",
    "subscriptions/listen",
    "tasks/cancel",
    "tasks/get",
    "tasks/list",
    "tasks/result",
    "tasks/update",
    "tools/call",
    "tools/list",
];

/// The operation of an MCP method, such as `tools/call`; [`OTHER`] if MCP has no such method.
pub fn of_method(method: &str) -> Operation {
    TABLE.of(method)
}

/// The same operation over the legacy transport, HTTP+SSE.
pub const fn legacy(operation: Operation) -> Operation {
    Operation::new(MCP_SSE, operation.name())
}

/// The operation of a POST.
pub(crate) fn of(message: &ClientJsonRpcMessage) -> Operation {
    method(message).map_or(REPLY, of_method)
}

/// The method of a message; `None` for an answer to the server.
pub(crate) fn method(message: &ClientJsonRpcMessage) -> Option<&str> {
    match message {
        ClientJsonRpcMessage::Request(request) => Some(request.request.method()),
        ClientJsonRpcMessage::Notification(notification) => {
            Some(notified(&notification.notification))
        }
        ClientJsonRpcMessage::Response(_) | ClientJsonRpcMessage::Error(_) => None,
    }
}

fn notified(notification: &ClientNotification) -> &str {
    match notification {
        ClientNotification::CancelledNotification(n) => n.method.as_str(),
        ClientNotification::ProgressNotification(n) => n.method.as_str(),
        ClientNotification::InitializedNotification(n) => n.method.as_str(),
        ClientNotification::RootsListChangedNotification(n) => n.method.as_str(),
        ClientNotification::CustomNotification(n) => &n.method,
        // rmcp may learn further ones.
        _ => OTHER.name(),
    }
}
