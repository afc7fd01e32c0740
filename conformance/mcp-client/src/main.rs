//! The client that the MCP conformance suite tests, twice: over bowline's transport and over rmcp's
//! stock one. Everything above the HTTP client is the same, so a difference in the results is the
//! transport's.
//!
//!     bowline-conformance-mcp-client {bowline|stock} URL
//!
//! The suite appends the URL, and describes the scenario in `MCP_CONFORMANCE_*`
//! (`conformance/mcp-suite/run.py` runs it). It uses plaintext on loopback, so it covers DPoP, but
//! no client certificate and no session-bound token.

mod authorization;
mod handler;
mod session;

use std::sync::Arc;
use std::time::Duration;

use bowline_http_client::{Client, DpopKey, Trust};
use bowline_mcp::StreamableHttp;
use bowline_testkit::pki::Pki;
use rmcp::transport::auth::default_oauth_http_client;
use rmcp::transport::streamable_http_client::StreamableHttpClient;
use serde::Deserialize;
use serde_json::{Map, Value};

use authorization::{Authorizations, Proving};

pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

/// Shorter than the 30 s after which the suite kills the client.
const TIME: Duration = Duration::from_secs(25);

/// The scenario, as the suite describes it.
pub(crate) struct Scenario {
    pub(crate) name: String,
    pub(crate) url: String,
    /// The protocol version to speak.
    pub(crate) version: String,
    pub(crate) context: Context,
}

#[derive(Default, Deserialize)]
pub(crate) struct Context {
    pub(crate) client_id: Option<String>,
    pub(crate) client_secret: Option<String>,
    #[serde(default, alias = "toolCalls")]
    pub(crate) tool_calls: Vec<ToolCall>,
}

#[derive(Deserialize)]
pub(crate) struct ToolCall {
    pub(crate) name: String,
    pub(crate) arguments: Option<Map<String, Value>>,
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let (Some(transport), Some(url)) = (arguments.next(), arguments.next()) else {
        return Err("usage: bowline-conformance-mcp-client {bowline|stock} URL".into());
    };
    let scenario = Scenario::from_environment(url)?;
    let run = async {
        match transport.as_str() {
            "stock" => {
                let oauth = Arc::new(default_oauth_http_client()?);
                run(
                    reqwest::Client::new(),
                    &Authorizations::new(oauth, &scenario),
                    &scenario,
                )
                .await
            }
            "bowline" => {
                let client = client()?;
                let oauth = Arc::new(Proving::over(client.clone()));
                run(
                    StreamableHttp::new(client),
                    &Authorizations::new(oauth, &scenario),
                    &scenario,
                )
                .await
            }
            other => Err(format!("there is no transport {other}").into()),
        }
    };
    tokio::time::timeout(TIME, run).await?
}

/// A client with a DPoP key of its own.
fn client() -> Result<Client, Error> {
    let client = Client::builder()
        .trust(Trust::from_der([Pki::new().ca_der().clone()])?)
        .dpop_key(DpopKey::generate()?)
        .allow_plaintext_on_loopback();
    Ok(client.build()?)
}

async fn run<C>(
    http: C,
    authorizations: &Authorizations<'_>,
    scenario: &Scenario,
) -> Result<(), Error>
where
    C: StreamableHttpClient + Clone + Send + Sync + 'static,
{
    match scenario.name.strip_prefix("auth/") {
        None => Ok(session::run(http, scenario).await?),
        Some("client-credentials-basic") => {
            let authorized = authorizations.with_secret(http).await?;
            Ok(session::run(authorized, scenario).await?)
        }
        Some(_) => authorizations.on_demand(http, scenario).await,
    }
}

impl Scenario {
    fn from_environment(url: String) -> Result<Self, Error> {
        let variable = |name: &str| std::env::var(format!("MCP_CONFORMANCE_{name}")).ok();
        let context = match variable("CONTEXT") {
            Some(context) => serde_json::from_str(&context)?,
            None => Context::default(),
        };
        Ok(Self {
            name: variable("SCENARIO").ok_or("the suite names no scenario")?,
            url,
            version: variable("PROTOCOL_VERSION").unwrap_or_else(|| "2025-11-25".to_owned()),
            context,
        })
    }
}
