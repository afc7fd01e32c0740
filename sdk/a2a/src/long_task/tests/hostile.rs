//! Agents with outdated snapshots, repeated updates, short streams, or very long tasks.

use std::time::Duration;

use a2a::{Artifact, Part, StreamResponse, Task, TaskState};

use super::fixture::{TASK, completed, pieces, status, status_update, submitted};
use super::scenario::{Scenario, sent, task};
use crate::long_task::history::{SnapshotSource, TaskHistory};
use crate::long_task::machine::{Action, Event};
use crate::long_task::{RetryPolicy, TaskEvent};

/// A status with a timestamp and without a message, as many agents send it.
fn bare(state: TaskState, at: i64) -> StreamResponse {
    status_update(status(state, Some(at), None))
}

#[test]
fn an_outdated_snapshot_takes_no_status_back() {
    let mut scenario = Scenario::started();
    let working = [bare(TaskState::Working, 1), bare(TaskState::Working, 2)];
    working
        .iter()
        .for_each(|event| drop(scenario.handle(Event::Received(event.clone()))));
    for outdated in [&working[..0], &working[..1], &working[..]] {
        scenario.cut_actions();
        scenario.handle(Event::Received(StreamResponse::Task(task(outdated))));
    }
    for repeated in &working {
        scenario.handle(Event::Received(repeated.clone()));
    }
    scenario.handle(Event::Received(completed(9)));
    use TaskState::*;
    assert_eq!(scenario.states(), [Submitted, Working, Working, Completed]);
}

/// With timestamps of whole seconds, and without messages.
#[test]
fn states_that_change_within_a_second_are_each_emitted() {
    use TaskState::*;
    let mut scenario = Scenario::started();
    scenario.handle(Event::Received(bare(InputRequired, 5)));
    scenario.handle(Event::Received(bare(Working, 5)));
    scenario.cut_actions();
    scenario.handle(Event::Received(StreamResponse::Task(task(&[bare(
        Working, 5,
    )]))));
    scenario.handle(Event::Received(bare(InputRequired, 5)));
    assert_eq!(
        scenario.states(),
        [Submitted, InputRequired, Working, InputRequired]
    );
    assert!(matches!(
        scenario.handle(Event::Ended)[..],
        [Action::Finish]
    ));
}

#[test]
fn an_outdated_task_from_get_task_takes_no_status_back() {
    let mut scenario = Scenario::started();
    scenario.handle(Event::Received(bare(TaskState::Working, 1)));
    scenario.handle(Event::Received(bare(TaskState::Working, 2)));
    scenario.cut_actions();
    let snapshot = [bare(TaskState::Working, 2), pieces("a", false, &["x"])];
    scenario.handle(Event::Received(StreamResponse::Task(task(&snapshot))));
    scenario.handle(Event::Received(pieces("a", false, &["x"])));
    scenario.handle(Event::Received(completed(9)));
    let outdated = [bare(TaskState::Working, 1), pieces("a", false, &["x"])];
    scenario.handle(Event::GotTask(Ok(task(&outdated))));
    use TaskState::*;
    assert_eq!(scenario.states(), [Submitted, Working, Working, Completed]);
}

#[test]
fn an_outdated_snapshot_takes_no_part_back() {
    let mut scenario = Scenario::started();
    let events = [pieces("a", false, &["one"]), pieces("a", true, &["two"])];
    events
        .iter()
        .for_each(|event| drop(scenario.handle(Event::Received(event.clone()))));
    scenario.cut_actions();
    scenario.handle(Event::Received(StreamResponse::Task(task(&events[..1]))));
    assert_eq!(scenario.texts("a"), ["one", "two"]);
    scenario.handle(Event::Received(pieces("a", true, &["three"])));
    // `GetTask` shows in the end whether the snapshot was outdated or the artifact shortened.
    let actions = scenario.handle(Event::Received(completed(9)));
    assert!(matches!(actions[..], [Action::GetTask(_)]), "{actions:?}");
    let shortened = [
        pieces("a", false, &["one"]),
        pieces("a", true, &["three"]),
        completed(9),
    ];
    scenario.handle(Event::GotTask(Ok(task(&shortened))));
    assert_eq!(scenario.texts("a"), ["one", "three"]);
    assert_eq!(scenario.states().last(), Some(&TaskState::Completed));
}

/// Like an agent without streams that sets a new timestamp whenever it is asked.
#[test]
fn an_agent_that_ends_each_stream_at_once_after_news_is_not_flooded() {
    let mut scenario = Scenario::started();
    let mut unpaused = 0;
    for at in 1..100 {
        let actions = scenario.handle(Event::Ended);
        let pause = actions.iter().find_map(|action| match action {
            Action::Pause(pause) => Some(*pause),
            _ => None,
        });
        unpaused += u32::from(pause.is_none());
        assert!(pause.is_none_or(|pause| pause == Duration::from_millis(500)));
        scenario.now += Duration::from_millis(1);
        let snapshot = task(&[bare(TaskState::Working, at)]);
        let actions = scenario.handle(Event::Received(StreamResponse::Task(snapshot)));
        assert!(matches!(
            actions[..],
            [Action::Emit(TaskEvent::CaughtUp(_))]
        ));
    }
    assert_eq!(unpaused, RetryPolicy::default().max_attempts);
    // One stream that lasts resets the count.
    scenario.now += Duration::from_secs(2);
    assert!(matches!(
        scenario.cut_actions()[..],
        [Action::Emit(_), Action::Subscribe(_)]
    ));
}

fn subscribed(to: &[StreamResponse]) -> TaskHistory {
    let mut history = TaskHistory::new();
    history.catch_up(task(to), SnapshotSource::Subscription);
    history
}

#[test]
fn updates_that_are_held_back_are_emitted_at_a_size_limit() {
    for (append, text) in [(false, "x"), (true, "")] {
        let mut history = subscribed(&[pieces("a", false, &["x", "y", "z"])]);
        let update = || {
            let StreamResponse::ArtifactUpdate(mut update) = pieces("a", append, &["x"]) else {
                unreachable!()
            };
            if text.is_empty() {
                update.artifact.parts.clear();
            }
            update.artifact.description = Some("d".repeat(1 << 20));
            StreamResponse::ArtifactUpdate(update)
        };
        let emitted = (0..20)
            .map(|_| history.update(update()).len())
            .collect::<Vec<_>>();
        assert_eq!(emitted.iter().sum::<usize>(), 20, "{emitted:?}");
        assert_eq!(
            emitted.last(),
            Some(&1),
            "after the first that is emitted, each is"
        );
    }
}

#[test]
fn with_too_many_parts_nothing_is_remembered_and_the_artifact_comes_in_full_after_a_break() {
    let mut history = TaskHistory::new();
    let many = vec!["x"; 100_000];
    for n in 0..6 {
        history.update(pieces("a", n > 0, &many));
    }
    assert_eq!(history.remembered(), 0);
    for n in 0..10 {
        history.update(pieces(&format!("b{n}"), false, &["x"]));
    }
    assert_eq!(history.remembered(), 0);
    let artifact = Artifact {
        artifact_id: "a".to_owned(),
        name: None,
        description: None,
        parts: vec![Part::text("x"); 3],
        metadata: None,
        extensions: None,
    };
    let snapshot = Task {
        artifacts: Some(vec![artifact]),
        ..submitted(&sent())
    };
    let caught_up = history.catch_up(snapshot, SnapshotSource::Subscription);
    assert_eq!(caught_up.task.id, TASK);
    assert_eq!(caught_up.artifacts[0].append, Some(false));
    assert_eq!(caught_up.artifacts[0].artifact.parts.len(), 3);
}

#[test]
fn artifacts_count_as_parts() {
    let mut history = TaskHistory::new();
    for n in 0..40_000 {
        history.update(pieces(&n.to_string(), false, &["x"]));
    }
    assert_eq!(history.remembered(), 0);
}

/// A comparison of each update with every place of the snapshot would take minutes.
#[test]
fn updates_of_a_long_artifact_of_equal_parts_are_recognised() {
    const PARTS: usize = 1 << 15;
    let mut history = TaskHistory::new();
    let mut texts = vec!["x"; PARTS];
    texts.push("the last");
    let all = pieces("a", false, &texts);
    history.catch_up(task(&[all]), SnapshotSource::Subscription);
    for text in &texts {
        assert_eq!(history.repeated(), 0, "held back until the last one comes");
        assert!(history.update(pieces("a", true, &[text])).is_empty());
    }
    assert_eq!(history.repeated(), texts.len() as u64);
    assert_eq!(history.update(pieces("a", true, &["x"])).len(), 1);
}
