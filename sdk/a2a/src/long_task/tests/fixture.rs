//! Events to build tasks of, an agent that keeps a task as the official SDKs do, and a consumer
//! that applies every event.

use a2a::{
    Artifact, Message, Part, Role, StreamResponse, Task, TaskArtifactUpdateEvent, TaskState,
    TaskStatus, TaskStatusUpdateEvent,
};

use crate::long_task::{CaughtUp, TaskEvent};

pub(super) const TASK: &str = "t";

pub(super) fn message(id: &str) -> Message {
    let mut message = Message::new(Role::Agent, vec![Part::text(id)]);
    message.message_id = id.to_owned();
    message
}

/// A status at a second, if at all, with a message, if any.
pub(super) fn status(state: TaskState, at: Option<i64>, id: Option<&str>) -> TaskStatus {
    let at = at.map(|second| {
        serde_json::from_value(
            format!("2026-01-01T00:{:02}:{:02}Z", second / 60, second % 60).into(),
        )
    });
    TaskStatus {
        state,
        message: id.map(message),
        timestamp: at.map(|at| at.expect("a time")),
    }
}

pub(super) fn status_update(status: TaskStatus) -> StreamResponse {
    StreamResponse::StatusUpdate(TaskStatusUpdateEvent {
        task_id: TASK.to_owned(),
        context_id: "c".to_owned(),
        status,
        metadata: None,
    })
}

pub(super) fn working(at: i64) -> StreamResponse {
    status_update(status(
        TaskState::Working,
        Some(at),
        Some(&format!("m{at}")),
    ))
}

pub(super) fn completed(at: i64) -> StreamResponse {
    status_update(status(TaskState::Completed, Some(at), None))
}

pub(super) fn pieces(artifact: &str, append: bool, texts: &[&str]) -> StreamResponse {
    StreamResponse::ArtifactUpdate(TaskArtifactUpdateEvent {
        task_id: TASK.to_owned(),
        context_id: "c".to_owned(),
        artifact: Artifact {
            artifact_id: artifact.to_owned(),
            name: None,
            description: None,
            parts: texts.iter().map(|text| Part::text(*text)).collect(),
            metadata: None,
            extensions: None,
        },
        append: Some(append),
        last_chunk: None,
        metadata: None,
    })
}

/// A task that has just been submitted, with the caller's message in its history.
pub(super) fn submitted(sent: &Message) -> Task {
    Task {
        id: TASK.to_owned(),
        context_id: "c".to_owned(),
        status: status(TaskState::Submitted, Some(0), None),
        artifacts: None,
        history: Some(vec![sent.clone()]),
        metadata: None,
    }
}

/// The task after an event. `keeps_messages`: the status's message moves to the history, as with
/// the Python SDK; the Rust SDK drops it.
pub(super) fn after(task: &Task, event: &StreamResponse, keeps_messages: bool) -> Task {
    let mut task = task.clone();
    match event {
        StreamResponse::StatusUpdate(update) => {
            let before = std::mem::replace(&mut task.status, update.status.clone());
            let message = before.message.filter(|_| keeps_messages);
            task.history.get_or_insert_default().extend(message);
        }
        StreamResponse::ArtifactUpdate(update) => {
            apply(task.artifacts.get_or_insert_default(), update)
        }
        other => panic!("{other:?} changes no task"),
    }
    task
}

fn apply(artifacts: &mut Vec<Artifact>, update: &TaskArtifactUpdateEvent) {
    let id = &update.artifact.artifact_id;
    match artifacts
        .iter_mut()
        .find(|artifact| artifact.artifact_id == *id)
    {
        Some(artifact) if update.append == Some(true) => {
            artifact.parts.extend(update.artifact.parts.clone())
        }
        Some(artifact) => *artifact = update.artifact.clone(),
        None => artifacts.push(update.artifact.clone()),
    }
}

/// The state that a reader of a long task ends up with.
#[derive(Debug, Default)]
pub(super) struct Consumer {
    pub(super) statuses: Vec<TaskStatus>,
    /// Ids of all messages, in the order in which they were emitted.
    pub(super) messages: Vec<String>,
    pub(super) artifacts: Vec<Artifact>,
    /// Every part that was emitted, of current and of replaced artifacts.
    pub(super) parts: Vec<String>,
}

impl Consumer {
    pub(super) fn observe(&mut self, event: &TaskEvent) {
        match event {
            TaskEvent::CaughtUp(caught_up) => self.catch_up(caught_up),
            TaskEvent::Status(update) => self.status(&update.status),
            TaskEvent::Artifact(update) => self.artifact(update),
            TaskEvent::Message(message) => self.messages.push(message.message_id.clone()),
            TaskEvent::Reconnect(_) => {}
        }
    }

    fn catch_up(&mut self, caught_up: &CaughtUp) {
        self.messages
            .extend(caught_up.messages.iter().map(|m| m.message_id.clone()));
        caught_up
            .status
            .iter()
            .for_each(|status| self.status(status));
        caught_up
            .artifacts
            .iter()
            .for_each(|update| self.artifact(update));
        let of_task = caught_up.task.artifacts.as_deref().unwrap_or_default();
        assert!(
            self.artifacts.len() >= of_task.len()
                && of_task
                    .iter()
                    .all(|of_task| self.artifacts.iter().any(|heard| {
                        heard.artifact_id == of_task.artifact_id
                            && heard.parts.starts_with(&of_task.parts)
                    })),
            "after a snapshot the reader has all that the task has: {:?}, {of_task:?}",
            self.artifacts
        );
    }

    fn status(&mut self, status: &TaskStatus) {
        self.messages
            .extend(status.message.iter().map(|m| m.message_id.clone()));
        self.statuses.push(status.clone());
    }

    fn artifact(&mut self, update: &TaskArtifactUpdateEvent) {
        let parts = update.artifact.parts.iter().filter_map(Part::as_text);
        self.parts.extend(parts.map(str::to_owned));
        apply(&mut self.artifacts, update);
    }
}
