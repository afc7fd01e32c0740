//! An MCP server that follows the protocol unless a script overrides a response, and the sessions
//! that are run with it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::response::Response;
use rmcp::model::{
    CallToolRequest, CallToolRequestParams, ClientRequest, ProtocolVersion, ServerNotification,
    SubscriptionFilter,
};
use rmcp::service::{
    ClientInitializeError, PeerRequestOptions, RoleClient, RunningService, ServiceError,
};
use rmcp::transport::common::client_side_sse::FixedInterval;
use rmcp::transport::streamable_http_client::{
    StreamableHttpClient, StreamableHttpClientTransport, StreamableHttpClientTransportConfig,
    StreamableHttpError,
};
use rmcp::{ClientLifecycleMode, ClientServiceExt};
use serde_json::{Value, json};

use super::Verdict;
use super::outcome::{ErrorText, of_error};
use crate::scripted::{JSON, Scripted, Seen, respond, soon};

/// How a session begins.
#[derive(Clone, Copy)]
pub(super) enum Lifecycle {
    /// `initialize`: 2025-11-25 and before.
    Initialize,
    /// `server/discover`: 2026-07-28.
    Discover,
    /// `server/discover`, and `initialize` if the server does not know it.
    Either,
}

/// What is done in a session.
#[derive(Clone, Copy)]
pub(super) enum Action {
    Nothing,
    Call,
    /// A call that is cancelled once the server has it.
    CallAndCancel,
    /// A subscription, until it has brought a notification.
    Listen,
    /// A call after the server has seen so many GETs, and a while for there to be more.
    CallAfterGets(usize),
    /// The same until there are more.
    CallUntilMoreGets(usize),
    /// A call that the server leaves unanswered, until it fails or the server has seen so many
    /// GETs.
    CallUntilGets(usize),
}

impl Action {
    /// The same for the stock client, if it asks for streams for as long as a session lasts.
    pub(super) fn of_one_that_goes_on(self, verdict: Verdict) -> Self {
        match (self, verdict) {
            (Self::CallAfterGets(count), Verdict::Better { .. }) => Self::CallUntilMoreGets(count),
            (other, _) => other,
        }
    }
}

/// The response to a request, by its name in the log; `None` for the response of the protocol.
pub(super) type Script = fn(&Seen, &str) -> Option<Response>;

pub(super) async fn server(script: Script) -> Scripted {
    let sessions = Arc::new(AtomicUsize::new(0));
    Scripted::start(move |seen| {
        script(seen, &name(seen)).unwrap_or_else(|| default_response(seen, &sessions))
    })
    .await
}

/// The response that the protocol demands.
pub(crate) fn default_response(seen: &Seen, sessions: &AtomicUsize) -> Response {
    let message: Value = serde_json::from_slice(&seen.body).unwrap_or_default();
    let reply = |result: Value| {
        json!({ "jsonrpc": "2.0", "id": message["id"], "result": result }).to_string()
    };
    match (
        seen.method.as_str(),
        message["method"].as_str().unwrap_or_default(),
    ) {
        ("GET", _) => respond(405, &[], ""),
        (_, "initialize") => {
            let session = format!("s{}", sessions.fetch_add(1, Ordering::SeqCst) + 1);
            let result = json!({
                "protocolVersion": "2025-11-25",
                "capabilities": { "tools": {} },
                "serverInfo": { "name": "scripted", "version": "1" },
            });
            respond(200, &[JSON, ("mcp-session-id", &session)], reply(result))
        }
        (_, "server/discover") => respond(
            200,
            &[JSON],
            reply(json!({
                "resultType": "complete", "supportedVersions": ["2026-07-28"], "ttlMs": 0, "cacheScope": "private",
                "capabilities": { "tools": { "listChanged": true } },
            })),
        ),
        (_, "tools/call") => respond(
            200,
            &[JSON],
            reply(json!({ "resultType": "complete", "content": [] })),
        ),
        (_, method) if method.starts_with("notifications/") => respond(202, &[], ""),
        _ => respond(200, &[], ""),
    }
}

/// The name of a request in the log: its method, its path if that is not the endpoint's, its
/// session, and the event after which it resumes.
fn name(seen: &Seen) -> String {
    let message: Value = serde_json::from_slice(&seen.body).unwrap_or_default();
    let method = message["method"].as_str().unwrap_or(seen.method.as_str());
    let path = Some(&seen.path)
        .filter(|path| *path != "/mcp")
        .cloned()
        .unwrap_or_default();
    let session = seen
        .header("mcp-session-id")
        .map(|id| format!(" {id}"))
        .unwrap_or_default();
    let event = seen
        .header("last-event-id")
        .map(|id| format!(" #{id}"))
        .unwrap_or_default();
    let named = match seen.header("mcp-name") {
        Some(name) => format!(" ({name})"),
        None => String::new(),
    };
    format!("{method}{named}{path}{session}{event}")
}

/// The requests that the server has seen, in order. GETs come last, because their time is not
/// fixed.
fn log(server: &Scripted) -> String {
    let seen = server.seen();
    let (gets, others): (Vec<&Seen>, Vec<&Seen>) =
        seen.iter().partition(|seen| seen.method == "GET");
    let mut counted: Vec<(String, usize)> = Vec::new();
    for name in others.into_iter().map(name) {
        match counted.last_mut().filter(|(last, _)| *last == name) {
            Some((_, times)) => *times += 1,
            None => counted.push((name, 1)),
        }
    }
    let mut names: Vec<_> = counted
        .into_iter()
        .map(|(name, times)| {
            if times > 1 {
                format!("{name} x{times}")
            } else {
                name
            }
        })
        .collect();
    // How often a stream is opened depends on timing.
    let mut gets: Vec<_> = gets.into_iter().map(name).collect();
    gets.dedup();
    names.extend(gets);
    names.join(", ")
}

/// Whether each session has requested its event stream.
fn every_session_has_its_stream(server: &Scripted) -> bool {
    let seen = server.seen();
    let sessions = |is_get: bool| {
        let of_kind = seen.iter().filter(|seen| (seen.method == "GET") == is_get);
        of_kind
            .filter_map(|seen| seen.header("mcp-session-id"))
            .collect::<BTreeSet<_>>()
    };
    sessions(false).is_subset(&sessions(true))
}

async fn until(condition: impl Fn() -> bool) {
    soon(async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Runs a session to its end. Returns its outcome and the requests that the server has seen.
pub(super) async fn run_session<C>(
    connect: impl FnOnce(StreamableHttpClientTransportConfig) -> StreamableHttpClientTransport<C>,
    server: &Scripted,
    lifecycle: Lifecycle,
    act: Action,
) -> String
where
    C: StreamableHttpClient<Error: ErrorText> + Sync,
{
    let mut config =
        StreamableHttpClientTransportConfig::with_uri(server.uri.clone()).max_sse_event_size(1000);
    let mut interval = FixedInterval::default();
    interval.duration = Duration::from_millis(1);
    config.retry_config = Arc::new(interval);
    let versions = vec![ProtocolVersion::V_2026_07_28];
    let lifecycle = match lifecycle {
        Lifecycle::Initialize => ClientLifecycleMode::Initialize,
        Lifecycle::Discover => ClientLifecycleMode::Discover {
            preferred_versions: versions,
        },
        Lifecycle::Either => ClientLifecycleMode::Auto {
            legacy_version: None,
            preferred_versions: versions,
        },
    };
    let outcome = match soon(().serve_with_lifecycle(connect(config), lifecycle)).await {
        Err(e) => format!("no session: {}", of_beginning::<C::Error>(&e)),
        Ok(agent) => {
            until(|| every_session_has_its_stream(server)).await;
            let outcome = run_action::<C::Error>(&agent, server, act).await;
            until(|| every_session_has_its_stream(server)).await;
            soon(agent.cancel()).await.unwrap();
            outcome
        }
    };
    format!("{outcome}; {}", log(server))
}

async fn run_action<E: ErrorText>(
    agent: &RunningService<RoleClient, ()>,
    server: &Scripted,
    act: Action,
) -> String {
    let call = || CallToolRequestParams::new("any");
    match act {
        Action::Nothing => "fine".to_owned(),
        Action::Call => of_call::<E>(soon(agent.call_tool(call())).await.map(drop)),
        Action::CallAndCancel => {
            let request = ClientRequest::CallToolRequest(CallToolRequest::new(call()));
            let has_call = || {
                server
                    .seen()
                    .iter()
                    .any(|seen| name(seen).starts_with("tools/call"))
            };
            let handle =
                soon(agent.send_cancellable_request(request, PeerRequestOptions::no_options()));
            let handle = handle.await.unwrap();
            until(has_call).await;
            soon(handle.cancel(None)).await.unwrap();
            // The next call shows that the cancellation was sent.
            of_call::<E>(soon(agent.call_tool(call())).await.map(drop))
        }
        Action::Listen => {
            let filter = SubscriptionFilter::builder().tools_list_changed().build();
            let mut subscription = soon(agent.listen(filter)).await.unwrap();
            let notified = matches!(
                soon(subscription.next()).await,
                Ok(Some(ServerNotification::ToolListChangedNotification(_)))
            );
            soon(subscription.cancel()).await.unwrap();
            format!("notified: {notified}")
        }
        Action::CallAfterGets(count) | Action::CallUntilMoreGets(count) => {
            until(|| server.gets() >= count).await;
            if matches!(act, Action::CallUntilMoreGets(_)) {
                until(|| server.gets() > count).await;
            }
            for _ in 0..20 {
                let called = of_call::<E>(soon(agent.call_tool(call())).await.map(drop));
                assert_eq!(called, "answered");
            }
            format!("{} GETs in all: {}", count, server.gets() == count)
        }
        Action::CallUntilGets(count) => {
            tokio::select! {
                called = soon(agent.call_tool(call())) => of_call::<E>(called.map(drop)),
                () = until(|| server.gets() >= count) => format!("unanswered after {count} GETs"),
            }
        }
    }
}

fn of_call<E: ErrorText>(result: Result<(), ServiceError>) -> String {
    match result {
        Ok(()) => "answered".to_owned(),
        Err(ServiceError::TransportSend(e)) => {
            match e.error.downcast_ref::<StreamableHttpError<E>>() {
                Some(e) => format!("failed: {}", of_error(e)),
                None => format!("failed: {e}"),
            }
        }
        Err(ServiceError::McpError(e)) => format!("failed: {}", e.message),
        Err(e) => format!("failed: {e}"),
    }
}

fn of_beginning<E: ErrorText>(error: &ClientInitializeError) -> String {
    match error {
        ClientInitializeError::TransportError { error, .. } => {
            match error.error.downcast_ref::<StreamableHttpError<E>>() {
                Some(e) => of_error(e),
                None => error.to_string(),
            }
        }
        other => other.to_string(),
    }
}
