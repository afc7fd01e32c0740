//! Calls with request-bound proofs: chosen by method, by tool, or because the tool may be
//! destructive.

use bowline_http_client::{Client, HttpVersions, ProofKind};
use bowline_mcp::{RequestBoundCalls, StreamableHttp};
use bowline_server::RequireRequestBound;
use rmcp::model::{CallToolRequestParams, ProtocolVersion};
use rmcp::service::{RoleClient, RunningService};
use rmcp::transport::streamable_http_server::StreamableHttpServerConfig;
use rmcp::{ClientLifecycleMode, ClientServiceExt, ServiceExt};

use crate::fixture::{Fixture, echo};
use crate::scripted::soon;

/// How many request-bound proofs were signed.
fn request_bound(client: &Client) -> u64 {
    let minted = client.stats().totals.minted;
    minted.get(&ProofKind::Request).copied().unwrap_or(0)
}

/// Calls both tools, and counts their request-bound proofs. `echo` is listed as read-only,
/// `announce` without annotations.
async fn echo_announce(agent: &RunningService<RoleClient, ()>, client: &Client) -> [u64; 2] {
    let mut signed = [0; 2];
    for (count, call) in signed
        .iter_mut()
        .zip([echo("ahoy"), CallToolRequestParams::new("announce")])
    {
        let before = request_bound(client);
        soon(agent.call_tool(call)).await.unwrap();
        *count = request_bound(client) - before;
    }
    signed
}

#[tokio::test]
async fn a_tool_counts_as_destructive_until_it_is_listed_as_non_destructive() {
    for in_json in [false, true] {
        let config = StreamableHttpServerConfig::default().with_json_response(in_json);
        let fixture = Fixture::open_configured(config, |routes| routes, |layer| layer);
        let client = fixture.client(HttpVersions::Http2);
        let transport = StreamableHttp::new(client.clone())
            .token(fixture.token())
            .request_bound_calls(RequestBoundCalls::none().for_destructive())
            .transport(fixture.uri());
        // In 2026-07-28 rmcp's server can be configured to respond in JSON, in 2025-11-25 it sends
        // events.
        let lifecycle = ClientLifecycleMode::Discover {
            preferred_versions: vec![ProtocolVersion::V_2026_07_28],
        };
        let agent = soon(().serve_with_lifecycle(transport, lifecycle))
            .await
            .unwrap();
        assert_eq!(
            echo_announce(&agent, &client).await,
            [1, 1],
            "nothing is listed yet"
        );
        soon(agent.list_all_tools()).await.unwrap();
        assert_eq!(
            echo_announce(&agent, &client).await,
            [0, 1],
            "in JSON: {in_json}"
        );
        assert_eq!(client.stats().totals.refused, 0);
    }
}

#[tokio::test]
async fn hints_are_learned_from_event_streams_too() {
    let fixture = Fixture::open();
    let client = fixture.client(HttpVersions::Http1);
    let transport = StreamableHttp::new(client.clone())
        .token(fixture.token())
        .request_bound_calls(RequestBoundCalls::none().for_destructive())
        .transport(fixture.uri());
    let agent = soon(().serve(transport)).await.unwrap();
    soon(agent.list_all_tools()).await.unwrap();
    assert_eq!(echo_announce(&agent, &client).await, [0, 1]);
}

#[tokio::test]
async fn a_server_that_demands_proofs_for_some_calls_gets_them_by_method_or_by_tool() {
    for claims in [
        RequestBoundCalls::none().for_method("tools/call"),
        RequestBoundCalls::none()
            .for_target("tools/call", "announce")
            .for_target("tools/call", "echo"),
    ] {
        // 2026-07-28 has the method in a header.
        let demanded = RequireRequestBound::when(|head| {
            head.headers
                .get("mcp-method")
                .is_some_and(|m| m == "tools/call")
        });
        let fixture = Fixture::open_with(
            |routes| routes,
            |layer| layer.require_request_bound(demanded),
        );
        let lifecycle = || ClientLifecycleMode::Discover {
            preferred_versions: vec![ProtocolVersion::V_2026_07_28],
        };
        let client = fixture.client(HttpVersions::Http2);
        let http = StreamableHttp::new(client.clone()).token(fixture.token());

        let plain = http.clone().transport(fixture.uri());
        let agent = soon(().serve_with_lifecycle(plain, lifecycle()))
            .await
            .unwrap();
        assert!(
            soon(agent.call_tool(echo("ahoy"))).await.is_err(),
            "it is refused by RS-12"
        );
        assert_eq!(request_bound(&client), 0);

        let transport = http.request_bound_calls(claims).transport(fixture.uri());
        let agent = soon(().serve_with_lifecycle(transport, lifecycle()))
            .await
            .unwrap();
        soon(agent.list_all_tools()).await.unwrap();
        assert_eq!(request_bound(&client), 0);
        assert_eq!(echo_announce(&agent, &client).await, [1, 1]);
    }
}
