//! A machine, driven event by event.

use std::time::Instant;

use a2a::{A2AError, Message, Part, Role, SendMessageRequest, StreamResponse, Task, TaskState};

use super::fixture::{Consumer, TASK, after, submitted};
use crate::error::{Error, ErrorKind as Below};
use crate::long_task::machine::{Action, Event, Machine};
use crate::long_task::{LongTaskError, LongTaskErrorKind, RetryPolicy, TaskEvent};

/// A machine with a clock, and what it has emitted and requested.
pub(super) struct Scenario {
    pub(super) machine: Machine,
    pub(super) now: Instant,
    pub(super) consumer: Consumer,
    /// How many events the last call emitted, without reconnects.
    pub(super) emitted: usize,
    pub(super) requested: Vec<String>,
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
        Self::new(Machine::sending(&request, RetryPolicy::default()))
    }

    /// A message was sent, and this task is its answer.
    pub(super) fn started() -> Self {
        let mut scenario = Self::sending();
        scenario.receive(StreamResponse::Task(submitted(&sent())));
        scenario
    }

    pub(super) fn subscribing() -> Self {
        Self::new(Machine::subscribing(TASK, RetryPolicy::default()))
    }

    pub(super) fn new(machine: Machine) -> Self {
        Self {
            machine,
            now: Instant::now(),
            consumer: Consumer::default(),
            emitted: 0,
            requested: Vec::new(),
            error: None,
            has_finished: false,
        }
    }

    /// Handles an event, and records what the machine emits and requests.
    pub(super) fn handle(&mut self, event: Event) -> Vec<Action> {
        self.requested.clear();
        self.emitted = 0;
        let actions = self.machine.handle(self.now, 1.0, event);
        for action in &actions {
            match action {
                Action::Emit(TaskEvent::Reconnect(reconnect)) => {
                    self.requested.push(reconnect.cause.name().to_owned())
                }
                Action::Emit(event) => {
                    self.emitted += 1;
                    self.consumer.observe(event);
                }
                Action::Pause(pause) => self.requested.push(pause.as_millis().to_string()),
                Action::Subscribe(_) => self.requested.push("subscribe".to_owned()),
                Action::GetTask(_) => self.requested.push("get_task".to_owned()),
                Action::Finish => self.has_finished = true,
                Action::Fail(error) => self.error = Some(error.clone()),
            }
        }
        actions
    }

    /// What the machine then requests: `subscribe`, `get_task`, a pause in milliseconds.
    pub(super) fn happens(&mut self, event: Event) -> &[String] {
        self.handle(event);
        &self.requested
    }

    pub(super) fn receive(&mut self, event: StreamResponse) -> usize {
        self.happens(Event::Received(event));
        self.emitted
    }

    pub(super) fn cut(&mut self) -> &[String] {
        self.cut_actions();
        &self.requested
    }

    pub(super) fn cut_actions(&mut self) -> Vec<Action> {
        self.handle(Event::Failed(Error::new(Below::StreamCut, "cut").into()))
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
