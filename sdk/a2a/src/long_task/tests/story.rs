//! A machine, driven event by event.

use std::time::Instant;

use a2a::{A2AError, Message, Part, Role, SendMessageRequest, StreamResponse, Task, TaskState};

use super::world::{Consumer, TASK, after, submitted};
use crate::failure::{ErrorKind as Below, Failure};
use crate::long_task::machine::{Action, Event, Machine};
use crate::long_task::{Error, ErrorKind, Patience, TaskEvent};

/// A machine with a clock, and what it has told and wanted.
pub(super) struct Story {
    pub(super) machine: Machine,
    pub(super) now: Instant,
    pub(super) consumer: Consumer,
    pub(super) told: usize,
    pub(super) wants: Vec<String>,
    pub(super) error: Option<Error>,
    pub(super) has_finished: bool,
}

impl Story {
    pub(super) fn sending() -> Self {
        let request = SendMessageRequest {
            message: sent(),
            configuration: None,
            metadata: None,
            tenant: None,
        };
        Self::of(Machine::sending(&request, Patience::default()))
    }

    /// A message was sent, and this task is its answer.
    pub(super) fn begun() -> Self {
        let mut story = Self::sending();
        story.came(StreamResponse::Task(submitted(&sent())));
        story
    }

    pub(super) fn subscribing() -> Self {
        Self::of(Machine::subscribing(TASK, Patience::default()))
    }

    pub(super) fn of(machine: Machine) -> Self {
        Self {
            machine,
            now: Instant::now(),
            consumer: Consumer::default(),
            told: 0,
            wants: Vec::new(),
            error: None,
            has_finished: false,
        }
    }

    /// What is wanted then: `subscribe`, `ask`, a pause in milliseconds. How many things are told,
    /// without reconnects, is noted.
    pub(super) fn happens(&mut self, event: Event) -> &[String] {
        self.wants.clear();
        self.told = 0;
        for action in self.machine.handle(self.now, 1.0, event) {
            match action {
                Action::Tell(TaskEvent::Reconnect(reconnect)) => {
                    self.wants.push(reconnect.cause.name().to_owned())
                }
                Action::Tell(event) => {
                    self.told += 1;
                    self.consumer.hear(&event);
                }
                Action::Pause(pause) => self.wants.push(pause.as_millis().to_string()),
                Action::Subscribe(_) => self.wants.push("subscribe".to_owned()),
                Action::Ask(_) => self.wants.push("ask".to_owned()),
                Action::Finish => self.has_finished = true,
                Action::Fail(error) => self.error = Some(error),
            }
        }
        &self.wants
    }

    pub(super) fn came(&mut self, event: StreamResponse) -> usize {
        self.happens(Event::Came(event));
        self.told
    }

    pub(super) fn cut(&mut self) -> &[String] {
        self.happens(Event::Failed(Failure::new(Below::StreamCut, "cut").into()))
    }

    pub(super) fn states(&self) -> Vec<TaskState> {
        self.consumer
            .statuses
            .iter()
            .map(|status| status.state.clone())
            .collect()
    }

    pub(super) fn texts(&self, artifact: &str) -> Vec<&str> {
        let artifacts = self
            .consumer
            .artifacts
            .iter()
            .filter(|a| a.artifact_id == artifact);
        artifacts
            .flat_map(|a| a.parts.iter().filter_map(Part::as_text))
            .collect()
    }

    pub(super) fn kind(&self) -> Option<ErrorKind> {
        self.error.as_ref().map(Error::kind)
    }
}

pub(super) fn sent() -> Message {
    let mut message = Message::new(Role::User, vec![Part::text("do it")]);
    message.message_id = "sent".to_owned();
    message
}

pub(super) fn below(kind: Below) -> A2AError {
    Failure::new(kind, "below").into()
}

/// The task after these events, with an agent that keeps messages.
pub(super) fn task(events: &[StreamResponse]) -> Task {
    events
        .iter()
        .fold(submitted(&sent()), |task, event| after(&task, event, true))
}
