//! GOAWAY loses no request that it need not (CL-7; RFC 9113 §6.8): a request that the server did
//! not process is sent again, and one that it accepted is answered.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bowline_http_client::CloseReason;
use bowline_testkit::peers::{Counts, CyclingOptions};
use bowline_testkit::tls::Alpn;
use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::{BodyExt, Full};

use crate::fixture::Fixture;

const TASKS: u64 = 200;
const RETIREMENTS: u64 = 100;

/// No request is idempotent, so a request that is sent again is known to be unprocessed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_graceful_retirements_lose_no_request_in_flight() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::alpn(Alpn::Http2));
    let (client, token) = (fixture.client(), fixture.token("a"));
    let (done, in_flight, met) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));

    let calls = join_all((0..TASKS).map(|task| {
        let (client, token, url, in_flight, done) =
            (&client, &token, server.origin(), &in_flight, &done);
        async move {
            let mut n = 0;
            while !done.load(Ordering::Relaxed) {
                let payload = format!("{task}/{n}");
                let request = http::Request::post(format!("{url}/{payload}"))
                    .extension(token.clone())
                    .body(Full::new(Bytes::from(payload.clone())))
                    .unwrap();
                in_flight.fetch_add(1, Ordering::Relaxed);
                let response = client.send(request).await.expect("no request is lost");
                in_flight.fetch_sub(1, Ordering::Relaxed);
                assert_eq!(response.status(), 200);
                let body = response
                    .into_body()
                    .collect()
                    .await
                    .expect("no response is lost");
                assert_eq!(body.to_bytes(), format!("ok:{payload}"));
                n += 1;
            }
            n
        }
    }));
    let retirements = async {
        for n in 1..=RETIREMENTS as usize {
            let is_in_use = |counts: &Counts| {
                counts
                    .connections
                    .get(n - 1)
                    .is_some_and(|c| c.requests >= 20)
            };
            server.until("the next connection in use", is_in_use).await;
            met.fetch_add(in_flight.load(Ordering::Relaxed), Ordering::Relaxed);
            server.retire_all();
        }
        done.store(true, Ordering::Relaxed);
    };
    let (calls, ()) = tokio::join!(calls, retirements);

    let requests: u64 = calls.into_iter().sum();
    // The client may not yet have noticed the last end.
    while client.stats().connections_closed.values().sum::<u64>() < RETIREMENTS {
        tokio::task::yield_now().await;
    }
    let (stats, met) = (client.stats(), met.load(Ordering::Relaxed));
    println!(
        "{requests} requests, {met} in flight at {RETIREMENTS} retirements; {} connections, \
         {} signatures, closed {:?}",
        stats.connections_opened,
        stats.totals.signatures(),
        stats.connections_closed,
    );
    assert_eq!(stats.totals.answered, requests);
    assert_eq!(
        (stats.totals.failed, stats.totals.may_have_been_processed),
        (0, 0)
    );
    assert_eq!(stats.totals.refused, 0);
    let mut ran = HashSet::new();
    for seen in fixture.requests.all() {
        assert!(ran.insert(seen.path.clone()), "{} ran twice", seen.path);
    }
    assert_eq!(ran.len() as u64, requests);
    assert!(met >= 10_000, "too few were in flight to show anything");
    assert_eq!(stats.connections_closed[&CloseReason::Goaway], RETIREMENTS);
}
