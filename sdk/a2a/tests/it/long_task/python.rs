//! An agent on the Python SDK, which keeps messages and begins to collect updates for a subscriber
//! before it gives them the task.
//!
//! Needs Python, so it belongs to the named set (`just parts`) and not to `cargo test`.

#![allow(clippy::print_stdout, reason = "the figures are there to be read")]

use a2a::TaskState;
use bowline_a2a::long_task::{LongTask, RetryPolicy};
use bowline_http_client::HttpVersions;
use bowline_testkit::peers::forward_with_grpc;
use futures_util::StreamExt;

use super::fixture::{Heard, numbers, request, transport};
use crate::python::Agent;
use crate::script::compare::BINDINGS;
use crate::script::fixture::{Fixture, ours};
use crate::soon;

const STEPS: usize = 300;
/// Steps that are heard between two cuts, or more.
const HEARD: usize = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Python with a2a-sdk: run `just parts`"]
async fn a_python_agent_s_task_that_is_cut_again_and_again_is_told_once() {
    let agent = Agent::start();
    let fixture = Fixture::open(|_| forward_with_grpc(agent.http, agent.grpc));
    for (binding, name) in BINDINGS.iter().enumerate() {
        let client = fixture.client(HttpVersions::Auto);
        let transport =
            transport(&*ours(&fixture, &client)[binding], &fixture.server.origin()).await;
        let mut task = LongTask::send(
            transport,
            request(&format!("pace {STEPS}")),
            RetryPolicy::default(),
        );
        let mut heard = Heard::default();
        let (mut cuts, mut next_cut) = (0, HEARD);
        // The agent has a pace of its own: a cut near the end may come too late to be noticed.
        while let Some(event) = soon(task.next()).await {
            heard.hear(event.expect("no error"));
            if heard.reconnects == cuts && heard.texts.len() >= next_cut {
                fixture.server.cut_all();
                cuts += 1;
                next_cut = heard.texts.len() + HEARD;
            }
        }

        assert_eq!(
            heard.texts,
            numbers(STEPS),
            "{name}: each step once, and in order"
        );
        let pieces: Vec<String> = (1..=STEPS).map(|n| format!("piece {n}")).collect();
        assert_eq!(
            heard.pieces, pieces,
            "{name}: each piece once, and in order"
        );
        assert_eq!(heard.states.last(), Some(&TaskState::Completed));
        assert!(
            heard.reconnects > 5,
            "it was cut again and again, not {} times",
            heard.reconnects
        );
        let stats = client.stats();
        let (connections, causes) = (stats.connections_opened, &heard.causes);
        // One may be signed for a connection that has ended just now; it is never written.
        let written = stats.totals.signatures() - stats.totals.abandoned;
        assert_eq!(written, connections, "{causes:?}, {stats:?}");
        assert_eq!(connections, heard.reconnects + 1, "{causes:?}, {stats:?}");
        println!(
            "{name}: {STEPS} steps, {connections} connections and proofs, reconnects {causes:?}, {} updates came again",
            task.counts().repeated
        );
    }
}
