//! A session with a server: list the tools, call them, close.

use std::time::Duration;

use rmcp::model::{CallToolRequestParams, ProtocolVersion, Tool};
use rmcp::service::{ClientInitializeError, ServiceError};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::{
    StreamableHttpClient, StreamableHttpClientTransportConfig,
};
use rmcp::{ClientLifecycleMode, ClientServiceExt};
use serde_json::{Map, Value, json};

use crate::handler::Handler;
use crate::{Error, Scenario};

/// A pause, so that the event stream is open before a tool is called. rmcp opens it in the
/// background, and two of the suite's servers (`elicitation-sep1034-client-defaults`, `sse-retry`)
/// need it before the call. Over a client that opens a connection for each request it mostly is;
/// over one that keeps them the call, on a connection that is there, overtakes the stream, which
/// needs a new one.
const STREAM_TIME: Duration = Duration::from_secs(1);

/// Why a session ended early.
#[derive(Debug)]
pub(crate) enum Failed {
    /// The server demands authorization, or more scope: its challenge.
    Unauthorized(String),
    Otherwise(Error),
}

pub(crate) async fn run<C>(http: C, scenario: &Scenario) -> Result<(), Failed>
where
    C: StreamableHttpClient + Clone + Send + Sync + 'static,
{
    let config = StreamableHttpClientTransportConfig::with_uri(scenario.url.as_str());
    let transport = StreamableHttpClientTransport::with_client(http, config);
    let agent = Handler
        .serve_with_lifecycle(transport, lifecycle(scenario))
        .await?;
    let outcome = async {
        let tools = agent.list_tools(Default::default()).await?.tools;
        if is_initialized(scenario) {
            tokio::time::sleep(STREAM_TIME).await;
        }
        for call in calls(scenario, &tools) {
            // Some tools fail on purpose: what counts is that they were called.
            match agent.call_tool(call).await {
                Err(e) if e.auth_challenge().is_some() => return Err(e),
                _ => {}
            }
        }
        Ok(())
    };
    let outcome = outcome.await;
    let _ = agent.cancel().await;
    Ok(outcome?)
}

fn lifecycle(scenario: &Scenario) -> ClientLifecycleMode {
    if is_initialized(scenario) {
        return ClientLifecycleMode::Initialize;
    }
    let mut preferred_versions: Vec<_> = ProtocolVersion::KNOWN_VERSIONS.to_vec();
    preferred_versions.reverse();
    preferred_versions.sort_by_key(|version| version.as_str() != scenario.version);
    ClientLifecycleMode::Discover { preferred_versions }
}

/// Revisions from 2026-07-28 have no `initialize`.
fn is_initialized(scenario: &Scenario) -> bool {
    // The server of one scenario supports nothing else, in any revision.
    scenario.version.as_str() < "2026-07-28" || scenario.name == "json-schema-ref-no-deref"
}

/// The calls that the suite asks for; each tool once if it asks for none.
fn calls(scenario: &Scenario, tools: &[Tool]) -> Vec<CallToolRequestParams> {
    let wanted = &scenario.context.tool_calls;
    if wanted.is_empty() {
        return tools
            .iter()
            .map(|tool| call(&tool.name, arguments(tool, tools)))
            .collect();
    }
    wanted
        .iter()
        .map(|wanted| call(&wanted.name, wanted.arguments.clone()))
        .collect()
}

fn call(name: &str, arguments: Option<Map<String, Value>>) -> CallToolRequestParams {
    let call = CallToolRequestParams::new(name.to_owned());
    match arguments {
        Some(arguments) => call.with_arguments(arguments),
        None => call,
    }
}

/// A value of the right type for each required argument. One of the suite's tools expects the
/// schema of another tool as the client received it.
fn arguments(tool: &Tool, tools: &[Tool]) -> Option<Map<String, Value>> {
    let required = tool.input_schema.get("required")?.as_array()?;
    let given = required
        .iter()
        .filter_map(Value::as_str)
        .filter_map(|name| {
            let value = match tool.input_schema["properties"][name]["type"].as_str() {
                Some("number" | "integer") => json!(1),
                Some("boolean") => json!(true),
                Some("array") => json!([]),
                Some("object") if name == "schema" => {
                    json!(
                        tools
                            .iter()
                            .find(|other| other.name != tool.name)?
                            .input_schema
                    )
                }
                Some("object") => json!({}),
                _ => json!("text"),
            };
            Some((name.to_owned(), value))
        });
    Some(given.collect())
}

impl From<ClientInitializeError> for Failed {
    fn from(error: ClientInitializeError) -> Self {
        match error.auth_challenge() {
            Some(challenge) => Self::Unauthorized(challenge.to_owned()),
            None => Self::Otherwise(error.into()),
        }
    }
}

impl From<ServiceError> for Failed {
    fn from(error: ServiceError) -> Self {
        match error.auth_challenge() {
            Some(challenge) => Self::Unauthorized(challenge.to_owned()),
            None => Self::Otherwise(error.into()),
        }
    }
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Unauthorized(challenge) => {
                format!("the server wants authorization: {challenge}").into()
            }
            Failed::Otherwise(error) => error,
        }
    }
}
