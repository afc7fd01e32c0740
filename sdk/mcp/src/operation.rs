//! The labels under which MCP requests are counted: a fixed set, independent of what is sent.

use bowline_http_client::{Operation, Protocol};
use bowline_transport::Operations;
use rmcp::model::{ClientJsonRpcMessage, ClientNotification, ConstString};

/// MCP over streamable HTTP.
pub const MCP_HTTP: Protocol = Protocol::new("mcp_http");

/// MCP over legacy HTTP+SSE.
pub const MCP_SSE: Protocol = Protocol::new("mcp_sse");

/// The GET that opens or resumes an event stream.
pub const EVENT_STREAM: Operation = Operation::new(MCP_HTTP, "event_stream");

/// The DELETE that ends a session.
pub const SESSION_END: Operation = Operation::new(MCP_HTTP, "session_end");

/// A POST that answers a request of the server.
pub const REPLY: Operation = Operation::new(MCP_HTTP, "reply");

/// A POST whose method is not one of MCP's.
pub const OTHER: Operation = TABLE.other();

const TABLE: Operations = Operations::new(MCP_HTTP, METHODS);

/// The methods that a client may send, in all revisions from 2024-11-05 to 2026-07-28.
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
pub fn for_method(method: &str) -> Operation {
    TABLE.of(method)
}

/// The same operation over the legacy HTTP+SSE transport.
pub const fn legacy(operation: Operation) -> Operation {
    Operation::new(MCP_SSE, operation.name())
}

/// The operation of a POST.
pub(crate) fn from_message(message: &ClientJsonRpcMessage) -> Operation {
    method(message).map_or(REPLY, for_method)
}

/// The method of a message; `None` for a response to the server.
pub(crate) fn method(message: &ClientJsonRpcMessage) -> Option<&str> {
    match message {
        ClientJsonRpcMessage::Request(request) => Some(request.request.method()),
        ClientJsonRpcMessage::Notification(notification) => {
            Some(notification_method(&notification.notification))
        }
        ClientJsonRpcMessage::Response(_) | ClientJsonRpcMessage::Error(_) => None,
    }
}

fn notification_method(notification: &ClientNotification) -> &str {
    match notification {
        ClientNotification::CancelledNotification(n) => n.method.as_str(),
        ClientNotification::ProgressNotification(n) => n.method.as_str(),
        ClientNotification::InitializedNotification(n) => n.method.as_str(),
        ClientNotification::RootsListChangedNotification(n) => n.method.as_str(),
        ClientNotification::CustomNotification(n) => &n.method,
        // The enum is non-exhaustive.
        _ => OTHER.name(),
    }
}
