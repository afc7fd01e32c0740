//! Agents that lag, repeat themselves, hurry, or never stop.

use std::time::{Duration, Instant};

use a2a::{Artifact, Message, Part, Role, SendMessageRequest, StreamResponse, Task, TaskState};

use super::fixture::{Consumer, TASK, after, completed, pieces, status, submitted, told};
use crate::error::{Error, ErrorKind as Below};
use crate::long_task::history::{SnapshotSource, TaskHistory};
use crate::long_task::machine::{Action, Event, Machine};
use crate::long_task::{RetryPolicy, TaskEvent};

fn sent() -> Message {
    let mut message = Message::new(Role::User, vec![Part::text("do it")]);
    message.message_id = "sent".to_owned();
    message
}

fn task(events: &[StreamResponse]) -> Task {
    events
        .iter()
        .fold(submitted(&sent()), |task, event| after(&task, event, true))
}

/// A machine that sent a message, and what a consumer has heard of it.
struct Heard {
    machine: Machine,
    now: Instant,
    consumer: Consumer,
}

impl Heard {
    fn begun() -> Self {
        let request = SendMessageRequest {
            message: sent(),
            configuration: None,
            metadata: None,
            tenant: None,
        };
        let mut heard = Self {
            machine: Machine::sending(&request, RetryPolicy::default()),
            now: Instant::now(),
            consumer: Consumer::default(),
        };
        heard.happens(Event::Received(StreamResponse::Task(submitted(&sent()))));
        heard
    }

    fn happens(&mut self, event: Event) -> Vec<Action> {
        let actions = self.machine.handle(self.now, 1.0, event);
        for action in &actions {
            if let Action::Emit(event) = action {
                self.consumer.hear(event);
            }
        }
        actions
    }

    fn cut(&mut self) -> Vec<Action> {
        self.happens(Event::Failed(Error::new(Below::StreamCut, "cut").into()))
    }

    fn states(&self) -> Vec<TaskState> {
        let statuses = self.consumer.statuses.iter();
        statuses.map(|status| status.state.clone()).collect()
    }

    fn texts(&self) -> Vec<&str> {
        let artifacts = self.consumer.artifacts.iter();
        artifacts
            .flat_map(|artifact| artifact.parts.iter().filter_map(Part::as_text))
            .collect()
    }
}

/// A time and no message: as many agents write statuses.
fn bare(state: TaskState, at: i64) -> StreamResponse {
    told(status(state, Some(at), None))
}

#[test]
fn a_picture_that_lags_behind_the_updates_takes_no_status_back() {
    let mut heard = Heard::begun();
    let working = [bare(TaskState::Working, 1), bare(TaskState::Working, 2)];
    working
        .iter()
        .for_each(|event| drop(heard.happens(Event::Received(event.clone()))));
    for lagging in [&working[..0], &working[..1], &working[..]] {
        heard.cut();
        heard.happens(Event::Received(StreamResponse::Task(task(lagging))));
    }
    for again in &working {
        heard.happens(Event::Received(again.clone()));
    }
    heard.happens(Event::Received(completed(9)));
    use TaskState::*;
    assert_eq!(heard.states(), [Submitted, Working, Working, Completed]);
}

/// By a clock of whole seconds, and without messages.
#[test]
fn states_that_come_and_go_within_a_second_are_told_each_time() {
    use TaskState::*;
    let mut heard = Heard::begun();
    heard.happens(Event::Received(bare(InputRequired, 5)));
    heard.happens(Event::Received(bare(Working, 5)));
    heard.cut();
    heard.happens(Event::Received(StreamResponse::Task(task(&[bare(
        Working, 5,
    )]))));
    heard.happens(Event::Received(bare(InputRequired, 5)));
    assert_eq!(
        heard.states(),
        [Submitted, InputRequired, Working, InputRequired]
    );
    assert!(matches!(heard.happens(Event::Ended)[..], [Action::Finish]));
}

#[test]
fn an_answer_that_lags_behind_the_end_takes_no_status_back() {
    let mut heard = Heard::begun();
    heard.happens(Event::Received(bare(TaskState::Working, 1)));
    heard.happens(Event::Received(bare(TaskState::Working, 2)));
    heard.cut();
    let picture = [bare(TaskState::Working, 2), pieces("a", false, &["x"])];
    heard.happens(Event::Received(StreamResponse::Task(task(&picture))));
    heard.happens(Event::Received(pieces("a", false, &["x"])));
    heard.happens(Event::Received(completed(9)));
    let lagging = [bare(TaskState::Working, 1), pieces("a", false, &["x"])];
    heard.happens(Event::GotTask(Ok(task(&lagging))));
    use TaskState::*;
    assert_eq!(heard.states(), [Submitted, Working, Working, Completed]);
}

#[test]
fn a_picture_that_lags_behind_the_updates_takes_no_part_back() {
    let mut heard = Heard::begun();
    let events = [pieces("a", false, &["one"]), pieces("a", true, &["two"])];
    events
        .iter()
        .for_each(|event| drop(heard.happens(Event::Received(event.clone()))));
    heard.cut();
    heard.happens(Event::Received(StreamResponse::Task(task(&events[..1]))));
    assert_eq!(heard.texts(), ["one", "two"]);
    heard.happens(Event::Received(pieces("a", true, &["three"])));
    // Whether it lagged, or the artifact was shortened, the task tells in the end.
    let actions = heard.happens(Event::Received(completed(9)));
    assert!(matches!(actions[..], [Action::GetTask(_)]), "{actions:?}");
    let shortened = [
        pieces("a", false, &["one"]),
        pieces("a", true, &["three"]),
        completed(9),
    ];
    heard.happens(Event::GotTask(Ok(task(&shortened))));
    assert_eq!(heard.texts(), ["one", "three"]);
    assert_eq!(heard.states().last(), Some(&TaskState::Completed));
}

/// As one does that stamps a status whenever it is asked, and has no streams.
#[test]
fn an_agent_that_has_news_at_each_subscription_and_ends_it_at_once_is_not_overrun() {
    let mut heard = Heard::begun();
    let mut unpaused = 0;
    for at in 1..100 {
        let actions = heard.happens(Event::Ended);
        let pause = actions.iter().find_map(|action| match action {
            Action::Pause(pause) => Some(*pause),
            _ => None,
        });
        unpaused += u32::from(pause.is_none());
        assert!(pause.is_none_or(|pause| pause == Duration::from_millis(500)));
        heard.now += Duration::from_millis(1);
        let picture = task(&[bare(TaskState::Working, at)]);
        let actions = heard.happens(Event::Received(StreamResponse::Task(picture)));
        assert!(matches!(
            actions[..],
            [Action::Emit(TaskEvent::CaughtUp(_))]
        ));
    }
    assert_eq!(unpaused, RetryPolicy::default().max_attempts);
    // One that lasts makes up for those that did not.
    heard.now += Duration::from_secs(2);
    assert!(matches!(
        heard.cut()[..],
        [Action::Emit(_), Action::Subscribe(_)]
    ));
}

fn subscribed(to: &[StreamResponse]) -> TaskHistory {
    let mut seen = TaskHistory::new();
    seen.catch_up(task(to), SnapshotSource::Subscription);
    seen
}

#[test]
fn what_is_held_back_is_told_before_there_is_too_much_of_it() {
    for (append, text) in [(false, "x"), (true, "")] {
        let mut seen = subscribed(&[pieces("a", false, &["x", "y", "z"])]);
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
        let told = (0..20)
            .map(|_| seen.update(update()).len())
            .collect::<Vec<_>>();
        assert_eq!(told.iter().sum::<usize>(), 20, "{told:?}");
        assert_eq!(
            told.last(),
            Some(&1),
            "after the first that is told, each is"
        );
    }
}

#[test]
fn of_too_many_parts_nothing_is_remembered_and_the_artifact_is_told_whole_after_a_break() {
    let mut seen = TaskHistory::new();
    let many = vec!["x"; 100_000];
    for n in 0..6 {
        seen.update(pieces("a", n > 0, &many));
    }
    assert_eq!(seen.remembered(), 0);
    for n in 0..10 {
        seen.update(pieces(&format!("b{n}"), false, &["x"]));
    }
    assert_eq!(seen.remembered(), 0);
    let artifact = Artifact {
        artifact_id: "a".to_owned(),
        name: None,
        description: None,
        parts: vec![Part::text("x"); 3],
        metadata: None,
        extensions: None,
    };
    let picture = Task {
        artifacts: Some(vec![artifact]),
        ..submitted(&sent())
    };
    let caught_up = seen.catch_up(picture, SnapshotSource::Subscription);
    assert_eq!(caught_up.task.id, TASK);
    assert_eq!(caught_up.artifacts[0].append, Some(false));
    assert_eq!(caught_up.artifacts[0].artifact.parts.len(), 3);
}

#[test]
fn many_artifacts_count_as_many_parts_do() {
    let mut seen = TaskHistory::new();
    for n in 0..40_000 {
        seen.update(pieces(&n.to_string(), false, &["x"]));
    }
    assert_eq!(seen.remembered(), 0);
}
