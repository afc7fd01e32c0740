//! GOAWAY costs nothing that it need not (CL-7; RFC 9113 §6.8): what the server did not take on is
//! sent again, what it took on is answered, and only what it took on and then dropped may have been
//! processed.

#![allow(
    clippy::print_stdout,
    reason = "what a run came to, for those who look"
)]

mod support;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bowline_client::{CloseReason, ErrorKind, Limits};
use bowline_testkit::peers::{Counts, CyclingOptions, H2Wire};
use bowline_testkit::tls::{Alpn, ClientAuth, TlsOptions};
use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::{BodyExt, Full};
use support::gate::soon;
use support::raw::RawServer;
use support::{Lab, post, text};

const TASKS: u64 = 200;
const RETIREMENTS: u64 = 100;

/// Not one of the requests is idempotent, so one that is sent again is one that was proved to be
/// unprocessed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_graceful_retirements_cost_none_of_the_requests_that_they_meet() {
    let lab = Lab::new();
    let server = lab.server(CyclingOptions {
        alpn: Alpn::Http2,
        ..CyclingOptions::default()
    });
    let (client, token) = (lab.client(), lab.token("a"));
    let (done, under_way, met) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));

    let calls = join_all((0..TASKS).map(|task| {
        let (client, token, url, under_way, done) =
            (&client, &token, server.origin(), &under_way, &done);
        async move {
            let mut n = 0;
            while !done.load(Ordering::Relaxed) {
                let payload = format!("{task}/{n}");
                let request = http::Request::post(format!("{url}/{payload}"))
                    .extension(token.clone())
                    .body(Full::new(Bytes::from(payload.clone())))
                    .unwrap();
                under_way.fetch_add(1, Ordering::Relaxed);
                let response = client.send(request).await.expect("no request is lost");
                under_way.fetch_sub(1, Ordering::Relaxed);
                assert_eq!(response.status(), 200);
                let body = response
                    .into_body()
                    .collect()
                    .await
                    .expect("nor its answer");
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
            met.fetch_add(under_way.load(Ordering::Relaxed), Ordering::Relaxed);
            server.retire_all();
        }
        done.store(true, Ordering::Relaxed);
    };
    let (calls, ()) = tokio::join!(calls, retirements);

    let requests: u64 = calls.into_iter().sum();
    // The last end may still be on its way.
    while client.stats().connections_closed.values().sum::<u64>() < RETIREMENTS {
        tokio::task::yield_now().await;
    }
    let (stats, met) = (client.stats(), met.load(Ordering::Relaxed));
    println!(
        "{requests} requests, {met} under way at {RETIREMENTS} retirements; {} connections, {} signatures, closed {:?}",
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
    for seen in lab.record.all() {
        assert!(ran.insert(seen.path.clone()), "{} ran twice", seen.path);
    }
    assert_eq!(ran.len() as u64, requests);
    assert!(met >= 10_000, "too few were under way to show anything");
    assert_eq!(stats.connections_closed[&CloseReason::Goaway], RETIREMENTS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_above_goaways_last_id_is_sent_again_and_one_below_may_have_been_processed() {
    let lab = Lab::new();
    let tls =
        TlsOptions::alpn(Alpn::Http2).server(&lab.pki, &lab.pki.localhost(), ClientAuth::Required);
    let server = RawServer::bind(tls).await;
    // One connection at a time, so that the second request has no other way than beside the first.
    let limits = Limits {
        per_origin: 1,
        ..Limits::default()
    };
    let client = Arc::new(lab.builder().limits(limits).build().unwrap());
    let (url, token) = (server.origin(), lab.token("a"));
    let call = |body: &'static str| {
        let (client, url, token) = (client.clone(), url.clone(), token.clone());
        tokio::spawn(async move { post(&client, &url, &token, body).await })
    };

    let taken_on = call("taken on");
    let mut first = H2Wire::accept(server.accept().await.0).await.unwrap();
    let last = first.request().await.unwrap();
    let above = call("not taken on");
    assert!(first.request().await.unwrap() > last);
    first.goaway(last).await.unwrap();

    let mut second = H2Wire::accept(soon(server.accept()).await.0).await.unwrap();
    let stream = second.request().await.unwrap();
    second.answer(stream, false).await.unwrap();
    let answer = soon(above).await.unwrap().expect("it was sent again");
    assert_eq!(text(answer).await, "");

    assert!(!taken_on.is_finished(), "the server may still answer it");
    drop(first);
    let error = soon(taken_on).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MayHaveBeenProcessed, "{error}");
    let totals = client.stats().totals;
    assert_eq!((totals.answered, totals.may_have_been_processed), (1, 1));
    assert_eq!(totals.signatures(), 2, "one for each connection");
}
