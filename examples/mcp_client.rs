//! rmcp's client on bowline's transport: ten tool calls, one connection, one signature. Then rmcp's
//! stock client, with the token that it has stolen.
//!
//!     cargo run -p bowline-examples --bin mcp_client
//!
//! What a real client keeps of it is [`agent`].

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use bowline::{AccessToken, Client, Identity, Trust, mcp};
use rmcp::ServiceExt;
use rmcp::model::CallToolRequestParams;
use setup::{Error, Pem, Setup};

#[tokio::main]
async fn main() -> Result<(), Error> {
    run().await
}

async fn run() -> Result<(), Error> {
    let setup = Setup::start();
    let url = setup.mcp_server().await?;
    let token = setup.token("agent", &url)?;
    agent(&setup.certificate("agent"), &url, token.clone()).await?;
    setup.steal_with_stock_rmcp(&url, &token).await
}

/// The client. The token is bound to the certificate; the transport makes the proof.
async fn agent(pem: &Pem, url: &str, token: AccessToken) -> Result<(), Error> {
    let client = Client::builder()
        .identity(Identity::from_pem(&pem.certificate, &pem.key)?)
        .trust(Trust::from_pem(&pem.ca)?)
        .build()?;
    let transport = mcp::transport(client.clone(), url, token);
    let agent = ().serve(transport).await?;
    for number in 0..10 {
        let arguments = serde_json::json!({ "a": number, "b": 1 });
        let call = CallToolRequestParams::new("add")
            .with_arguments(arguments.as_object().cloned().unwrap_or_default());
        agent.call_tool(call).await?;
    }
    agent.cancel().await?;

    let stats = client.stats();
    println!(
        "ten tool calls: {} connection(s), {} signature(s)",
        stats.connections_opened,
        stats.totals.signatures()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn the_agent_passes_and_the_stock_client_with_its_token_does_not() {
        super::run().await.unwrap();
    }
}
