//! A2A: the official client, over bowline or over its own transports, and the official server.

mod long_task;
mod stock;

use std::sync::Arc;
use std::time::{Duration, Instant};

use a2a::{Message, Part, Role, SendMessageRequest, SendMessageResponse, Task};
use a2a_client::auth::AuthInterceptor;
use a2a_client::{A2AClient, Transport};
use axum::Router;
use bowline_a2a::Transports;
use bowline_http_client::Client;
use bowline_testkit::a2a::{Echo, Paced, agent, card};

use crate::Result;
use crate::agent::{Calls, Measured};
use crate::contender::{BowlineClient, Contender};
use crate::fixture::Fixture;
use crate::scenario::{A2aBinding, Scenario};
use crate::upstream::Upstream;

/// The interval between the updates of the long task.
const PACE: Duration = Duration::from_millis(20);

/// An agent that answers at once, or one with a long task.
pub(crate) fn server(scenario: Scenario, origin: &str, calls: u32) -> Router {
    match scenario {
        Scenario::A2aLongTask => agent(Paced::new(PACE, calls).with_history(), card(origin)),
        _ => agent(Echo::default(), card(origin)),
    }
}

/// The body of a call without a client. It need not be a valid call to pass the verifier.
pub(crate) fn attackers_call(binding: A2aBinding) -> Vec<u8> {
    match binding {
        A2aBinding::JsonRpc => {
            br#"{"jsonrpc":"2.0","id":1,"method":"ListTasks","params":{}}"#.to_vec()
        }
        A2aBinding::HttpJson => {
            serde_json::json!({ "message": Message::new(Role::User, vec![Part::text("stolen")]) })
                .to_string()
                .into_bytes()
        }
        // An empty message in gRPC's framing.
        A2aBinding::Grpc => vec![0; 5],
    }
}

/// A client of the agent.
pub(crate) struct Agent {
    client: Arc<A2AClient<Box<dyn Transport>>>,
    http: Option<Client>,
}

impl Agent {
    pub(crate) async fn connect(
        fixture: &Fixture,
        upstream: &Upstream,
        binding: A2aBinding,
        contender: Contender,
    ) -> Result<Self> {
        let origin = upstream.origin();
        match contender.bowline(fixture).await? {
            Some(BowlineClient { client, token }) => {
                let card = card(&origin);
                let transports = Transports::new(client.clone(), &origin)?.token(token);
                let factory = match binding {
                    A2aBinding::JsonRpc => transports.json_rpc(),
                    A2aBinding::HttpJson => transports.http_json(),
                    A2aBinding::Grpc => transports.grpc(),
                };
                let interfaces = &card.supported_interfaces;
                let interface = interfaces
                    .iter()
                    .find(|i| i.protocol_binding == factory.protocol());
                let interface = interface.ok_or("the card has no such interface")?;
                Ok(Self {
                    client: Arc::new(A2AClient::new(factory.create(&card, interface).await?)),
                    http: Some(client),
                })
            }
            None => {
                let token = AuthInterceptor::bearer(&fixture.token("agent-bearer").await?);
                let client = A2AClient::new(stock::transport(fixture, &origin, binding).await?);
                Ok(Self {
                    client: Arc::new(client.with_interceptors(vec![Arc::new(token)])),
                    http: None,
                })
            }
        }
    }

    pub(crate) fn http(&self) -> Option<&Client> {
        self.http.as_ref()
    }

    pub(crate) async fn drive(&self, calls: Calls<'_>) -> Measured {
        match calls.scenario {
            Scenario::A2aLongTask => {
                long_task::follow(&self.client, self.http.is_some(), calls).await
            }
            _ => self.call(calls).await,
        }
    }

    async fn call(&self, calls: Calls<'_>) -> Measured {
        let mut measured = Measured::default();
        for call in 0..calls.number {
            let text = format!("call {call}");
            let began = Instant::now();
            let answer = self.client.send_message(&message(&text)).await;
            let is_echo = match &answer {
                Ok(SendMessageResponse::Task(task)) => artifact(task) == Some(&*text),
                _ => false,
            };
            measured.add(began, is_echo);
            calls.progress.inc(1);
        }
        measured
    }
}

fn message(text: &str) -> SendMessageRequest {
    SendMessageRequest {
        message: Message::new(Role::User, vec![Part::text(text)]),
        configuration: None,
        metadata: None,
        tenant: None,
    }
}

fn artifact(task: &Task) -> Option<&str> {
    task.artifacts.as_ref()?.first()?.parts.first()?.as_text()
}
