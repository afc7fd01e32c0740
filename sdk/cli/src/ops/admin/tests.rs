use std::sync::Arc;

use http::header::HOST;
use http::{HeaderMap, HeaderValue};
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::time::Instant;

use super::stats::stats;
use super::{HEAD_TIMEOUT, Reach, Service, is_loopback_host, reach, serve};
use crate::ops::metric_names::{MetricNames, metric_names};
use crate::ops::status::Status;

#[test]
fn beyond_loopback_is_all_that_others_can_reach() {
    for (address, expected) in [
        ("127.0.0.1:9", Reach::Loopback { port: 9 }),
        ("127.9.9.9:9", Reach::Loopback { port: 9 }),
        ("[::1]:9", Reach::Loopback { port: 9 }),
        ("[::ffff:127.0.0.1]:9", Reach::Loopback { port: 9 }),
        ("0.0.0.0:9", Reach::Network),
        ("[::]:9", Reach::Network),
        ("192.0.2.1:9", Reach::Network),
    ] {
        assert_eq!(reach(address.parse().unwrap()), expected, "{address}");
    }
}

#[test]
fn the_host_is_loopback_with_the_port() {
    let accepted = |hosts: &[&str]| {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, HeaderValue::from_str(host).unwrap());
        }
        is_loopback_host(&headers, 9100)
    };
    for host in [
        "localhost:9100",
        "LOCALHOST:9100",
        "127.0.0.1:9100",
        "[::1]:9100",
    ] {
        assert!(accepted(&[host]), "{host}");
    }
    for host in [
        "",
        "localhost",
        "localhost:9101",
        "localhost.evil.example:9100",
        "evil.example:9100",
        "evil.example@localhost:9100",
        "127.0.0.2:9100",
        "localhost:9100, localhost:9100",
    ] {
        assert!(!accepted(&[host]), "{host}");
    }
    assert!(!accepted(&[]));
    assert!(!accepted(&["localhost:9100", "localhost:9100"]));
}

/// With a clock that goes on when nothing else happens.
#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_come_ends_the_connection() {
    const METRICS: MetricNames = metric_names!("admin_test");
    let whole = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for (sent, is_answered) in [
        ("", false),
        ("GET /healthz HTTP/1.1\r\nHost: l", false),
        (whole, true),
    ] {
        let service = Service {
            reach: Reach::Owner,
            status: Arc::new(Status::new(&METRICS)),
            metrics: PrometheusBuilder::new().build_recorder().handle(),
        };
        let (mut client, stream) = duplex(1024);
        let begun = Instant::now();
        client.write_all(sent.as_bytes()).await.unwrap();
        let serving = tokio::spawn(serve(stream, service));
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        serving.await.unwrap();
        assert_eq!(answer.starts_with("HTTP/1.1 200"), is_answered, "{answer}");
        let after = begun.elapsed();
        assert!(
            (HEAD_TIMEOUT..HEAD_TIMEOUT * 2).contains(&after),
            "{sent:?}: {after:?}"
        );
    }
}

#[test]
fn stats_are_the_metrics_in_json() {
    let text = "# TYPE a counter\na{b=\"c,\\\"d\\\\\",e=\"}\"} 3\na{b=\"f\"} 4\n\ng 0.5\n";
    assert_eq!(
        stats(json!({"ready": true}), text),
        json!({
            "ready": true,
            "metrics": {
                "a": [
                    {"labels": {"b": "c,\"d\\", "e": "}"}, "value": 3},
                    {"labels": {"b": "f"}, "value": 4},
                ],
                "g": [{"value": 0.5}],
            },
        })
    );
}
