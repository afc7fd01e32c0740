//! An rmcp server behind bowline's verifier: its tools know the caller, and the layer refuses
//! attackers.
//!
//!     cargo run -p bowline-examples --bin mcp_server
//!
//! What a real server keeps of it is [`serve_mcp`] and [`CallerTools`].

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::future::pending;
use std::sync::Arc;

use axum::Router;
use axum::http::request::Parts;
use bowline::mcp;
use bowline::server::{
    AcceptPolicy, BindingLayer, ExpectedClaims, JwtValidator, ServeOptions, VerifiedBinding, serve,
};
use rmcp::model::CallToolRequestParams;
use rmcp::service::RequestContext;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{RoleServer, ServerHandler, ServiceExt, tool, tool_handler, tool_router};
use setup::{Error, Setup, expected};

#[tokio::main]
async fn main() -> Result<(), Error> {
    run().await
}

async fn run() -> Result<(), Error> {
    let setup = Setup::start();
    let origin = serve_mcp(&setup).await?;
    println!(
        "{}",
        expected("agent, session-bound", ask(&setup, &origin).await?)?
    );
    setup.replay_the_leaked_request(&origin).await
}

/// The server: mutual TLS, session-bound tokens only, rmcp's service below.
async fn serve_mcp(setup: &Setup) -> Result<String, Error> {
    let (listener, origin) = setup.listen().await?; // axum_server.rs has it in full
    let claims = ExpectedClaims::new(&origin).issuer(setup.issuer());
    let tokens = JwtValidator::builder(claims, setup.keys()?).build();
    let binding = BindingLayer::new(tokens)
        .origins([origin.parse()?])
        .policy(AcceptPolicy::RequireSession);
    let mcp: StreamableHttpService<CallerTools, LocalSessionManager> = StreamableHttpService::new(
        || Ok(CallerTools),
        Arc::default(),
        StreamableHttpServerConfig::default(),
    );
    let app = Router::new().nest_service("/mcp", mcp).layer(binding);
    let app = setup.leaky_log(app);
    tokio::spawn(serve(listener, app, ServeOptions::default(), pending()));
    Ok(origin)
}

/// The tools.
#[derive(Clone)]
struct CallerTools;

#[tool_router]
impl CallerTools {
    /// rmcp passes the HTTP request's head to its tools; the layer has added the verified binding
    /// of the caller.
    #[tool(description = "Says who the caller is, and how that was verified")]
    fn who_am_i(&self, context: RequestContext<RoleServer>) -> String {
        let head = context.extensions.get::<Parts>();
        let Some(binding) = head.and_then(|head| head.extensions.get::<VerifiedBinding>()) else {
            return "unknown".to_owned();
        };
        let caller = binding.claims()["client_id"].as_str().unwrap_or("unknown");
        format!("{caller}, {}-bound", binding.class().name())
    }
}

#[tool_handler]
impl ServerHandler for CallerTools {}

/// A client that asks who it is.
async fn ask(setup: &Setup, origin: &str) -> Result<String, Error> {
    let (client, token) = (setup.client("agent")?, setup.token("agent", origin)?);
    let transport = mcp::transport(client, format!("{origin}/mcp"), token);
    let agent = ().serve(transport).await?;
    let answer = agent
        .call_tool(CallToolRequestParams::new("who_am_i"))
        .await?;
    let text = answer.content.first().and_then(|content| content.as_text());
    Ok(text.ok_or("no text")?.text.clone())
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn the_agent_passes_and_the_attackers_are_refused() {
        super::run().await.unwrap();
    }
}
