//! rmcp's client and a server that speaks only HTTP+SSE (MCP revision 2024-11-05): what happens
//! when the event stream breaks, and how an attacker with the stream's token and proof is refused.
//!
//!     cargo run -p bowline-examples --bin mcp_legacy_sse
//!
//! What a real client keeps of it is [`connect`] and [`broken_stream`].

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use bowline::mcp::{self, CONNECTION_CLOSED, LegacySse};
use bowline::{AccessToken, Client, Identity, Trust};
use rmcp::model::CallToolRequestParams;
use rmcp::service::{RunningService, ServiceError};
use rmcp::transport::DynamicTransportError;
use rmcp::{RoleClient, ServiceExt};
use setup::{Error, Pem, Setup};

#[tokio::main]
async fn main() -> Result<(), Error> {
    run().await
}

async fn run() -> Result<(), Error> {
    let setup = Setup::start();
    let server = setup.legacy_mcp_server().await?;
    let token = setup.token("agent", &server.origin)?;
    let client = client(&setup.certificate("agent"))?;
    let agent = connect(client.clone(), &format!("{}/sse", server.origin), token).await?;
    for number in 0..10 {
        call(&agent, &number.to_string()).await?;
    }
    let signatures = client.stats().totals.signatures();
    println!("ten calls: {signatures} signature(s)");

    let (lost, ()) = tokio::join!(call(&agent, "lost"), server.cut_after("lost"));
    println!("one was under way: {}", broken_stream(lost)?);
    call(&agent, "later").await?;
    let signatures = client.stats().totals.signatures();
    let sessions = server.sessions();
    println!("the next one: {sessions} session(s), {signatures} signature(s)");

    setup.replay_the_leaked_request(&server.origin).await
}

fn client(pem: &Pem) -> Result<Client, Error> {
    Ok(Client::builder()
        .identity(Identity::from_pem(&pem.certificate, &pem.key)?)
        .trust(Trust::from_pem(&pem.ca)?)
        .build()?)
}

/// The client.
async fn connect(
    client: Client,
    url: &str,
    token: AccessToken,
) -> Result<RunningService<RoleClient, ()>, Error> {
    let transport = LegacySse::new(client).token(token).transport(url)?;
    Ok(().serve(transport).await?)
}

async fn call(agent: &RunningService<RoleClient, ()>, text: &str) -> Result<(), ServiceError> {
    let arguments = serde_json::json!({ "text": text });
    let call = CallToolRequestParams::new("echo")
        .with_arguments(arguments.as_object().cloned().unwrap_or_default());
    agent.call_tool(call).await.map(drop)
}

/// A call that was under way when the stream broke may have been processed.
fn broken_stream(result: Result<(), ServiceError>) -> Result<String, Error> {
    match result {
        Err(ServiceError::McpError(e)) if e.code == CONNECTION_CLOSED => Ok(e.message.into()),
        // The stream broke before the client knew that the message was accepted.
        Err(ServiceError::TransportSend(e)) if may_have_been_processed(&e) => Ok(e.to_string()),
        other => Err(format!("a call was answered on a broken stream: {other:?}").into()),
    }
}

fn may_have_been_processed(error: &DynamicTransportError) -> bool {
    let error = error.error.downcast_ref::<mcp::Error>();
    error.is_some_and(mcp::Error::may_have_been_processed)
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn a_broken_stream_costs_one_call_and_the_attackers_are_refused() {
        super::run().await.unwrap();
    }
}
