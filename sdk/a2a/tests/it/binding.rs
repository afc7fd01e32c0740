//! The three bindings, for tests that say the same of each.

use std::sync::Arc;

use a2a::{
    A2AError, AgentCard, AgentInterface, Message, Part, Role, SendMessageRequest,
    SendMessageResponse,
};
use a2a_client::{ServiceParams, Transport, TransportFactory};
use bowline_a2a::Transports;

use crate::soon;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Binding {
    JsonRpc,
    HttpJson,
    Grpc,
}

pub(crate) const BINDINGS: [Binding; 3] = [Binding::JsonRpc, Binding::HttpJson, Binding::Grpc];

impl Binding {
    /// The factory of this binding, and the card's interface for it.
    pub(crate) fn of<'a>(
        self,
        transports: &Transports,
        card: &'a AgentCard,
    ) -> (Arc<dyn TransportFactory>, &'a AgentInterface) {
        let factory = match self {
            Self::JsonRpc => transports.json_rpc(),
            Self::HttpJson => transports.http_json(),
            Self::Grpc => transports.grpc(),
        };
        let mut interfaces = card.supported_interfaces.iter();
        let interface =
            interfaces.find(|interface| interface.protocol_binding == factory.protocol());
        (factory, interface.expect("the card has all three"))
    }

    pub(crate) async fn create(
        self,
        transports: &Transports,
        card: &AgentCard,
    ) -> Result<Box<dyn Transport>, A2AError> {
        let (factory, interface) = self.of(transports, card);
        factory.create(card, interface).await
    }
}

pub(crate) fn message(text: &str) -> SendMessageRequest {
    SendMessageRequest {
        message: Message::new(Role::User, vec![Part::text(text)]),
        configuration: None,
        metadata: None,
        tenant: None,
    }
}

/// Sends a message and gives the text of what is said to it.
pub(crate) async fn say(
    agent: &dyn Transport,
    params: &ServiceParams,
    text: &str,
) -> Result<String, A2AError> {
    let parts = match soon(agent.send_message(params, &message(text))).await? {
        SendMessageResponse::Message(message) => message.parts,
        SendMessageResponse::Task(task) => {
            let artifacts = task.artifacts.into_iter().flatten();
            artifacts.flat_map(|artifact| artifact.parts).collect()
        }
    };
    Ok(parts.iter().filter_map(Part::as_text).collect())
}
