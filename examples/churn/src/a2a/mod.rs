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
use bowline_client::Client;
use bowline_testkit::a2a::{Echo, Paced, agent, card};
use indicatif::ProgressBar;

use crate::Result;
use crate::agent::Driven;
use crate::contender::{Contender, Ours};
use crate::scenario::{Binding, Scenario};
use crate::upstream::Upstream;
use crate::world::World;

/// How often the long task says something.
const PACE: Duration = Duration::from_millis(20);

/// An agent that answers at once, or one whose task takes its time.
pub(crate) fn server(scenario: Scenario, origin: &str, calls: u32) -> Router {
    match scenario {
        Scenario::A2aLongTask => agent(Paced::new(PACE, calls).with_history(), card(origin)),
        _ => agent(Echo::default(), card(origin)),
    }
}

/// A call, for whoever has no client: it need not be a good one to get past the verifier.
pub(crate) fn call_by_hand(binding: Binding) -> Vec<u8> {
    match binding {
        Binding::JsonRpc => {
            br#"{"jsonrpc":"2.0","id":1,"method":"ListTasks","params":{}}"#.to_vec()
        }
        Binding::HttpJson => {
            serde_json::json!({ "message": Message::new(Role::User, vec![Part::text("stolen")]) })
                .to_string()
                .into_bytes()
        }
        // An empty message in gRPC's framing.
        Binding::Grpc => vec![0; 5],
    }
}

/// A client of the agent.
pub(crate) struct Agent {
    client: Arc<A2AClient<Box<dyn Transport>>>,
    http: Option<Client>,
}

impl Agent {
    pub(crate) async fn connect(
        world: &World,
        upstream: &Upstream,
        binding: Binding,
        contender: Contender,
    ) -> Result<Self> {
        let origin = upstream.origin();
        match contender.ours(world).await? {
            Some(Ours { client, token }) => {
                let card = card(&origin);
                let transports = Transports::new(client.clone(), &origin)?.token(token);
                let factory = match binding {
                    Binding::JsonRpc => transports.json_rpc(),
                    Binding::HttpJson => transports.http_json(),
                    Binding::Grpc => transports.grpc(),
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
                let token = AuthInterceptor::bearer(&world.token("agent-bearer").await?);
                let client = A2AClient::new(stock::transport(world, &origin, binding).await?);
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

    pub(crate) async fn drive(
        &self,
        scenario: Scenario,
        calls: u32,
        progress: &ProgressBar,
    ) -> Driven {
        match scenario {
            Scenario::A2aLongTask => {
                long_task::follow(&self.client, self.http.is_some(), calls, progress).await
            }
            _ => self.call(calls, progress).await,
        }
    }

    async fn call(&self, calls: u32, progress: &ProgressBar) -> Driven {
        let mut driven = Driven::default();
        for call in 0..calls {
            let text = format!("call {call}");
            let began = Instant::now();
            let answer = self.client.send_message(&message(&text)).await;
            let is_right = matches!(&answer, Ok(SendMessageResponse::Task(task)) if artifact(task) == Some(&*text));
            driven.add(began, is_right);
            progress.inc(1);
        }
        driven
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
