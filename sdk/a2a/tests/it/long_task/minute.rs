//! A task of a minute whose stream is cut every two seconds: by the server, by a real HAProxy in
//! TCP mode, and after GOAWAY; over each binding. All at once, so it takes a minute.
//!
//! Needs HAProxy, so it belongs to the named set (`just parts`) and not to `cargo test`.

#![allow(clippy::print_stdout, reason = "the figures are there to be read")]

use std::time::Duration;

use a2a::TaskState;
use bowline_a2a::Transports;
use bowline_a2a::long_task::{Agent, LongTask, RetryPolicy};
use bowline_http_client::{Cause, Client, CloseReason, HttpVersions, Snapshot};
use bowline_testkit::a2a::{Paced, agent, card};
use bowline_testkit::peers::HaProxy;
use futures_util::StreamExt;
use futures_util::future::join_all;
use tokio::time::{Instant, interval_at, timeout};

use super::fixture::{Heard, numbers, request, transport};
use crate::script::compare::BINDINGS;
use crate::script::fixture::Fixture;

const EVERY: Duration = Duration::from_millis(500);
const STEPS: usize = 120;
const CUT_EVERY: Duration = Duration::from_secs(2);
/// A guard against hanging.
const GUARD: Duration = Duration::from_secs(180);

/// Who cuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Server,
    HaProxy,
    Goaway,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs HAProxy: run `just parts`"]
async fn a_minute_s_task_that_is_cut_every_two_seconds_is_told_once_with_one_signature_for_each_connection()
 {
    let ways = [By::Server, By::HaProxy, By::Goaway];
    let runs = ways
        .iter()
        .flat_map(|by| (0..BINDINGS.len()).map(|binding| timeout(GUARD, follow(*by, binding))));
    println!(
        "| cut by | binding | time | states | cuts | reconnects | connections | signatures | never written | causes |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for line in join_all(runs).await {
        println!("{}", line.expect("an end in time"));
    }
}

/// Follows one task; what came of it, as a row of a table.
async fn follow(by: By, binding: usize) -> String {
    let paced = Paced::new(EVERY, STEPS as u32).with_history();
    let fixture = Fixture::open(|origin| agent(paced, card(origin)));
    let proxy = (by == By::HaProxy).then(|| HaProxy::in_front_of(fixture.server.addr()));
    let origin = proxy
        .as_ref()
        .map_or_else(|| fixture.server.origin(), HaProxy::origin);
    let client = fixture.client(HttpVersions::Auto);
    let transport = transport(&*factories(&fixture, &client, &origin)[binding], &origin).await;
    let mut task = LongTask::send(
        Agent::from(transport),
        request("take your time"),
        RetryPolicy::default(),
    );

    let began = Instant::now();
    let mut ticks = interval_at(began + CUT_EVERY, CUT_EVERY);
    let (mut heard, mut cuts) = (Heard::default(), 0);
    loop {
        tokio::select! {
            event = task.next() => match event {
                Some(event) => heard.hear(event.expect("no error")),
                None => break,
            },
            _ = ticks.tick() => {
                cuts += 1;
                match (&proxy, by) {
                    (Some(proxy), _) => tokio::task::block_in_place(|| proxy.cut_all()),
                    (None, By::Goaway) => fixture.server.go_away_all(),
                    (None, _) => fixture.server.cut_all(),
                }
            }
        }
    }
    let took = began.elapsed();

    let stats = client.stats();
    assert_eq!(
        heard.texts,
        numbers(STEPS),
        "{by:?}: each state once, and in order"
    );
    assert_eq!(heard.states.first(), Some(&TaskState::Submitted));
    assert_eq!(heard.states.last(), Some(&TaskState::Completed));
    assert!(
        heard.reconnects > 20,
        "{by:?}: it was cut all the time, not {} times",
        heard.reconnects
    );
    assert_eq!(task.counts().reconnects, heard.causes);
    let abandoned = stats.totals.abandoned;
    assert_eq!(abandoned, 0, "{by:?}: it is cut long after it has signed");
    assert_eq!(
        stats.totals.signatures(),
        stats.connections_opened,
        "{by:?}"
    );
    let count = |cause| stats.totals.causes.get(&cause).copied().unwrap_or_default();
    assert_eq!(count(Cause::First), 1);
    // A new connection may be ready before the client has noticed all of the old one's end; after
    // GOAWAY it is opened, and proved on, at once.
    let reproved = count(Cause::Reconnect) + count(Cause::Parallel) + count(Cause::Ahead);
    assert_eq!(reproved, stats.connections_opened - 1);
    let fits = |reason: &CloseReason| match by {
        By::Goaway => *reason == CloseReason::Goaway,
        _ => [CloseReason::PeerClosed, CloseReason::Error].contains(reason),
    };
    assert!(
        stats.totals.after.keys().all(fits),
        "{by:?}: {:?}",
        stats.totals.after
    );
    format!(
        "| {by:?} | {} | {:.1} s | {} | {cuts} | {} | {} | {} | {abandoned} | {} |",
        BINDINGS[binding],
        took.as_secs_f64(),
        // Submitted, the steps, completed.
        heard.texts.len() + 2,
        heard.reconnects,
        stats.connections_opened,
        stats.totals.signatures(),
        causes(&heard, &stats),
    )
}

fn factories(
    fixture: &Fixture,
    client: &Client,
    origin: &str,
) -> crate::script::fixture::Factories {
    let transports = Transports::new(client.clone(), origin)
        .unwrap()
        .token(fixture.token());
    [
        transports.json_rpc(),
        transports.http_json(),
        transports.grpc(),
    ]
}

/// What the task says of its reconnects, and the client of its signatures.
fn causes(heard: &Heard, stats: &Snapshot) -> String {
    let reconnects = heard
        .causes
        .iter()
        .map(|(cause, n)| format!("{} {n}", cause.name()));
    let signatures = stats
        .totals
        .causes
        .iter()
        .map(|(cause, n)| format!("{} {n}", cause.label()));
    let after = stats
        .totals
        .after
        .iter()
        .map(|(reason, n)| format!("after {} {n}", reason.label()));
    let all: Vec<String> = reconnects.chain(signatures).chain(after).collect();
    all.join(", ")
}
