//! rmcp's client on this transport, rmcp's server behind `BindingLayer`, mutual TLS between them.

use axum::Router;
use axum::routing::any;
use bowline_http_client::{Cause, Client, HttpVersions, Operation, Snapshot};
use bowline_mcp::{Error, ErrorKind, StreamableHttp, operation, transport};
use bowline_testkit::authority::TokenRequest;
use bowline_testkit::peers::{CyclingOptions, CyclingServer};
use bowline_testkit::pki::{KeyKind, Pki};
use rmcp::model::{CallToolRequestParams, ProtocolVersion};
use rmcp::service::ClientInitializeError;
use rmcp::transport::streamable_http_client::{
    StreamableHttpClientTransportConfig, StreamableHttpError,
};
use rmcp::{ClientLifecycleMode, ClientServiceExt, ServiceExt};
use tokio::sync::mpsc;

use crate::fixture::{Fixture, Listening, call_echo, client, echo};
use crate::scripted::{respond, soon};

const VERSIONS: [HttpVersions; 2] = [HttpVersions::Http2, HttpVersions::Http1];

fn requests(stats: &Snapshot, operation: Operation) -> u64 {
    stats
        .operations
        .get(&operation)
        .map_or(0, |row| row.answered)
}

fn causes(client: &Client) -> Vec<(Cause, u64)> {
    client.stats().totals.causes.into_iter().collect()
}

/// The event stream is opened in the background.
async fn event_stream_is_open(client: &Client) {
    soon(async {
        while requests(&client.stats(), operation::EVENT_STREAM) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_session_from_initialize_to_delete_works_over_either_version_of_http() {
    for http in VERSIONS {
        let fixture = Fixture::open();
        let client = fixture.client(http);
        let agent = fixture.agent(&client).await;
        event_stream_is_open(&client).await;
        let mut tools: Vec<_> = soon(agent.list_all_tools())
            .await
            .unwrap()
            .into_iter()
            .map(|tool| tool.name)
            .collect();
        tools.sort();
        assert_eq!(tools, ["announce", "echo"]);
        let result = soon(agent.call_tool(echo("ahoy"))).await.unwrap();
        assert_eq!(result.content[0].as_text().unwrap().text, "ahoy");
        soon(agent.cancel()).await.unwrap();

        let stats = client.stats();
        for method in [
            "initialize",
            "notifications/initialized",
            "tools/list",
            "tools/call",
        ] {
            assert_eq!(
                requests(&stats, operation::for_method(method)),
                1,
                "{method} over {http:?}"
            );
        }
        assert_eq!(requests(&stats, operation::EVENT_STREAM), 1);
        assert_eq!(requests(&stats, operation::SESSION_END), 1);
        assert_eq!(stats.operations.len(), 6);
        assert_eq!(
            stats.totals.with_proof, stats.totals.requests,
            "each carried a proof"
        );
        assert_eq!(stats.totals.refused, 0);
        let is_h2 = fixture.server.counts().connections[0].h2;
        assert_eq!(is_h2, http == HttpVersions::Http2);
    }
}

#[tokio::test]
async fn a_hundred_calls_over_h2_take_one_connection_and_one_signature() {
    let fixture = Fixture::open();
    let client = fixture.client(HttpVersions::Http2);
    let agent = fixture.agent(&client).await;
    event_stream_is_open(&client).await;
    call_echo(&agent, 100).await;
    let stats = client.stats();
    assert_eq!(requests(&stats, operation::for_method("tools/call")), 100);
    assert_eq!(stats.connections_opened, 1);
    assert_eq!(stats.totals.signatures(), 1);
    assert_eq!(causes(&client), [(Cause::First, 1)]);
    assert_eq!(fixture.server.counts().opened, 1);
}

#[tokio::test]
async fn a_hundred_calls_at_once_over_h2_take_one_connection_and_one_signature() {
    let fixture = Fixture::open();
    let client = fixture.client(HttpVersions::Http2);
    let agent = fixture.agent(&client).await;
    let calls = (0..100).map(|call| {
        let agent = &agent;
        async move { agent.call_tool(echo(&call.to_string())).await.unwrap() }
    });
    soon(futures_util::future::join_all(calls)).await;
    assert_eq!(client.stats().connections_opened, 1);
    assert_eq!(client.stats().totals.signatures(), 1);
}

#[tokio::test]
async fn over_h1_the_event_stream_needs_a_connection_and_a_proof_of_its_own() {
    let fixture = Fixture::open();
    let client = fixture.client(HttpVersions::Http1);
    let agent = fixture.agent(&client).await;
    event_stream_is_open(&client).await;
    call_echo(&agent, 100).await;
    assert_eq!(client.stats().connections_opened, 2);
    assert_eq!(causes(&client), [(Cause::First, 1), (Cause::Parallel, 1)]);
    assert_eq!(fixture.server.counts().opened, 2);
}

#[tokio::test]
async fn a_notification_of_the_server_arrives_on_the_event_stream() {
    for http in VERSIONS {
        let fixture = Fixture::open();
        let client = fixture.client(http);
        let (sender, mut notifications) = mpsc::unbounded_channel();
        let agent = soon(Listening(sender).serve(transport(
            client.clone(),
            fixture.uri(),
            fixture.token(),
        )))
        .await
        .unwrap();
        event_stream_is_open(&client).await;
        let result = soon(agent.call_tool(CallToolRequestParams::new("announce")))
            .await
            .unwrap();
        assert_eq!(result.content[0].as_text().unwrap().text, "announced");
        soon(notifications.recv()).await.unwrap();
        assert_eq!(requests(&client.stats(), operation::EVENT_STREAM), 1);
    }
}

#[tokio::test]
async fn the_stateless_revision_needs_no_event_stream_and_no_second_proof() {
    for http in VERSIONS {
        let fixture = Fixture::open();
        let client = fixture.client(http);
        let lifecycle = ClientLifecycleMode::Discover {
            preferred_versions: vec![ProtocolVersion::V_2026_07_28],
        };
        let transport = transport(client.clone(), fixture.uri(), fixture.token());
        let agent = soon(().serve_with_lifecycle(transport, lifecycle))
            .await
            .unwrap();
        call_echo(&agent, 10).await;
        let stats = client.stats();
        assert_eq!(
            requests(&stats, operation::for_method("server/discover")),
            1
        );
        assert_eq!(requests(&stats, operation::for_method("tools/call")), 10);
        assert_eq!(requests(&stats, operation::EVENT_STREAM), 0);
        assert_eq!(stats.totals.signatures(), stats.connections_opened);
    }
}

#[tokio::test]
async fn the_token_of_rmcp_s_auth_header_is_bound_too() {
    let fixture = Fixture::open();
    let client = fixture.client(HttpVersions::Http2);
    let config = StreamableHttpClientTransportConfig::with_uri(fixture.uri())
        .auth_header(fixture.token().secret());
    let agent = soon(().serve(StreamableHttp::new(client.clone()).transport_with(config)))
        .await
        .unwrap();
    soon(agent.call_tool(echo("ahoy"))).await.unwrap();
    assert_eq!(causes(&client), [(Cause::First, 1)]);
}

pub(crate) fn failure(
    result: Result<impl Sized, ClientInitializeError>,
) -> StreamableHttpError<Error> {
    match result.map(drop) {
        Err(ClientInitializeError::TransportError { error, .. }) => {
            *error.error.downcast().expect("our transport's error")
        }
        other => panic!("expected an error of the transport, got {other:?}"),
    }
}

#[tokio::test]
async fn a_token_that_the_server_refuses_asks_for_authorization() {
    let fixture = Fixture::open();
    let token = fixture.issue(&TokenRequest::bearer("agent"));
    let result = soon(().serve(transport(
        fixture.client(HttpVersions::Auto),
        fixture.uri(),
        token,
    )))
    .await;
    match failure(result) {
        StreamableHttpError::AuthRequired(e) => {
            assert!(e.www_authenticate_header.contains("RS-13"), "{e}")
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_proof_refused_again_is_binding_refused_and_not_auth_required() {
    let challenge = r#"Bearer error="invalid_proof", error_description="RS-8""#;
    let refusing = Router::new().fallback(any(move || async move {
        let date = "Fri, 31 Dec 2027 23:59:59 GMT";
        respond(401, &[("www-authenticate", challenge), ("date", date)], "")
    }));
    let pki = Pki::new();
    let server = CyclingServer::start(&pki, CyclingOptions::default(), refusing);
    let fixture = Fixture::open();
    let agent = pki.client("agent", KeyKind::P256);
    let token = fixture.issue(&TokenRequest::session_bound("agent", agent.thumbprint()));
    let client = client(&pki, &agent, HttpVersions::Auto);
    let result = soon(().serve(transport(
        client.clone(),
        format!("{}/mcp", server.origin()),
        token,
    )))
    .await;
    match failure(result) {
        StreamableHttpError::Client(e) => {
            assert_eq!(e.kind(), ErrorKind::BindingRefused);
            let text = e.to_string();
            assert!(
                text.contains("invalid_proof") && text.contains(&agent.thumbprint().to_string()),
                "{text}"
            );
            assert!(
                text.contains("terminates TLS") && text.contains("clock less ours"),
                "{text}"
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(
        client.stats().totals.signatures(),
        2,
        "one, and one that replaced it (CL-5)"
    );
}
