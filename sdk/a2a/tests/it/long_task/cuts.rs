//! Streams that are broken after each step, by the test: nothing here is about time.

use std::collections::BTreeMap;

use a2a::{GetTaskRequest, TaskState};
use a2a_client::ServiceParams;
use bowline_a2a::long_task::{Agent, Cause as Why, LongTask, RetryPolicy};
use bowline_http_client::{Cause, Client, CloseReason, HttpVersions};
use bowline_testkit::a2a::{Run, Stepped, agent, card};

use tokio::task::yield_now;

use super::fixture::{Endings, Heard, numbers, request, transport};
use crate::script::fixture::{Fixture, ours};
use crate::soon;

const JSON_RPC: usize = 0;
const HTTP_JSON: usize = 1;
const GRPC: usize = 2;

/// How often a task's stream is broken.
const CUTS: usize = 5;

/// What breaks it.
#[derive(Clone, Copy, Debug)]
enum Break {
    /// The connection is gone, without a word.
    Abort,
    /// GOAWAY, and then the connection is gone.
    Goaway,
    /// The agent ends the stream.
    End,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_whose_connection_is_aborted_after_each_step_is_told_once_over_json_rpc() {
    follow(JSON_RPC, HttpVersions::Auto, Break::Abort).await;
    follow(JSON_RPC, HttpVersions::Http1, Break::Abort).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_whose_connection_is_aborted_after_each_step_is_told_once_over_http_json() {
    follow(HTTP_JSON, HttpVersions::Auto, Break::Abort).await;
    follow(HTTP_JSON, HttpVersions::Http1, Break::Abort).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_whose_connection_is_aborted_after_each_step_is_told_once_over_grpc() {
    follow(GRPC, HttpVersions::Auto, Break::Abort).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_whose_connection_is_sent_away_after_each_step_is_told_once_over_json_rpc() {
    follow(JSON_RPC, HttpVersions::Auto, Break::Goaway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_whose_connection_is_sent_away_after_each_step_is_told_once_over_http_json() {
    follow(HTTP_JSON, HttpVersions::Auto, Break::Goaway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_whose_connection_is_sent_away_after_each_step_is_told_once_over_grpc() {
    follow(GRPC, HttpVersions::Auto, Break::Goaway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_whose_stream_is_ended_after_each_step_is_told_once_and_keeps_its_connection_over_json_rpc()
 {
    follow(JSON_RPC, HttpVersions::Auto, Break::End).await;
    follow(JSON_RPC, HttpVersions::Http1, Break::End).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_whose_stream_is_ended_after_each_step_is_told_once_and_keeps_its_connection_over_http_json()
 {
    follow(HTTP_JSON, HttpVersions::Auto, Break::End).await;
    follow(HTTP_JSON, HttpVersions::Http1, Break::End).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_whose_stream_is_ended_after_each_step_is_told_once_and_keeps_its_connection_over_grpc()
 {
    follow(GRPC, HttpVersions::Auto, Break::End).await;
}

/// Follows one task that tells updates, and misses one step at each break; then one that tells all
/// it has said, and misses two.
async fn follow(binding: usize, http: HttpVersions, by: Break) {
    tell(binding, http, by, Stepped::new(), 1).await;
    tell(binding, http, by, Stepped::with_history(), 2).await;
}

async fn tell(binding: usize, http: HttpVersions, by: Break, stepped: Stepped, missed: usize) {
    let endings = Endings::default();
    let fixture = Fixture::open(|origin| endings.before(agent(stepped.clone(), card(origin))));
    let client = fixture.client(http);
    let transport = transport(&*ours(&fixture, &client)[binding], &fixture.server.origin()).await;
    let mut task = LongTask::send(
        Agent::from(transport.clone()),
        request("take your time"),
        RetryPolicy::default(),
    );
    let mut heard = Heard::default();

    heard
        .until(&mut task, |heard| !heard.states.is_empty())
        .await;
    let run = stepped.begun(0).await;
    let mut steps = 0;
    for cut in 1..=CUTS {
        run.working();
        run.chunk(format!("piece {cut}"), false);
        steps += 1;
        let told = steps;
        heard
            .until(&mut task, |heard| {
                heard.texts.len() == told && heard.pieces.len() == cut
            })
            .await;
        match by {
            Break::Abort => fixture.server.cut_all(),
            Break::Goaway => fixture.server.go_away_all(),
            Break::End => endings.end_all(),
        }
        heard
            .until(&mut task, |heard| heard.reconnects == cut as u64)
            .await;
        if !matches!(by, Break::End) {
            until_closed(&client, cut as u64).await;
        }
        // Nobody listens now. What happens comes with the task, or if the agent is slow, after it.
        (0..missed).for_each(|_| run.working());
        steps += missed;
        let told = steps;
        heard
            .until(&mut task, |heard| {
                heard.texts.len() == told && heard.caught_up > cut as u64
            })
            .await;
    }
    run.complete();
    heard.hear_out(&mut task).await;

    assert_eq!(heard.texts, numbers(steps), "each step once, and in order");
    let pieces: Vec<String> = (1..=CUTS).map(|cut| format!("piece {cut}")).collect();
    assert_eq!(heard.pieces, pieces, "each piece once, and in order");
    assert_eq!(heard.states.first(), Some(&TaskState::Submitted));
    assert_eq!(heard.states.last(), Some(&TaskState::Completed));
    let why = match by {
        Break::Abort | Break::Goaway => Why::StreamCut,
        Break::End => Why::StreamEnded,
    };
    assert_eq!(heard.causes, BTreeMap::from([(why, CUTS as u64)]));
    assert_eq!(task.counts().reconnects, heard.causes);
    assert_signatures(&fixture, &client, by);

    // The last connection serves the next call.
    let before = client.stats().connections_opened;
    ask(&*transport, &run).await;
    assert_eq!(client.stats().connections_opened, before);
}

/// Waits until the client has counted so many connections as closed. It may learn of a broken
/// response a moment before; a signature made in this moment would be counted as `parallel`.
async fn until_closed(client: &Client, connections: u64) {
    let closed = || client.stats().connections_closed.values().sum::<u64>();
    soon(async {
        while closed() < connections {
            yield_now().await;
        }
    })
    .await;
}

/// One signature for each connection, each with its cause.
fn assert_signatures(fixture: &Fixture, client: &Client, by: Break) {
    let stats = client.stats();
    let connections = match by {
        Break::Abort | Break::Goaway => CUTS as u64 + 1,
        Break::End => 1,
    };
    assert_eq!(stats.connections_opened, connections, "{stats:?}");
    assert_eq!(fixture.server.counts().opened, connections, "{stats:?}");
    assert_eq!(stats.totals.signatures(), connections);
    assert_eq!(stats.totals.with_proof, stats.totals.requests);
    let count = |cause| stats.totals.causes.get(&cause).copied().unwrap_or_default();
    let (reconnect, ahead) = (count(Cause::Reconnect), count(Cause::Ahead));
    assert_eq!(count(Cause::First), 1);
    // After GOAWAY the client opens the next connection, and proves on it, at once.
    assert_eq!(reconnect + ahead, connections - 1);
    assert!(ahead == 0 || matches!(by, Break::Goaway));
    assert_eq!(stats.totals.after.values().sum::<u64>(), reconnect);
    let fits = |reason: &CloseReason| match by {
        Break::Goaway => *reason == CloseReason::Goaway,
        // Which of the two, the peer's operating system decides.
        _ => [CloseReason::PeerClosed, CloseReason::Error].contains(reason),
    };
    assert!(
        stats.totals.after.keys().all(fits),
        "{by:?}: {:?}",
        stats.totals.after
    );
}

async fn ask(transport: &dyn a2a_client::Transport, run: &Run) {
    let request = GetTaskRequest {
        id: run.id().to_owned(),
        history_length: None,
        tenant: None,
    };
    let task = soon(transport.get_task(&ServiceParams::new(), &request))
        .await
        .unwrap();
    assert_eq!(task.status.state, TaskState::Completed);
}
