//! Bounds under load, on a small scale; `cargo bench -p bowline-server --bench load` is the large
//! one.
//!
//! A binary of its own, because it measures the resident memory of its process and raises the
//! process's limit of open files. It has one test, so that nothing else runs meanwhile.

#![allow(
    clippy::print_stdout,
    reason = "the figures are what a reader wants to see"
)]

#[allow(dead_code)]
#[path = "../it/authority.rs"]
mod authority;
mod crowd;
#[allow(dead_code)]
#[path = "../it/fixture.rs"]
mod fixture;
#[allow(dead_code)]
#[path = "../it/pki.rs"]
mod pki;
#[allow(dead_code)]
mod scenario;

use bowline_server::Limit;
use crowd::Regulars;
use fixture::{Fixture, within};
use scenario::{Abuse, HonestClient, all_over, over, resident_kib};

/// The limit for the growth of resident memory, in KiB: four times the measured growth.
const MAX_KIB: u64 = 64 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn honest_clients_are_served_and_memory_is_bounded_under_a_thousand_idle_or_slow_peers_and_many_tokens_and_jti()
 {
    scenario::need_files(3_000);
    let fixture = Fixture::new();
    let (server, seen) = scenario::start(&fixture, 2_000).await;
    let honest = HonestClient::start(&fixture, server.addr);
    within(honest.is_served(1)).await;
    let start = resident_kib();
    let report = |phase: &str, honest: &HonestClient| {
        println!("load.{phase}.resident_kib {:?}", resident_kib());
        println!("load.{phase}.honest_slowest_ms {}", honest.slowest());
        if let (Some(start), Some(now)) = (start, resident_kib()) {
            assert!(
                now.saturating_sub(start) < MAX_KIB,
                "{phase}: from {start} to {now} KiB"
            );
        }
    };
    report("start", &honest);
    for (kind, number) in [
        (Abuse::Silent, 1_000),
        (Abuse::Slow, 1_000),
        (Abuse::Idle, 300),
    ] {
        let before = over(&seen);
        let peers = kind.begin(number, server.addr, &fixture.client("h2")).await;
        within(honest.is_served(10)).await;
        report(kind.name(), &honest);
        drop(peers);
        within(all_over(&seen, before, number)).await;
    }
    scenario::distinct_tokens(&fixture, server.addr, 5_000, || report("tokens", &honest)).await;
    within(honest.is_served(1)).await;
    scenario::distinct_jti(&fixture, server.addr, 10_000, || report("jti", &honest)).await;
    within(honest.is_served(1)).await;
    scenario::distinct_dpop_jti(&fixture, server.addr, 2_000).await;
    within(honest.is_served(10)).await;
    report("dpop_jti", &honest);
    println!("load.honest_served {}", honest.stop().await);
    within(server.stop()).await;
    crowds(&fixture).await;
}

/// A thousand places, more peers than that, and regular clients beside them.
async fn crowds(fixture: &Fixture) {
    const PLACES: usize = 1_000;
    let thief = fixture.ca.client("thief");
    let versions = rustls::ALL_VERSIONS;
    for (kind, client) in [
        (
            Abuse::Stranger,
            fixture.client_as(None, "http/1.1", versions),
        ),
        (
            Abuse::Stream,
            fixture.client_as(Some(&thief), "http/1.1", versions),
        ),
    ] {
        let (server, reached) = crowd::start(fixture, PLACES).await;
        let regulars = Regulars::start(fixture, server.addr, 5).await;
        within(crowd::arrive_at_once(fixture, server.addr, 50)).await;
        within(regulars.are_served(5)).await;
        println!("load.{}.alone_p99_us {}", kind.name(), regulars.p99_us());
        let peers = kind.begin(PLACES + 100, server.addr, &client).await;
        within(regulars.are_served(10)).await;
        println!("load.{}.beside_p99_us {}", kind.name(), regulars.p99_us());
        println!(
            "load.{}.connections {}",
            kind.name(),
            peers.connections.len()
        );
        assert!(reached.count(Limit::HandshakeRate) > 0, "{kind:?}");
        println!(
            "load.{}.regulars_served {}",
            kind.name(),
            regulars.stop().await
        );
        drop(peers);
        within(server.stop()).await;
    }
}
