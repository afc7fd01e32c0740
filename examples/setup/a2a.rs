//! A2A: messages, a card without security, and a caller.

use std::sync::Arc;

use a2a::{AgentCard, Message, Part, Role, SendMessageRequest, SendMessageResponse};
use a2a_client::{A2AClient, TransportFactory};
use a2a_server::AgentExecutor;
use axum::Router;
use bowline::a2a::{Transports, card::Cards};
use bowline_testkit::a2a as peer;

use crate::{Error, Setup, expected};

/// The card of an agent with three bindings at this origin: `/jsonrpc`, `/rest` and gRPC.
#[must_use]
pub fn card(origin: &str) -> AgentCard {
    let mut card = peer::card(origin);
    card.capabilities.push_notifications = None;
    card.capabilities.extended_agent_card = None;
    card
}

/// The official server with its three bindings, and the card at its well-known path.
pub fn agent(executor: impl AgentExecutor, card: AgentCard) -> Router {
    peer::agent(executor, card)
}

/// A message with this text.
#[must_use]
pub fn message(text: &str) -> SendMessageRequest {
    SendMessageRequest {
        message: Message::new(Role::User, vec![Part::text(text)]),
        configuration: None,
        metadata: None,
        tenant: None,
    }
}

/// The text of an answer, or of the artifact in which the agent repeats its message.
#[must_use]
pub fn echoed(answer: &SendMessageResponse) -> String {
    let text = |parts: &[Part]| parts.iter().filter_map(Part::as_text).collect::<String>();
    match answer {
        SendMessageResponse::Message(message) => text(&message.parts),
        SendMessageResponse::Task(task) => task
            .artifacts
            .iter()
            .flatten()
            .map(|artifact| text(&artifact.parts))
            .collect(),
    }
}

/// Asks the agent over each binding who the caller is. The same client fetches the card, which
/// needs no token.
///
/// # Errors
/// If an answer does not contain `answer`.
pub async fn ask_over_each_binding(setup: &Setup, origin: &str, answer: &str) -> Result<(), Error> {
    let client = setup.client("agent")?;
    let card = Cards::new(client.clone()).resolve(origin).await?;
    let transports = Transports::new(client.clone(), origin)?.token(setup.token("agent", origin)?);
    let bindings: [Arc<dyn TransportFactory>; 3] = [
        transports.json_rpc(),
        transports.http_json(),
        transports.grpc(),
    ];
    for (binding, interface) in bindings.iter().zip(&card.card().supported_interfaces) {
        let agent = A2AClient::new(binding.create(card.card(), interface).await?);
        let said = echoed(&agent.send_message(&message("Who am I?")).await?);
        println!("{}: {}", binding.protocol(), expected(answer, said)?);
    }
    let stats = client.stats();
    println!(
        "a card and three calls: {} connection(s), {} signature(s)",
        stats.connections_opened,
        stats.totals.signatures()
    );
    Ok(())
}
