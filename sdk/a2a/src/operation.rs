//! The operations that A2A requests are counted as: A2A's methods, per binding.

use a2a::jsonrpc::methods;
use bowline_http_client::{Operation, Protocol};
use bowline_transport::Operations;

/// A2A over JSON-RPC.
pub const A2A_JSONRPC: Protocol = Protocol::new("a2a_jsonrpc");

/// A2A over HTTP+JSON.
pub const A2A_REST: Protocol = Protocol::new("a2a_rest");

/// A2A over gRPC.
pub const A2A_GRPC: Protocol = Protocol::new("a2a_grpc");

/// The request for an agent card, which is plain HTTP whatever the binding.
pub const AGENT_CARD: Operation = Operation::new(Protocol::HTTP, "agent_card");

/// The methods over the JSON-RPC binding.
pub const JSON_RPC: Operations = Operations::new(A2A_JSONRPC, METHODS);

/// The methods over the HTTP+JSON binding.
pub const HTTP_JSON: Operations = Operations::new(A2A_REST, METHODS);

/// The methods over the gRPC binding.
pub const GRPC: Operations = Operations::new(A2A_GRPC, METHODS);

const METHODS: &[&str] = &[
    methods::SEND_MESSAGE,
    methods::SEND_STREAMING_MESSAGE,
    methods::GET_TASK,
    methods::LIST_TASKS,
    methods::CANCEL_TASK,
    methods::SUBSCRIBE_TO_TASK,
    methods::CREATE_PUSH_CONFIG,
    methods::GET_PUSH_CONFIG,
    methods::LIST_PUSH_CONFIGS,
    methods::DELETE_PUSH_CONFIG,
    methods::GET_EXTENDED_AGENT_CARD,
];
