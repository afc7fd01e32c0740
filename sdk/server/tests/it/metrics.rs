//! Every event becomes a metric, with labels from fixed sets.

use std::collections::BTreeMap;
use std::time::Duration;

use bowline_server::metrics::MetricsObserver;
use bowline_server::{
    AcceptPolicy, Acceptor, ClientAuth, Limit, Listener, OwnerClass, ServerEvent, ServerObserver,
};
use http::Request;
use http_body_util::Empty;
use metrics_util::MetricKind;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::fixture::*;

/// Counters so far, as `name{label=value,…}`; of histograms, how many values.
fn counted(snapshotter: &Snapshotter, sums: &mut BTreeMap<String, u64>) {
    for (key, _, _, value) in snapshotter.snapshot().into_vec() {
        let (kind, key) = key.into_parts();
        let labels: Vec<_> = key
            .labels()
            .map(|label| format!("{}={}", label.key(), label.value()))
            .collect();
        let name = format!(
            "{}{{{}}}",
            key.name().strip_prefix("bowline_server_").unwrap(),
            labels.join(",")
        );
        let count = match (kind, value) {
            (MetricKind::Counter, DebugValue::Counter(count)) => count,
            (MetricKind::Histogram, DebugValue::Histogram(values)) => values.len() as u64,
            other => panic!("{name}: {other:?}"),
        };
        // A snapshot resets the counters that it returns.
        *sums.entry(name).or_default() += count;
    }
}

#[tokio::test]
async fn every_event_becomes_a_metric() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    // Everything runs on this thread.
    let _recorded = metrics::set_default_local_recorder(&recorder);

    let fixture = Fixture::new();
    let acceptor = |handshake_timeout| {
        let tls = fixture
            .tls_with(ClientAuth::Optional(fixture.ca.roots().into()))
            .build()
            .unwrap();
        Acceptor::new(tls)
            .handshake_timeout(handshake_timeout)
            .observer(MetricsObserver)
    };
    let listener = Listener::bind("127.0.0.1:0", acceptor(HANG)).await.unwrap();
    let layer = fixture
        .layer()
        .policy(AcceptPolicy::Follow)
        .observer(MetricsObserver);
    let reloader = layer.reloader();
    let server = TestServer::start(listener, binding_report().layer(layer), fixture.options());

    let (token, key) = (fixture.token(), fixture.agent.proof_key());
    let config = fixture.client("h2");
    let mut connection = HttpConnection::connect(server.addr, &config).await;
    let proof = connection.proof(&key, &token);
    for _ in 0..3 {
        connection.assert_passes(&token, &proof).await;
    }
    connection
        .get("/", &fixture.authority.bearer(), None)
        .await
        .assert_passed("bearer");
    connection.assert_refused(&token, None, "RS-4").await;
    let mut resumed = HttpConnection::connect(server.addr, &config).await;
    assert!(resumed.resumed);
    resumed.assert_refused(&token, Some(&proof), "RS-6").await;
    reloader.reload(|layer| layer.observe(true)).unwrap();
    connection
        .get("/", &token, Some(&proof))
        .await
        .assert_passed("session");
    resumed
        .get("/", &token, Some(&proof))
        .await
        .assert_passed("none");
    let mut other = HttpConnection::connect(server.addr, &fixture.client("http/1.1")).await;
    let request = Request::get("/").body(Empty::new()).unwrap();
    assert_eq!(other.send(request).await.unwrap().status, 401);

    // One peer sends garbage, and one is silent.
    let short_timeout = Listener::bind("127.0.0.1:0", acceptor(Duration::from_millis(100)))
        .await
        .unwrap();
    let silent = TcpStream::connect(short_timeout.local_addr())
        .await
        .unwrap();
    let mut garbage = TcpStream::connect(server.addr).await.unwrap();
    garbage.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut sums = BTreeMap::new();
    let count =
        |sums: &BTreeMap<String, u64>, name: &str| sums.get(name).copied().unwrap_or_default();
    let both_failed = async {
        while count(&sums, "handshakes_failed_total{kind=timed_out}") == 0
            || count(&sums, "handshakes_failed_total{kind=tls}") == 0
        {
            counted(&snapshotter, &mut sums);
            tokio::task::yield_now().await;
        }
    };
    within(both_failed).await;
    // Which limits are reached when is shown elsewhere.
    MetricsObserver.observe(&ServerEvent::LimitReached {
        limit: Limit::Evicted,
        holder: OwnerClass::SpiffeId,
    });
    drop((garbage, silent, connection, resumed, other));
    server.stop().await;
    counted(&snapshotter, &mut sums);

    let closed: u64 = sums
        .iter()
        .filter(|(name, _)| name.starts_with("connections_closed_total{reason="))
        .map(|(_, count)| count)
        .sum();
    assert_eq!(closed, 3, "{sums:?}");
    sums.retain(|name, _| !name.starts_with("connections_closed_total"));
    let expected = [
        ("connections_opened_total{http=h1,tls=full}", 1),
        ("connections_opened_total{http=h2,tls=full}", 1),
        ("connections_opened_total{http=h2,tls=resumed}", 1),
        ("handshake_seconds{}", 3),
        ("handshakes_failed_total{kind=timed_out}", 1),
        ("handshakes_failed_total{kind=tls}", 1),
        ("limits_reached_total{limit=evicted,holder=spiffe_id}", 1),
        ("observed_total{outcome=held,check=none,id=none}", 1),
        (
            "observed_total{outcome=proof_failed,check=exporter,id=RS-6}",
            1,
        ),
        ("refusals_total{check=exporter,id=RS-6}", 1),
        ("refusals_total{check=no_token,id=RS-10}", 1),
        ("refusals_total{check=proof_missing,id=RS-4}", 1),
        (
            "verifications_total{class=bearer,marked=false,proof=none}",
            1,
        ),
        (
            "verifications_total{class=session,marked=true,proof=cached}",
            2,
        ),
        ("verifications_total{class=none,marked=false,proof=none}", 1),
        (
            "verifications_total{class=session,marked=true,proof=full}",
            2,
        ),
    ];
    let expected: BTreeMap<_, _> = expected
        .map(|(name, count)| (name.to_owned(), count))
        .into();
    assert_eq!(sums, expected);
}
