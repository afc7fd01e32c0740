//! rmcp's client on bowline's transport: ten tool calls, one connection, one signature. Then rmcp's
//! stock client, with the token that it has stolen.
//!
//!     cargo run -p bowline-examples --bin mcp_client
//!
//! needs nothing else: the certificates, the authorization server and the MCP server are made on
//! the spot (`bowline-testkit`), everything is on loopback. What a real client keeps of it is
//! [`agent`].

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use axum::Router;
use bowline_http_client::{AccessToken, Client, Identity, Trust};
use bowline_server::{AcceptPolicy, BindingLayer, ExpectedClaims, Jwks, JwtValidator};
use bowline_testkit::authority::{Authority, AuthorityOptions, TokenRequest};
use bowline_testkit::peers::{CyclingOptions, CyclingServer};
use bowline_testkit::pki::{KeyKind, Leaf, Pki};
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::CallToolRequestParams;
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ServerHandler, ServiceExt, schemars, tool, tool_handler, tool_router};

type Error = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    run().await
}

async fn run() -> Result<(), Error> {
    let pki = Pki::new();
    let authority = Authority::start(&pki, AuthorityOptions::default());
    let server = server(&pki, &authority)?;
    let uri = format!("{}/mcp", server.origin());
    let (victim, attacker) = (
        pki.client("agent", KeyKind::P256),
        pki.client("attacker", KeyKind::P256),
    );
    let token = AccessToken::new(
        authority.issue(&TokenRequest::session_bound("agent", victim.thumbprint())),
    )?;

    let signatures = agent(&pki, &victim, &uri, token.clone()).await?;
    println!(
        "ten tool calls: {} connection(s), {signatures} signature(s)",
        server.counts().opened
    );

    println!("\nan attacker has the token, and rmcp's stock client:");
    for (who, leaf) in [
        ("another certificate", &attacker),
        ("the agent's own certificate", &victim),
    ] {
        println!("  with {who}: {}", stock(&pki, leaf, &uri, &token).await?);
    }
    Ok(())
}

/// The client. The token is bound to the certificate; the transport makes the proof.
async fn agent(pki: &Pki, leaf: &Leaf, uri: &str, token: AccessToken) -> Result<u64, Error> {
    let client = Client::builder()
        .identity(Identity::new(leaf.chain(), leaf.signing_key())?)
        .trust(Trust::from_der([pki.ca_der().clone()])?)
        .build()?;
    let agent = ().serve(bowline_mcp::transport(client.clone(), uri, token)).await?;
    for number in 0..10 {
        let arguments = serde_json::json!({ "a": number, "b": 1 });
        let call = CallToolRequestParams::new("add")
            .with_arguments(arguments.as_object().cloned().unwrap_or_default());
        agent.call_tool(call).await?;
    }
    agent.cancel().await?;
    Ok(client.stats().totals.signatures())
}

/// An attacker with the token. The stock client makes no proof, so even the right certificate does
/// not help.
async fn stock(pki: &Pki, leaf: &Leaf, uri: &str, token: &AccessToken) -> Result<String, Error> {
    let pem = [leaf.chain_pem(), leaf.key_pem()].concat();
    let http = reqwest::Client::builder()
        .tls_certs_only([reqwest::Certificate::from_pem(pki.ca_pem().as_bytes())?])
        .identity(reqwest::Identity::from_pem(pem.as_bytes())?)
        .build()?;
    let config = StreamableHttpClientTransportConfig::with_uri(uri).auth_header(token.secret());
    match ().serve(StreamableHttpClientTransport::with_client(http, config)).await {
        Ok(_) => Err("the attacker was not refused".into()),
        Err(e) => Ok(said(&format!("{e:?}"))),
    }
}

/// The check that refused, from the client's error text.
fn said(error: &str) -> String {
    let check = error
        .find("RS-")
        .map(|at| &error[at..error.len().min(at + 4)]);
    format!("refused by {}", check.unwrap_or("an unknown check"))
}

fn server(pki: &Pki, authority: &Authority) -> Result<CyclingServer, Error> {
    let keys = Jwks::document(authority.jwks().to_string())?;
    let tokens = JwtValidator::builder(
        ExpectedClaims::new(AuthorityOptions::default().audience).issuer(authority.issuer()),
        keys,
    )
    .build();
    let mcp: StreamableHttpService<Sums, LocalSessionManager> = StreamableHttpService::new(
        || Ok(Sums),
        Default::default(),
        StreamableHttpServerConfig::default(),
    );
    let router = Router::new()
        .nest_service("/mcp", mcp)
        .layer(BindingLayer::new(tokens).policy(AcceptPolicy::RequireSession));
    Ok(CyclingServer::start(pki, CyclingOptions::default(), router))
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
}

#[tool_handler]
impl ServerHandler for Sums {}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn the_agent_passes_and_the_stock_client_with_its_token_does_not() {
        super::run().await.unwrap();
    }

    #[test]
    fn a_refusal_names_its_check() {
        assert_eq!(
            super::said("AuthRequired { \"RS-3: ...\" }"),
            "refused by RS-3"
        );
    }
}
