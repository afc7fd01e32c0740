//! A machine, driven event by event.

use std::time::Instant;

use a2a::{A2AError, Message, Part, Role, SendMessageRequest, StreamResponse, Task, TaskState};

use super::fixture::{Consumer, TASK, after, submitted};
use crate::error::{Error, ErrorKind as Below};
use crate::long_task::machine::{Action, Event, Machine};
use crate::long_task::{LongTaskError, LongTaskErrorKind, RetryPolicy, TaskEvent};

/// A machine with a clock, and what it has told and wanted.
pub(super) struct Scenario {
    pub(super) machine: Machine,
    pub(super) now: Instant,
    pub(super) consumer: Consumer,
    pub(super) told: usize,
    pub(super) wants: Vec<String>,
    pub(super) error: Option<LongTaskError>,
    pub(super) has_finished: bool,
}

impl Scenario {
    pub(super) fn sending() -> Self {
        let request = SendMessageRequest {
            message: sent(),
            configuration: None,
            metadata: None,
            tenant: None,
        };
        Self::of(Machine::sending(&request, RetryPolicy::default()))
    }

    /// A message was sent, and this task is its answer.
    pub(super) fn begun() -> Self {
        let mut scenario = Self::sending();
        scenario.came(StreamResponse::Task(submitted(&sent())));
        scenario
    }

    pub(super) fn subscribing() -> Self {
        Self::of(Machine::subscribing(TASK, RetryPolicy::default()))
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
                Action::Emit(TaskEvent::Reconnect(reconnect)) => {
                    self.wants.push(reconnect.cause.name().to_owned())
                }
                Action::Emit(event) => {
                    self.told += 1;
                    self.consumer.hear(&event);
                }
                Action::Pause(pause) => self.wants.push(pause.as_millis().to_string()),
                Action::Subscribe(_) => self.wants.push("subscribe".to_owned()),
                Action::GetTask(_) => self.wants.push("ask".to_owned()),
                Action::Finish => self.has_finished = true,
                Action::Fail(error) => self.error = Some(error),
            }
        }
        &self.wants
    }

    pub(super) fn came(&mut self, event: StreamResponse) -> usize {
        self.happens(Event::Received(event));
        self.told
    }

    pub(super) fn cut(&mut self) -> &[String] {
        self.happens(Event::Failed(Error::new(Below::StreamCut, "cut").into()))
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

    pub(super) fn kind(&self) -> Option<LongTaskErrorKind> {
        self.error.as_ref().map(LongTaskError::kind)
    }
}

pub(super) fn sent() -> Message {
    let mut message = Message::new(Role::User, vec![Part::text("do it")]);
    message.message_id = "sent".to_owned();
    message
}

pub(super) fn below(kind: Below) -> A2AError {
    Error::new(kind, "below").into()
}

/// The task after these events, with an agent that keeps messages.
pub(super) fn task(events: &[StreamResponse]) -> Task {
    events
        .iter()
        .fold(submitted(&sent()), |task, event| after(&task, event, true))
}
