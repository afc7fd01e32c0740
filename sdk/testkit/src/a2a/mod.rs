//! The official A2A server (`a2a-server-lf`, `a2a-grpc`) as a peer: one [`agent`] that serves the
//! three bindings on one port, and executors for it. [`Echo`] answers at once, [`Stepped`] runs
//! tasks that a test drives, [`Paced`] runs tasks that step at an interval.
//!
//! It is a router: put it on [`PlainServer`](crate::peers::PlainServer), or behind `BindingLayer`
//! on [`CyclingServer`](crate::peers::CyclingServer). Tasks live in memory and end with the router.

mod executor;
mod run;

use std::sync::Arc;

use a2a::{
    AgentCapabilities, AgentCard, AgentInterface, AgentSkill, TRANSPORT_PROTOCOL_GRPC,
    TRANSPORT_PROTOCOL_HTTP_JSON, TRANSPORT_PROTOCOL_JSONRPC,
};
use a2a_grpc::GrpcHandler;
use a2a_pb::proto::a2a_service_server::A2aServiceServer;
use a2a_server::agent_card::agent_card_router;
use a2a_server::jsonrpc::jsonrpc_router;
use a2a_server::rest::rest_router;
use a2a_server::{
    AgentExecutor, DefaultRequestHandler, HttpPushSender, HttpPushSenderConfig,
    InMemoryPushConfigStore, InMemoryTaskStore, StaticAgentCard,
};
use axum::Router;

pub use executor::{Echo, Paced, Stepped};
pub use run::Run;

/// Where [`agent`] serves gRPC: the service's name in its `.proto`.
pub const GRPC_PATH: &str = "/lf.a2a.v1.A2AService/";

/// The skill that only the extended card names.
pub const EXTENDED_SKILL: &str = "for-those-who-are-known";

/// The card of an [`agent`] at `origin` (`https://localhost:1234`, say): its three interfaces, and
/// its capabilities. gRPC is `host:port`, as the specification wants it.
#[must_use]
pub fn card(origin: &str) -> AgentCard {
    let authority = origin
        .split_once("://")
        .map_or(origin, |(_, authority)| authority);
    AgentCard {
        name: "peer".to_owned(),
        description: "An agent of bowline's tests".to_owned(),
        version: "1.0.0".to_owned(),
        supported_interfaces: vec![
            AgentInterface::new(format!("{origin}/jsonrpc"), TRANSPORT_PROTOCOL_JSONRPC),
            AgentInterface::new(format!("{origin}/rest"), TRANSPORT_PROTOCOL_HTTP_JSON),
            AgentInterface::new(authority, TRANSPORT_PROTOCOL_GRPC),
        ],
        capabilities: AgentCapabilities {
            streaming: Some(true),
            push_notifications: Some(true),
            extensions: None,
            extended_agent_card: Some(true),
        },
        default_input_modes: vec!["text/plain".to_owned()],
        default_output_modes: vec!["text/plain".to_owned()],
        skills: vec![skill("echo", "Says the same")],
        provider: None,
        documentation_url: None,
        icon_url: None,
        security_schemes: None,
        security_requirements: None,
        signatures: None,
    }
}

/// The agent: JSON-RPC at `/jsonrpc`, HTTP+JSON at `/rest`, gRPC at [`GRPC_PATH`], and `card` at
/// its well-known path. Its capabilities are those of `card`; the extended card also has
/// [`EXTENDED_SKILL`].
///
/// It does not authenticate callers: that is `BindingLayer`'s task. Push notifications go to
/// loopback addresses too, which the official server otherwise refuses.
pub fn agent(executor: impl AgentExecutor, card: AgentCard) -> Router {
    let mut extended = card.clone();
    extended
        .skills
        .push(skill(EXTENDED_SKILL, "Only in the extended card"));
    let push = HttpPushSenderConfig {
        validate_urls: false,
        ..HttpPushSenderConfig::default()
    };
    let handler = DefaultRequestHandler::new(executor, InMemoryTaskStore::new())
        .with_capabilities(card.capabilities.clone())
        .with_push_notifications(
            InMemoryPushConfigStore::new(),
            HttpPushSender::new(Some(push)),
        )
        .with_extended_agent_card(extended);
    let handler = Arc::new(handler);
    let grpc = A2aServiceServer::new(GrpcHandler::new(Arc::clone(&handler)));
    Router::new()
        .nest("/jsonrpc", jsonrpc_router(Arc::clone(&handler)))
        .nest("/rest", rest_router(handler))
        .route_service(&format!("{GRPC_PATH}{{method}}"), grpc)
        .merge(agent_card_router(Arc::new(StaticAgentCard::new(card))))
}

fn skill(id: &str, description: &str) -> AgentSkill {
    AgentSkill {
        id: id.to_owned(),
        name: id.to_owned(),
        description: description.to_owned(),
        tags: vec!["test".to_owned()],
        examples: None,
        input_modes: None,
        output_modes: None,
        security_requirements: None,
    }
}
