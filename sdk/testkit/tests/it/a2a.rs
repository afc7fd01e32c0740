//! The executors work as documented. The agent that runs them is tested by the script of
//! `bowline-a2a`'s tests.

use std::collections::HashMap;
use std::time::Duration;

use a2a::{A2AError, Message, Part, Role, StreamResponse, Task, TaskState, TaskStatus};
use a2a_server::{AgentExecutor, ExecutorContext};
use bowline_testkit::a2a::{Echo, Paced, Run, Stepped};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::time::Instant;

use crate::client::soon;

type Events = BoxStream<'static, Result<StreamResponse, A2AError>>;

#[tokio::test]
async fn a_stepped_task_takes_the_steps_of_the_test_and_no_others() {
    let stepped = Stepped::new();
    let mut events = stepped.execute(context("one", "go"));
    let run = stepped.begun(0).await;
    assert_eq!(run.id(), "one");
    assert_eq!(next(&mut events).await, "task SUBMITTED, 1 message(s)");
    run.working();
    run.working();
    assert_eq!(next(&mut events).await, "WORKING 1 as one/1");
    assert_eq!(next(&mut events).await, "WORKING 2 as one/2");
    assert!(
        futures_util::poll!(events.next()).is_pending(),
        "no event comes before its step"
    );
    run.chunk("a", false);
    run.chunk("b", true);
    assert_eq!(next(&mut events).await, "artifact a");
    assert_eq!(next(&mut events).await, "more artifact b, the last");
    assert!(!run.is_over());
    run.complete();
    run.working();
    assert_eq!(next(&mut events).await, "COMPLETED");
    assert!(run.is_over());
    assert!(
        soon(events.next()).await.is_none(),
        "steps after the end have no effect"
    );
}

#[tokio::test]
async fn a_task_with_history_sends_every_message_to_a_late_subscriber() {
    let stepped = Stepped::with_history();
    let mut events = stepped.execute(context("one", "go"));
    let run = stepped.task("one").await;
    (0..3).for_each(|_| run.working());
    run.end(TaskState::Failed);
    let seen = all(&mut events).await;
    let expected = [
        "task SUBMITTED, 1 message(s)",
        "task WORKING 1 as one/1, 1 message(s)",
        "task WORKING 2 as one/2, 2 message(s)",
        "task WORKING 3 as one/3, 3 message(s)",
        "task FAILED, 4 message(s)",
    ];
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn tasks_are_distinguished_and_waited_for() {
    let stepped = Stepped::new();
    let waiting = tokio::spawn({
        let stepped = stepped.clone();
        async move { stepped.task("two").await }
    });
    let mut first = stepped.execute(context("one", "go"));
    let mut second = stepped.execute(context("two", "go"));
    soon(waiting).await.unwrap().complete();
    stepped.begun(0).await.end(TaskState::Rejected);
    assert_eq!(all(&mut first).await.last().unwrap(), "REJECTED");
    assert_eq!(all(&mut second).await.last().unwrap(), "COMPLETED");
}

/// A message to a task that waits for input: another run, of the same task.
#[tokio::test]
async fn a_task_goes_on_after_input() {
    let stepped = Stepped::with_history();
    let mut events = stepped.execute(context("one", "go"));
    stepped.task("one").await.end(TaskState::InputRequired);
    assert_eq!(
        all(&mut events).await.last().unwrap(),
        "task INPUT_REQUIRED, 1 message(s)"
    );

    let mut context = context("one", "here you are");
    context.stored_task = Some(stored("one"));
    let mut events = stepped.execute(context);
    stepped.task("one").await.complete();
    let seen = all(&mut events).await;
    assert_eq!(
        seen,
        [
            "task INPUT_REQUIRED, 1 message(s)",
            "task COMPLETED, 1 message(s)"
        ]
    );
}

#[tokio::test]
async fn a_cancelled_task_ends_without_another_event() {
    let (stepped, echo, paced) = (
        Stepped::new(),
        Echo::default(),
        Paced::new(Duration::from_secs(3600), 3),
    );
    let executors: [&dyn AgentExecutor; 3] = [&stepped, &echo, &paced];
    for executor in executors {
        let mut events = executor.execute(context("one", "hold"));
        next(&mut events).await;
        let mut cancelling = executor.cancel(context("one", ""));
        assert_eq!(all(&mut cancelling).await, ["CANCELED"]);
        let rest = all(&mut events).await;
        assert!(
            !rest
                .iter()
                .any(|seen| seen == "COMPLETED" || seen == "CANCELED"),
            "{rest:?}"
        );
    }
    assert!(Run::is_over(&stepped.task("one").await));
}

#[tokio::test(start_paused = true)]
async fn a_paced_task_of_sixty_steps_of_a_second_takes_a_minute() {
    let began = Instant::now();
    let mut events = Paced::new(Duration::from_secs(1), 60).execute(context("one", "go"));
    let mut seen = Vec::new();
    while let Some(event) = events.next().await {
        seen.push((began.elapsed().as_secs(), describe(event.unwrap())));
    }
    assert_eq!(seen.len(), 62);
    assert_eq!(seen[1], (0, "WORKING 1 as one/1".to_owned()));
    assert_eq!(seen[60], (59, "WORKING 60 as one/60".to_owned()));
    assert_eq!(seen[61], (60, "COMPLETED".to_owned()));
}

fn context(id: &str, text: &str) -> ExecutorContext {
    ExecutorContext {
        message: Some(Message::new(Role::User, vec![Part::text(text)])),
        task_id: id.to_owned(),
        stored_task: None,
        context_id: "context".to_owned(),
        metadata: None,
        user: None,
        service_params: HashMap::new(),
        tenant: None,
    }
}

fn stored(id: &str) -> Task {
    Task {
        id: id.to_owned(),
        context_id: "context".to_owned(),
        status: TaskStatus {
            state: TaskState::InputRequired,
            message: None,
            timestamp: None,
        },
        artifacts: None,
        history: None,
        metadata: None,
    }
}

async fn next(events: &mut Events) -> String {
    let event = soon(events.next()).await.expect("the task goes on");
    describe(event.unwrap())
}

async fn all(events: &mut Events) -> Vec<String> {
    let mut seen = Vec::new();
    while let Some(event) = soon(events.next()).await {
        seen.push(describe(event.unwrap()));
    }
    seen
}

fn describe(event: StreamResponse) -> String {
    match event {
        StreamResponse::Task(task) => {
            let messages = task.history.map_or(0, |history| history.len());
            format!(
                "task {}, {messages} message(s)",
                describe_status(&task.status)
            )
        }
        StreamResponse::StatusUpdate(update) => describe_status(&update.status),
        StreamResponse::ArtifactUpdate(update) => {
            let text = update.artifact.parts[0].as_text().unwrap().to_owned();
            let more = if update.append == Some(true) {
                "more "
            } else {
                ""
            };
            let last = if update.last_chunk == Some(true) {
                ", the last"
            } else {
                ""
            };
            format!("{more}artifact {text}{last}")
        }
        StreamResponse::Message(message) => format!("message {:?}", message.text()),
    }
}

fn describe_status(status: &TaskStatus) -> String {
    let state = serde_json::to_value(&status.state).unwrap();
    let state = state
        .as_str()
        .unwrap()
        .trim_start_matches("TASK_STATE_")
        .to_owned();
    match &status.message {
        Some(message) => format!(
            "{state} {} as {}",
            message.text().unwrap(),
            message.message_id
        ),
        None => state,
    }
}
