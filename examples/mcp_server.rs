//! An rmcp server behind bowline's verifier: its tools know the caller, and the layer refuses
//! attackers.
//!
//!     cargo run -p bowline-examples --bin mcp_server
//!
//! needs nothing else: it makes the certificates and the authorization server itself
//! (`bowline-testkit`), all on loopback. What a real server keeps of it is [`serve_mcp`]
//! and [`CallerTools`].

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::sync::Arc;

use axum::Router;
use bowline_http_client::{AccessToken, Client, Identity, Trust};
use bowline_server::{
    AcceptPolicy, Acceptor, BindingLayer, ClientAuth, ExpectedClaims, JwksUrl, JwtValidator,
    Listener, ServeOptions, ServerTls, VerifiedBinding, serve,
};
use bowline_testkit::attacker::{LeakyLog, replay};
use bowline_testkit::authority::{Authority, AuthorityOptions, TokenRequest};
use bowline_testkit::pki::{KeyKind, Leaf, Pki};
use rmcp::model::CallToolRequestParams;
use rmcp::service::RequestContext;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{RoleServer, ServerHandler, ServiceExt, tool, tool_handler, tool_router};

type Error = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    run().await
}

async fn run() -> Result<(), Error> {
    let pki = Pki::new();
    let authority = Authority::start(&pki, AuthorityOptions::default());
    let log = LeakyLog::default();
    let origin = serve_mcp(&pki, &authority, &log).await?;
    println!(
        "an MCP server on {origin}/mcp, tokens from {}\n",
        authority.issuer()
    );

    let (victim, attacker) = (
        pki.client("agent", KeyKind::P256),
        pki.client("attacker", KeyKind::P256),
    );
    let request = TokenRequest::session_bound("agent", victim.thumbprint()).audience(&origin);
    let token = AccessToken::new(authority.issue(&request))?;
    println!("{}", agent(&pki, &victim, &origin, token).await?);

    println!("\na log has leaked the agent's last token and proof. On connections of their own:");
    let stolen = log.last().ok_or("the server has received no request")?;
    for (who, leaf, check) in [
        ("another certificate", &attacker, "RS-3"),
        ("the agent's own certificate", &victim, "RS-6"),
    ] {
        let outcome = replay(&pki, leaf, &origin, &stolen, "").await?;
        println!("  an attacker with {who}: {outcome}");
        if outcome.check() != Some(check) {
            return Err(format!("expected a refusal by {check}").into());
        }
    }
    Ok(())
}

/// The server: mutual TLS, session-bound tokens only, rmcp's service below.
async fn serve_mcp(pki: &Pki, authority: &Authority, log: &LeakyLog) -> Result<String, Error> {
    let leaf = pki.localhost();
    let identity = bowline_server::Identity::new(leaf.chain(), leaf.signing_key())?;
    let tls = ServerTls::builder(identity, ClientAuth::Required(pki.roots().into())).build()?;
    let listener = Listener::bind("127.0.0.1:0", Acceptor::new(tls)).await?;
    let origin = format!("https://localhost:{}", listener.local_addr().port());

    let keys =
        JwksUrl::new(&authority.jwks_url())?.trust_only_pem(authority.ca_pem().as_bytes())?;
    let tokens = JwtValidator::builder(
        ExpectedClaims::new(&origin).issuer(authority.issuer()),
        keys,
    )
    .build();
    let binding = BindingLayer::new(tokens)
        .origins([origin.parse()?])
        .policy(AcceptPolicy::RequireSession);

    let mcp: StreamableHttpService<CallerTools, LocalSessionManager> = StreamableHttpService::new(
        || Ok(CallerTools),
        Arc::default(),
        StreamableHttpServerConfig::default(),
    );
    let app = Router::new().nest_service("/mcp", mcp).layer(binding);
    let app = log.in_front_of(app);
    tokio::spawn(serve(
        listener,
        app,
        ServeOptions::default(),
        std::future::pending(),
    ));
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
        let head = context.extensions.get::<http::request::Parts>();
        match head.and_then(|head| head.extensions.get::<VerifiedBinding>()) {
            Some(binding) => {
                let caller = binding.claims()["client_id"]
                    .as_str()
                    .unwrap_or("nobody")
                    .to_owned();
                format!("{caller}, {}-bound", binding.class().name())
            }
            None => "unknown".to_owned(),
        }
    }
}

#[tool_handler]
impl ServerHandler for CallerTools {}

/// A client that asks who it is.
async fn agent(pki: &Pki, leaf: &Leaf, origin: &str, token: AccessToken) -> Result<String, Error> {
    let client = Client::builder()
        .identity(Identity::new(leaf.chain(), leaf.signing_key())?)
        .trust(Trust::from_der([pki.ca_der().clone()])?)
        .build()?;
    let transport = bowline_mcp::transport(client, format!("{origin}/mcp"), token);
    let agent = ().serve(transport).await?;
    let answer = agent
        .call_tool(CallToolRequestParams::new("who_am_i"))
        .await?;
    agent.cancel().await?;
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
