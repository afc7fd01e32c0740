//! A real MCP server behind `BindingLayer` on mutual TLS, and an agent that calls it.

use std::sync::Arc;

use axum::Router;
use bowline_http_client::{AccessToken, Client, HttpVersions, Identity, Limits, Trust};
use bowline_server::{AcceptPolicy, BindingLayer, ExpectedClaims, Jwks, JwtValidator};
use bowline_testkit::authority::{Authority, AuthorityOptions, TokenRequest};
use bowline_testkit::peers::{CyclingOptions, CyclingServer};
use bowline_testkit::pki::{KeyKind, Leaf, Pki};
use rmcp::model::{CallToolRequestParams, ServerCapabilities, ServerConfig};
use rmcp::service::{RequestContext, RunningService};
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{
    ClientHandler, RoleClient, RoleServer, ServerHandler, ServiceExt,
    handler::server::wrapper::Parameters, schemars, service::NotificationContext, tool,
    tool_handler, tool_router,
};
use tokio::sync::mpsc;

use crate::scripted::soon;

pub(crate) struct Fixture {
    pub(crate) server: CyclingServer,
    pub(crate) authority: Authority,
    pub(crate) pki: Pki,
    pub(crate) agent: Leaf,
}

impl Fixture {
    pub(crate) fn open() -> Self {
        Self::open_with(|routes| routes, |layer| layer)
    }

    /// With other routes than `/mcp` in front of the verifier, or another verifier.
    pub(crate) fn open_with(
        routes: impl FnOnce(Router) -> Router,
        verifier: impl FnOnce(BindingLayer<JwtValidator>) -> BindingLayer<JwtValidator>,
    ) -> Self {
        Self::open_configured(StreamableHttpServerConfig::default(), routes, verifier)
    }

    pub(crate) fn open_configured(
        config: StreamableHttpServerConfig,
        routes: impl FnOnce(Router) -> Router,
        verifier: impl FnOnce(BindingLayer<JwtValidator>) -> BindingLayer<JwtValidator>,
    ) -> Self {
        let pki = Pki::new();
        let authority = Authority::start(&pki, AuthorityOptions::default());
        let validator = validator(&authority);
        let mcp: StreamableHttpService<Tools, LocalSessionManager> =
            StreamableHttpService::new(|| Ok(Tools), Arc::default(), config);
        let server = CyclingServer::start_with(&pki, CyclingOptions::default(), |origin| {
            let layer = BindingLayer::new(validator)
                .origins([origin.parse().unwrap()])
                .policy(AcceptPolicy::RequireSession);
            routes(Router::new().nest_service("/mcp", mcp)).layer(verifier(layer))
        });
        Self {
            server,
            authority,
            agent: pki.client("agent", KeyKind::P256),
            pki,
        }
    }

    pub(crate) fn uri(&self) -> String {
        format!("{}/mcp", self.server.origin())
    }

    pub(crate) fn client(&self, http: HttpVersions) -> Client {
        client(&self.pki, &self.agent, http)
    }

    /// The agent, in a session with the MCP server.
    pub(crate) async fn agent(&self, client: &Client) -> RunningService<RoleClient, ()> {
        let transport = bowline_mcp::transport(client.clone(), self.uri(), self.token());
        soon(().serve(transport)).await.unwrap()
    }

    /// A session-bound token of the agent.
    pub(crate) fn token(&self) -> AccessToken {
        self.issue(&TokenRequest::session_bound(
            "agent",
            self.agent.thumbprint(),
        ))
    }

    pub(crate) fn issue(&self, request: &TokenRequest) -> AccessToken {
        AccessToken::new(self.authority.issue(request)).unwrap()
    }
}

/// Accepts the tokens of this authority.
pub(crate) fn validator(authority: &Authority) -> JwtValidator {
    let jwks = Jwks::document(authority.jwks().to_string()).unwrap();
    let audience = AuthorityOptions::default().audience;
    JwtValidator::builder(
        ExpectedClaims::new(audience).issuer(authority.issuer()),
        jwks,
    )
    .build()
}

pub(crate) fn client(pki: &Pki, agent: &Leaf, http: HttpVersions) -> Client {
    client_with(pki, agent, http, Limits::default())
}

pub(crate) fn client_with(pki: &Pki, agent: &Leaf, http: HttpVersions, limits: Limits) -> Client {
    Client::builder()
        .limits(limits)
        .identity(Identity::new(agent.chain(), agent.signing_key()).unwrap())
        .trust(Trust::from_der([pki.ca_der().clone()]).unwrap())
        .http_versions(http)
        .build()
        .unwrap()
}

/// Calls `echo` so many times, one call after the other.
pub(crate) async fn call_echo<H: ClientHandler>(agent: &RunningService<RoleClient, H>, times: u32) {
    for call in 0..times {
        soon(agent.call_tool(echo(&call.to_string())))
            .await
            .unwrap();
    }
}

pub(crate) fn echo(text: &str) -> CallToolRequestParams {
    let arguments = serde_json::json!({ "text": text });
    CallToolRequestParams::new("echo").with_arguments(arguments.as_object().unwrap().clone())
}

#[derive(Clone)]
struct Tools;

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Echo {
    text: String,
}

#[tool_router]
impl Tools {
    #[tool(description = "Returns the text", annotations(read_only_hint = true))]
    fn echo(&self, Parameters(Echo { text }): Parameters<Echo>) -> String {
        text
    }

    #[tool(description = "Notifies clients that the tools have changed")]
    async fn announce(&self, context: RequestContext<RoleServer>) -> String {
        match context.peer.notify_tool_list_changed().await {
            Ok(()) => "announced".to_owned(),
            Err(e) => e.to_string(),
        }
    }
}

#[tool_handler]
impl ServerHandler for Tools {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(
            ServerCapabilities::builder()
                .enable_tools()
                .enable_tool_list_changed()
                .build(),
        )
    }
}

/// An agent that reports notifications of changed tools.
pub(crate) struct Listening(pub(crate) mpsc::UnboundedSender<()>);

impl ClientHandler for Listening {
    async fn on_tool_list_changed(&self, _context: NotificationContext<RoleClient>) {
        let _ = self.0.send(());
    }
}
