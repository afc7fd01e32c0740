use bowline::token::{AuthorizationServer, ClientAuthentication, OAuth, RequiredBinding};
use bowline::{Client, Identity, Trust, mcp::StreamableHttp};
use rmcp::{ServiceExt, model::CallToolRequestParams};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("MCP_URL")?; // https://mcp.example.com/mcp
    let issuer = std::env::var("ISSUER")?; // https://as.example.com
    // One key authenticates the TLS connections and signs the proofs for them.
    let client = Client::builder()
        .identity(Identity::from_pem_files("agent.pem", "agent-key.pem")?)
        .trust(Trust::from_pem_file("ca.pem")?)
        .build()?;

    // Session-bound tokens for this server, over mutual TLS (RFC 8705), from this issuer alone.
    let server = AuthorizationServer::for_resource(&url).only([issuer]);
    let tokens = OAuth::builder(client.clone(), server, ClientAuthentication::tls("agent"))
        .bound(RequiredBinding::Session)
        .build()?;

    let transport = StreamableHttp::new(client.clone()).source(tokens);
    let agent = ().serve(transport.transport(url)).await?;
    for _ in 0..10 {
        agent.call_tool(CallToolRequestParams::new("ping")).await?;
    }
    agent.cancel().await?;
    let signatures = client.stats().totals.signatures();
    println!("ten calls, {signatures} signature(s)");
    Ok(())
}
