//! Servers for the examples that show a client.

use std::future::pending;

use axum::Router;
use bowline::a2a::extension::SessionBinding;
use bowline::server::{
    AcceptPolicy, Acceptor, BindingLayer, ClientAuth, ExpectedClaims, Identity, JwtValidator,
    Listener, ResourceMetadata, ServeOptions, ServerTls, Trust, serve,
};
use bowline_testkit::a2a as peer;
use bowline_testkit::peers::{LegacySse, legacy_sse};
use rmcp::handler::server::wrapper::Parameters;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ServerHandler, schemars, tool, tool_handler, tool_router};
use serde_json::Value;

use crate::{Error, Setup};

impl Setup {
    /// Serves a router to clients with session-bound tokens for `audience`, and gives its origin.
    ///
    /// # Errors
    /// None, if the set-up is right.
    pub async fn serve(&self, audience: &str, router: Router) -> Result<String, Error> {
        let (listener, origin) = self.listen().await?;
        self.spawn(listener, &origin, audience, router, |layer| layer)?;
        Ok(origin)
    }

    /// An MCP server with the tool `add`, and the URL of its endpoint, which is the audience of its
    /// tokens. Its metadata names the authorization server (RFC 9728).
    ///
    /// # Errors
    /// None, if the set-up is right.
    pub async fn mcp_server(&self) -> Result<String, Error> {
        let (listener, origin) = self.listen().await?;
        let url = format!("{origin}/mcp");
        let metadata = ResourceMetadata::new(&*url)?.authorization_servers([self.issuer()]);
        let mcp: StreamableHttpService<Sums, LocalSessionManager> = StreamableHttpService::new(
            || Ok(Sums),
            Default::default(),
            StreamableHttpServerConfig::default(),
        );
        let router = Router::new()
            .nest_service("/mcp", mcp)
            .route_service(metadata.path(), metadata.service());
        self.spawn(listener, &origin, &url, router, |layer| {
            layer.resource(&metadata)
        })?;
        Ok(url)
    }

    /// An MCP server that speaks only HTTP+SSE.
    ///
    /// # Errors
    /// None, if the set-up is right.
    pub async fn legacy_mcp_server(&self) -> Result<LegacyServer, Error> {
        let (listener, origin) = self.listen().await?;
        let peer = LegacySse::new(answer);
        let router = self.leaky_log(peer.router());
        self.spawn(listener, &origin, &origin, router, |layer| layer)?;
        Ok(LegacyServer { origin, peer })
    }

    /// An agent on the official A2A server, which repeats messages. Its card needs no token (RS-13)
    /// and announces session binding.
    ///
    /// # Errors
    /// None, if the set-up is right.
    pub async fn a2a_agent(&self) -> Result<String, Error> {
        let (listener, origin) = self.listen().await?;
        let mut card = peer::card(&origin);
        card.capabilities.extensions = Some(vec![SessionBinding::required().into()]);
        let router = peer::agent(peer::Echo::default(), card);
        self.spawn(listener, &origin, &origin, router, |layer| {
            layer.public_paths(["/.well-known/agent-card.json"])
        })?;
        Ok(origin)
    }

    /// A listener with TLS, which demands a client certificate, and its origin: `axum_server.rs`
    /// shows the same.
    ///
    /// # Errors
    /// None, if the set-up is right.
    pub async fn listen(&self) -> Result<(Listener, String), Error> {
        let pem = self.server_certificate();
        let clients = ClientAuth::Required(Trust::from_pem(&pem.ca)?);
        let identity = Identity::from_pem(&pem.certificate, &pem.key)?;
        let tls = ServerTls::builder(identity, clients).build()?;
        let listener = Listener::bind("127.0.0.1:0", Acceptor::new(tls)).await?;
        let origin = format!("https://localhost:{}", listener.local_addr().port());
        Ok((listener, origin))
    }

    fn spawn(
        &self,
        listener: Listener,
        origin: &str,
        audience: &str,
        router: Router,
        configure: impl FnOnce(BindingLayer<JwtValidator>) -> BindingLayer<JwtValidator>,
    ) -> Result<(), Error> {
        let claims = ExpectedClaims::new(audience).issuer(self.issuer());
        let layer = BindingLayer::new(JwtValidator::builder(claims, self.keys()?).build())
            .origins([origin.parse()?])
            .policy(AcceptPolicy::RequireSession);
        let router = router.layer(configure(layer));
        tokio::spawn(serve(listener, router, ServeOptions::default(), pending()));
        Ok(())
    }
}

/// An MCP server of the revision 2024-11-05.
pub struct LegacyServer {
    /// Its origin; its event streams are at `/sse`.
    pub origin: String,
    peer: LegacySse,
}

impl LegacyServer {
    /// Waits until a call with this argument `text` has come over the first event stream, and then
    /// cuts all event streams.
    pub async fn cut_after(&self, text: &str) {
        self.peer.has_received_text(0, text).await;
        self.peer.cut();
    }

    /// How many sessions have begun.
    pub fn sessions(&self) -> usize {
        self.peer.sessions()
    }
}

/// Answers everything except one call.
fn answer(_session: usize, message: &Value) -> Option<Value> {
    legacy_sse::echo(message).filter(|_| message["params"]["arguments"]["text"] != "lost")
}

#[derive(Clone)]
struct Sums;

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Summands {
    a: i64,
    b: i64,
}

#[tool_router]
impl Sums {
    #[tool(description = "Adds two numbers")]
    fn add(&self, Parameters(Summands { a, b }): Parameters<Summands>) -> String {
        a.saturating_add(b).to_string()
    }

    #[tool(description = "Says that it is there")]
    fn ping(&self) -> String {
        "here".to_owned()
    }
}

#[tool_handler]
impl ServerHandler for Sums {}
