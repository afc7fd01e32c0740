//! rmcp's client and a server that speaks only HTTP+SSE (MCP revision 2024-11-05): what happens
//! when the event stream breaks, and how an attacker with the stream's token and proof is refused.
//!
//!     cargo run -p bowline-examples --bin mcp_legacy_sse
//!
//! needs nothing else: the certificates, the authorization server and the MCP server are made on
//! the spot (`bowline-testkit`), everything is on loopback. What a real client keeps of it is
//! [`agent`].

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use bowline_http_client::{AccessToken, Client, Identity, Trust};
use bowline_mcp::{CONNECTION_CLOSED, LegacySse};
use bowline_server::{AcceptPolicy, BindingLayer, ExpectedClaims, Jwks, JwtValidator};
use bowline_testkit::attacker::{LeakyLog, replay};
use bowline_testkit::authority::{Authority, AuthorityOptions, TokenRequest};
use bowline_testkit::peers::{self, CyclingOptions, CyclingServer, legacy_sse};
use bowline_testkit::pki::{KeyKind, Leaf, Pki};
use rmcp::model::CallToolRequestParams;
use rmcp::service::{RunningService, ServiceError};
use rmcp::transport::DynamicTransportError;
use rmcp::{RoleClient, ServiceExt};
use serde_json::{Value, json};

type Error = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    run().await
}

async fn run() -> Result<(), Error> {
    let pki = Pki::new();
    let authority = Authority::start(&pki, AuthorityOptions::default());
    let (log, mcp) = (LeakyLog::default(), peers::LegacySse::new(answer));
    let server = serve(&pki, &authority, &mcp, &log)?;
    let uri = format!("{}/sse", server.origin());
    let (victim, attacker) = (
        pki.client("agent", KeyKind::P256),
        pki.client("attacker", KeyKind::P256),
    );
    let token = AccessToken::new(
        authority.issue(&TokenRequest::session_bound("agent", victim.thumbprint())),
    )?;

    let client = client(&pki, &victim)?;
    let agent = agent(client.clone(), &uri, token).await?;
    for number in 0..10 {
        call(&agent, &number.to_string()).await?;
    }
    println!(
        "ten calls: {} signature(s)",
        client.stats().totals.signatures()
    );

    let (lost, ()) = tokio::join!(call(&agent, "lost"), async {
        mcp.has_received_text(0, "lost").await;
        mcp.cut();
    });
    match lost {
        Err(ServiceError::McpError(e)) if e.code == CONNECTION_CLOSED => {
            println!("one was under way: {}", e.message)
        }
        // The stream broke before the client knew that the message was accepted.
        Err(ServiceError::TransportSend(e)) if may_have_been_processed(&e) => {
            println!("one was under way: {e}")
        }
        other => return Err(format!("a call was answered on a broken stream: {other:?}").into()),
    }
    call(&agent, "later").await?;
    println!(
        "the next one: {} session(s), {} signature(s)",
        mcp.sessions(),
        client.stats().totals.signatures()
    );

    println!("\na log has leaked the agent's last token and proof. On connections of their own:");
    let stolen = log.last().ok_or("the server has received no request")?;
    for (who, leaf, check) in [
        ("another certificate", &attacker, "RS-3"),
        ("the agent's own certificate", &victim, "RS-6"),
    ] {
        let outcome = replay(&pki, leaf, &server.origin(), &stolen, "").await?;
        println!("  an attacker with {who}: {outcome}");
        if outcome.check() != Some(check) {
            return Err(format!("expected a refusal by {check}").into());
        }
    }
    Ok(())
}

fn client(pki: &Pki, leaf: &Leaf) -> Result<Client, Error> {
    let client = Client::builder()
        .identity(Identity::new(leaf.chain(), leaf.signing_key())?)
        .trust(Trust::from_der([pki.ca_der().clone()])?);
    Ok(client.build()?)
}

/// The client.
async fn agent(
    client: Client,
    uri: &str,
    token: AccessToken,
) -> Result<RunningService<RoleClient, ()>, Error> {
    let transport = LegacySse::new(client).token(token).transport(uri)?;
    Ok(().serve(transport).await?)
}

async fn call(agent: &RunningService<RoleClient, ()>, text: &str) -> Result<(), ServiceError> {
    let arguments = json!({ "text": text });
    let call = CallToolRequestParams::new("echo")
        .with_arguments(arguments.as_object().cloned().unwrap_or_default());
    agent.call_tool(call).await.map(drop)
}

fn may_have_been_processed(error: &DynamicTransportError) -> bool {
    let error = error.error.downcast_ref::<bowline_mcp::Error>();
    error.is_some_and(bowline_mcp::Error::may_have_been_processed)
}

/// Answers everything except one call.
fn answer(_session: usize, message: &Value) -> Option<Value> {
    legacy_sse::echo(message).filter(|_| message["params"]["arguments"]["text"] != "lost")
}

fn serve(
    pki: &Pki,
    authority: &Authority,
    mcp: &peers::LegacySse,
    log: &LeakyLog,
) -> Result<CyclingServer, Error> {
    let keys = Jwks::document(authority.jwks().to_string())?;
    let tokens = JwtValidator::builder(
        ExpectedClaims::new(AuthorityOptions::default().audience).issuer(authority.issuer()),
        keys,
    )
    .build();
    let router = mcp
        .router()
        .layer(BindingLayer::new(tokens).policy(AcceptPolicy::RequireSession));
    Ok(CyclingServer::start(
        pki,
        CyclingOptions::default(),
        log.in_front_of(router),
    ))
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn a_broken_stream_costs_one_call_and_the_attackers_are_refused() {
        super::run().await.unwrap();
    }
}
