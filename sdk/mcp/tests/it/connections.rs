//! How many connections ten tool calls take, compared with rmcp's stock client.

use bowline_http_client::HttpVersions;
use bowline_mcp::StreamableHttp;
use bowline_server::AcceptPolicy;
use bowline_testkit::authority::TokenRequest;
use rmcp::model::ProtocolVersion;
use rmcp::transport::streamable_http_client::{
    StreamableHttpClient, StreamableHttpClientTransport, StreamableHttpClientTransportConfig,
};
use rmcp::{ClientLifecycleMode, ClientServiceExt};

use crate::fixture::{Fixture, call_echo};
use crate::scripted::soon;

/// Makes ten calls, one after the other.
async fn ten_calls<C: StreamableHttpClient + Sync>(
    transport: StreamableHttpClientTransport<C>,
    modern: bool,
) {
    let lifecycle = if modern {
        ClientLifecycleMode::Discover {
            preferred_versions: vec![ProtocolVersion::V_2026_07_28],
        }
    } else {
        ClientLifecycleMode::Initialize
    };
    let agent = soon(().serve_with_lifecycle(transport, lifecycle))
        .await
        .unwrap();
    call_echo(&agent, 10).await;
    soon(agent.cancel()).await.unwrap();
}

/// rmcp's default client, which keeps no idle connection, with the certificates that are needed
/// here.
fn stock(fixture: &Fixture, http: HttpVersions) -> reqwest::Client {
    let pem = format!("{}{}", fixture.agent.key_pem(), fixture.agent.chain_pem());
    let builder = reqwest::Client::builder()
        .tls_certs_only([reqwest::Certificate::from_der(fixture.pki.ca_der()).unwrap()])
        .identity(reqwest::Identity::from_pem(pem.as_bytes()).unwrap())
        .no_proxy()
        .pool_max_idle_per_host(0);
    match http {
        HttpVersions::Http1 => builder.http1_only(),
        _ => builder,
    }
    .build()
    .unwrap()
}

#[tokio::test]
#[allow(
    clippy::print_stdout,
    reason = "figures to be read: cargo test -p bowline-mcp ten_tool -- --nocapture"
)]
async fn ten_tool_calls_take_one_connection_on_h2_and_two_on_h1_and_as_many_signatures() {
    for (revision, modern) in [("2025-11-25", false), ("2026-07-28", true)] {
        for (http, most) in [
            (HttpVersions::Http2, 1),
            (HttpVersions::Http1, if modern { 1 } else { 2 }),
        ] {
            let stock_fixture =
                Fixture::open_with(|routes| routes, |layer| layer.policy(AcceptPolicy::Follow));
            let token = stock_fixture.issue(&TokenRequest::bearer("agent"));
            let config = StreamableHttpClientTransportConfig::with_uri(stock_fixture.uri())
                .auth_header(token.secret());
            ten_calls(
                StreamableHttpClientTransport::with_client(stock(&stock_fixture, http), config),
                modern,
            )
            .await;

            let fixture = Fixture::open();
            let client = fixture.client(http);
            let transport = StreamableHttp::new(client.clone())
                .token(fixture.token())
                .transport(fixture.uri());
            ten_calls(transport, modern).await;

            let (stock, ours) = (
                stock_fixture.server.counts().opened,
                fixture.server.counts().opened,
            );
            let signatures = client.stats().totals.signatures();
            println!(
                "{revision} {http:?}: stock {stock} connections; bowline {ours}, {signatures} signatures"
            );
            assert!(ours <= most, "{revision} {http:?}: {ours}");
            assert_eq!(signatures, ours);
            assert!(stock > ours);
        }
    }
}
