//! The operations that A2A requests are counted as: A2A's methods, per binding.

use a2a::jsonrpc::methods;
use bowline_client::{Operation, Operations, Protocol};

/// The request for an agent card, which is plain HTTP whatever the binding.
pub const AGENT_CARD: Operation = Operation::new(Protocol::Http, "agent_card");

/// The methods over the JSON-RPC binding.
pub const JSON_RPC: Operations = Operations::new(Protocol::A2aJsonrpc, METHODS);

/// The methods over the HTTP+JSON binding.
pub const HTTP_JSON: Operations = Operations::new(Protocol::A2aRest, METHODS);

/// The methods over the gRPC binding.
pub const GRPC: Operations = Operations::new(Protocol::A2aGrpc, METHODS);

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
