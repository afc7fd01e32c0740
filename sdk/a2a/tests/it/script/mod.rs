//! The same script of calls, all twelve methods of `a2a_client::Transport`, over the three
//! bindings: what the stock transports get over plain HTTP, and what ours get over TLS with proofs.
//!
//! Read the table with `cargo test -p bowline-a2a --test it script -- --nocapture`; `python.rs` has
//! the Python agent besides.

#![allow(clippy::print_stdout, reason = "the table is there to be read")]

pub(crate) mod compare;
pub(crate) mod expected;
pub(crate) mod fixture;
mod row;
mod run;

use bowline_http_client::HttpVersions;
use bowline_testkit::a2a::{Echo, agent, card};
use bowline_testkit::peers::PlainServer;

use compare::{BINDINGS, ScriptRun, assert_as_good, assert_expected, differences, table};
use expected::{BETTER, EXCEPTIONS, EXPECTED};
use fixture::{Fixture, all_rows, ours, rows, stock};

/// The official agent behind `BindingLayer`, to ours, as the official agent in plain HTTP to the
/// stock transports.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ours_get_over_tls_what_the_stock_transports_get_over_plain_http() {
    let runs = official().await;
    let exceptions: Vec<_> = EXCEPTIONS.iter().chain(BETTER).collect();
    println!("{}", table(&[&runs], &exceptions));
    runs.check(BETTER);
}

/// HTTP/1.1 has a connection for each request under way; the answers are the same. (gRPC demands
/// HTTP/2.)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ours_get_the_same_over_http1() {
    let plain = PlainServer::start_with(|origin| agent(Echo::default(), card(origin)));
    let fixture = Fixture::open(|origin| agent(Echo::default(), card(origin)));
    let client = fixture.client(HttpVersions::Http1);
    let (stock, ours) = (stock(), ours(&fixture, &client));
    for at in [0, 1] {
        let theirs = rows(
            &*stock[at],
            &card(&plain.origin()),
            &[&plain.addr().to_string()],
        )
        .await;
        let own = rows(
            &*ours[at],
            &card(&fixture.server.origin()),
            &[&fixture.here()],
        )
        .await;
        assert_as_good(BINDINGS[at], &theirs, &own, BETTER);
    }
    let stats = client.stats();
    assert_eq!(stats.totals.signatures(), stats.connections_opened, "CL-3");
    assert_eq!(stats.totals.with_proof, stats.totals.requests);
}

/// The script on the official agent.
pub(crate) async fn official() -> ScriptRun {
    let plain = PlainServer::start_with(|origin| agent(Echo::default(), card(origin)));
    let fixture = Fixture::open(|origin| agent(Echo::default(), card(origin)));
    let client = fixture.client(HttpVersions::Auto);
    ScriptRun {
        agent: "Rust agent",
        stock: all_rows(
            &stock(),
            &card(&plain.origin()),
            &[&plain.addr().to_string()],
        )
        .await,
        ours: all_rows(
            &ours(&fixture, &client),
            &card(&fixture.server.origin()),
            &[&fixture.here()],
        )
        .await,
        stats: client.stats(),
    }
}

/// The answers that all others are compared with are themselves as they should be.
#[tokio::test]
async fn the_stock_transports_get_the_answers_that_a2a_demands() {
    let server = PlainServer::start_with(|origin| agent(Echo::default(), card(origin)));
    let runs = all_rows(
        &stock(),
        &card(&server.origin()),
        &[&server.addr().to_string()],
    )
    .await;
    assert_expected(&runs, EXPECTED, EXCEPTIONS);

    // In full, not only in a few words: the bindings agree with each other.
    for (binding, rows) in BINDINGS.iter().zip(&runs) {
        let differences = differences(&runs[0], rows);
        let exceptions = EXCEPTIONS.iter().filter(|e| e.binding == *binding).count();
        assert_eq!(
            differences.len(),
            exceptions,
            "{binding}: {}",
            differences.join("\n")
        );
    }
}

/// Two runs are the same, and a run on an agent that does less is not: each call that it does not
/// serve is named.
#[tokio::test]
async fn a_run_differs_in_just_the_calls_that_an_agent_answers_otherwise() {
    let server = PlainServer::start_with(|origin| agent(Echo::default(), card(origin)));
    let lesser = PlainServer::start_with(|origin| {
        let mut card = card(origin);
        card.capabilities.push_notifications = Some(false);
        agent(Echo::default(), card)
    });
    for factory in stock() {
        let first = rows(
            &*factory,
            &card(&server.origin()),
            &[&server.addr().to_string()],
        )
        .await;
        let again = rows(
            &*factory,
            &card(&server.origin()),
            &[&server.addr().to_string()],
        )
        .await;
        assert_eq!(
            differences(&first, &again),
            [""; 0],
            "{}",
            factory.protocol()
        );

        let less = rows(
            &*factory,
            &card(&lesser.origin()),
            &[&lesser.addr().to_string()],
        )
        .await;
        let named = differences(&first, &less);
        let with_push = first
            .iter()
            .filter(|row| row.method.contains("push_config"));
        let mut expected: Vec<_> = with_push.map(row::Row::call).collect();
        expected.push("`get_extended_agent_card`".to_owned());
        let named: Vec<_> = named
            .iter()
            .map(|told| told.lines().next().unwrap_or_default())
            .collect();
        assert_eq!(named, expected, "{}", factory.protocol());
    }
}
