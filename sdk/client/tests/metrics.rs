//! The bridge to the `metrics` facade: dashboards depend on its names and labels.
//!
//! A binary of its own, because the test needs the metrics recorder of the process.

mod fixture;

use std::collections::BTreeSet;
use std::sync::Arc;

use bowline_http_client::metrics::MetricsObserver;
use bowline_http_client::{Observer, Operation, Protocol};
use bowline_testkit::peers::CyclingOptions;
use fixture::{Fixture, text};
use http_body_util::Empty;
use metrics_util::debugging::{DebugValue, DebuggingRecorder};

#[tokio::test]
async fn every_event_becomes_a_metric_with_labels_from_fixed_sets() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    // For the whole process: proofs are counted on the thread that signs them.
    recorder.install().unwrap();
    traffic().await;

    let mut seen = BTreeSet::new();
    let mut counters = std::collections::BTreeMap::new();
    for (key, _, _, value) in snapshotter.snapshot().into_vec() {
        let labels: BTreeSet<_> = key
            .key()
            .labels()
            .map(|l| format!("{}={}", l.key(), l.value()))
            .collect();
        let labels = labels.into_iter().collect::<Vec<_>>().join(",");
        let name = key.key().name().to_owned();
        if let DebugValue::Counter(count) = value {
            counters.insert(format!("{name}{{{labels}}}"), count);
        }
        seen.insert(name);
    }
    let expected = [
        "bowline_client_connections_opened_total{http=h2,tls=full}",
        "bowline_client_connections_closed_total{reason=peer_closed}",
        "bowline_client_proofs_minted_total{after=none,cause=first,kind=connection,protocol=mcp_http}",
        "bowline_client_requests_total{binding=session,connection=new,operation=tools/call,outcome=answered,protocol=mcp_http}",
    ];
    for counter in expected {
        assert_eq!(
            counters.get(counter),
            Some(&1),
            "{counter} in {counters:#?}"
        );
    }
    let reused = "bowline_client_requests_total{binding=session,connection=reused,operation=tools/call,outcome=answered,protocol=mcp_http}";
    assert_eq!(counters.get(reused), Some(&2), "{counters:#?}");
    assert_eq!(
        counters.get("bowline_client_proofs_reused_total{protocol=mcp_http}"),
        Some(&2)
    );
    for histogram in [
        "requests_per_connection",
        "requests_per_proof",
        "mint_seconds",
        "handshake_seconds",
    ] {
        assert!(
            seen.contains(&format!("bowline_client_{histogram}")),
            "{histogram} in {seen:?}"
        );
    }
}

async fn traffic() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    let observer: Arc<dyn Observer> = Arc::new(MetricsObserver);
    let client = fixture.builder().observer(observer).build().unwrap();
    for _ in 0..3 {
        let request = http::Request::get(server.origin())
            .extension(fixture.token("a"))
            .extension(Operation::new(Protocol::new("mcp_http"), "tools/call"))
            .body(Empty::new())
            .unwrap();
        text(client.send(request).await.unwrap()).await;
    }
    server.cut_all();
    while client.stats().connections_closed.is_empty() {
        tokio::task::yield_now().await;
    }
}
