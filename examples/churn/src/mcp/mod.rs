//! MCP: an rmcp client, over bowline or over rmcp's own HTTP client, and an rmcp server.

mod tools;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use bowline_http_client::Client;
use rmcp::model::CallToolRequestParams;
use rmcp::service::{NotificationContext, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ClientHandler, RoleClient, ServiceExt};
use tokio::sync::Semaphore;

use crate::Result;
use crate::agent::{Calls, Measured};
use crate::contender::{BowlineClient, Contender, stock_http};
use crate::fixture::Fixture;
use crate::scenario::Scenario;
use crate::upstream::Upstream;
use tools::Tools;

const PATH: &str = "/mcp";

/// An MCP server with one tool.
pub(crate) fn server(scenario: Scenario) -> Router {
    let has_sessions = scenario.has_event_stream();
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(has_sessions)
        .with_json_response(!has_sessions);
    let service: StreamableHttpService<Tools, LocalSessionManager> =
        StreamableHttpService::new(move || Ok(Tools::new(has_sessions)), Arc::default(), config);
    Router::new().nest_service(PATH, service)
}

/// The body of a tool call, without a client.
pub(crate) fn attackers_call() -> Vec<u8> {
    let call = serde_json::json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": { "name": "echo", "arguments": { "text": "stolen" } },
    });
    call.to_string().into_bytes()
}

/// A connected MCP client.
pub(crate) struct Agent {
    client: RunningService<RoleClient, Events>,
    http: Option<Client>,
    events: Events,
}

impl Agent {
    pub(crate) async fn connect(
        fixture: &Fixture,
        upstream: &Upstream,
        contender: Contender,
    ) -> Result<Self> {
        let url = format!("{}{PATH}", upstream.origin());
        let events = Events::default();
        let (client, http) = match contender.bowline(fixture).await? {
            Some(BowlineClient { client, token }) => {
                let running =
                    events
                        .clone()
                        .serve(bowline_mcp::transport(client.clone(), url, token));
                (running.await?, Some(client))
            }
            None => {
                // rmcp's default reqwest client keeps no idle connection.
                let http = stock_http(fixture)?.pool_max_idle_per_host(0).build()?;
                let token = fixture.token("agent-bearer").await?;
                let config = StreamableHttpClientTransportConfig::with_uri(url).auth_header(token);
                let transport = StreamableHttpClientTransport::with_client(http, config);
                (events.clone().serve(transport).await?, None)
            }
        };
        Ok(Self {
            client,
            http,
            events,
        })
    }

    pub(crate) fn http(&self) -> Option<&Client> {
        self.http.as_ref()
    }

    pub(crate) async fn drive(&self, calls: Calls<'_>) -> Measured {
        let mut measured = Measured::default();
        for call in 0..calls.number {
            if let Some(think_time) = calls.scenario.think_time().filter(|_| call > 0) {
                tokio::time::sleep(think_time).await;
            }
            let text = format!("call {call}");
            let arguments = serde_json::Map::from_iter([("text".to_owned(), text.clone().into())]);
            let began = Instant::now();
            let request = CallToolRequestParams::new("echo").with_arguments(arguments);
            let result = self.client.call_tool(request).await;
            let answered = result.is_ok_and(|result| {
                let content = result.content.first().and_then(|content| content.as_text());
                content.is_some_and(|content| content.text == text)
            });
            measured.add(began, answered);
            calls.progress.inc(1);
        }
        if calls.scenario.has_event_stream() && !self.events.arrived().await {
            measured.errors += 1;
        }
        measured
    }

    pub(crate) async fn close(self) {
        let _ = self.client.cancel().await;
    }
}

/// The client's side of the event stream.
#[derive(Clone)]
struct Events {
    /// A permit for each event.
    events: Arc<Semaphore>,
}

impl Events {
    /// Whether the event stream has carried anything; waits, because the event may still be on its
    /// way.
    async fn arrived(&self) -> bool {
        let first = tokio::time::timeout(Duration::from_secs(2), self.events.acquire());
        first.await.is_ok()
    }
}

impl Default for Events {
    fn default() -> Self {
        Self {
            events: Arc::new(Semaphore::new(0)),
        }
    }
}

impl ClientHandler for Events {
    async fn on_tool_list_changed(&self, _context: NotificationContext<RoleClient>) {
        self.events.add_permits(1);
    }
}
