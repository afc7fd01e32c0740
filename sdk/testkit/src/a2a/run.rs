//! A running task: its steps, and the events that they produce.

use a2a::{
    A2AError, Artifact, Message, Part, Role, StreamResponse, Task, TaskArtifactUpdateEvent,
    TaskState, TaskStatus, TaskStatusUpdateEvent,
};
use a2a_server::ExecutorContext;
use futures_util::stream::{self, BoxStream};
use tokio::sync::mpsc;

/// What a task does next.
pub(super) enum Step {
    /// Reports that it has been accepted.
    Accept,
    /// Reports that it is working, with a numbered message.
    Working,
    /// Adds a chunk to its artifact.
    Chunk { text: String, last: bool },
    /// Ends.
    End(TaskState),
    /// Ends without an event: the cancellation has already sent one.
    Quit,
}

/// A running task that a test drives. Each step produces one event, in order; steps after its end
/// have no effect. The first event of an execution is the task itself, as the specification wants
/// it (§3.1.2).
///
/// The official server buffers 32 events for a subscriber that does not read: one that falls
/// further behind gets an internal error. So wait for the client between longer runs of steps.
#[derive(Clone, Debug)]
pub struct Run {
    id: String,
    steps: mpsc::UnboundedSender<Step>,
}

impl Run {
    /// The task's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A status update: WORKING, with a message whose text is the number of this update (1, 2, …)
    /// and whose id is `<task id>/<number>`.
    pub fn working(&self) {
        self.step(Step::Working);
    }

    /// A chunk of the task's one artifact (`output`); `last` says that no other follows.
    pub fn chunk(&self, text: impl Into<String>, last: bool) {
        self.step(Step::Chunk {
            text: text.into(),
            last,
        });
    }

    /// The end: COMPLETED.
    pub fn complete(&self) {
        self.end(TaskState::Completed);
    }

    /// The end, in another state. One that is not terminal (INPUT_REQUIRED, say) ends what the
    /// agent does for now: the next message continues the task.
    pub fn end(&self, state: TaskState) {
        self.step(Step::End(state));
    }

    /// Whether the task has ended, or been cancelled.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.steps.is_closed()
    }

    pub(super) fn new(id: String) -> (Self, mpsc::UnboundedReceiver<Step>) {
        let (steps, receiver) = mpsc::unbounded_channel();
        (Self { id, steps }, receiver)
    }

    pub(super) fn accept(&self) {
        self.step(Step::Accept);
    }

    pub(super) fn quit(&self) {
        self.step(Step::Quit);
    }

    fn step(&self, step: Step) {
        // Steps of a task that is over are dropped.
        let _ = self.steps.send(step);
    }
}

/// The events of a run, for the server.
pub(super) fn events(
    context: ExecutorContext,
    steps: mpsc::UnboundedReceiver<Step>,
    whole_tasks: bool,
) -> BoxStream<'static, Result<StreamResponse, A2AError>> {
    let source = EventSource::new(context, whole_tasks);
    Box::pin(stream::unfold(
        (steps, source),
        |(mut steps, mut source)| async move {
            let event = source.event(steps.recv().await?)?;
            if source.is_over {
                steps.close();
            }
            Some((Ok(event), (steps, source)))
        },
    ))
}

/// A status update without a message, as the answer to a cancellation.
pub(super) fn canceled(context: &ExecutorContext) -> StreamResponse {
    StreamResponse::StatusUpdate(TaskStatusUpdateEvent {
        task_id: context.task_id.clone(),
        context_id: context.context_id.clone(),
        status: status(TaskState::Canceled, None),
        metadata: None,
    })
}

/// The state of one task, as far as its events need it.
struct EventSource {
    task: Task,
    whole_tasks: bool,
    has_begun: bool,
    number: u32,
    is_over: bool,
}

impl EventSource {
    fn new(context: ExecutorContext, whole_tasks: bool) -> Self {
        let mut task = context.stored_task.unwrap_or_else(|| Task {
            id: context.task_id,
            context_id: context.context_id,
            status: status(TaskState::Submitted, None),
            artifacts: None,
            history: None,
            metadata: None,
        });
        // Whether the stored task already has this message depends on the method that it came
        // with.
        let history = task.history.get_or_insert_default();
        if let Some(message) = context.message.filter(|message| !history.contains(message)) {
            history.push(message);
        }
        Self {
            task,
            whole_tasks,
            has_begun: false,
            number: 0,
            is_over: false,
        }
    }

    /// The event of a step; `None` if the run ends without one.
    fn event(&mut self, step: Step) -> Option<StreamResponse> {
        if self.is_over {
            return None;
        }
        let event = match step {
            Step::Accept => StreamResponse::Task(self.task.clone()),
            Step::Working => {
                self.number += 1;
                let mut message =
                    Message::new(Role::Agent, vec![Part::text(self.number.to_string())]);
                message.message_id = format!("{}/{}", self.task.id, self.number);
                message.task_id = Some(self.task.id.clone());
                message.context_id = Some(self.task.context_id.clone());
                self.status(TaskState::Working, Some(message))
            }
            Step::Chunk { text, last } => self.chunk(text, last),
            Step::End(state) => {
                self.is_over = true;
                self.status(state, None)
            }
            Step::Quit => return None,
        };
        let is_first = !std::mem::replace(&mut self.has_begun, true);
        Some(match event {
            StreamResponse::StatusUpdate(_) if is_first || self.whole_tasks => {
                StreamResponse::Task(self.task.clone())
            }
            StreamResponse::ArtifactUpdate(_) if is_first => {
                StreamResponse::Task(self.task.clone())
            }
            event => event,
        })
    }

    fn status(&mut self, state: TaskState, message: Option<Message>) -> StreamResponse {
        let before = std::mem::replace(&mut self.task.status, status(state, message));
        self.task
            .history
            .get_or_insert_default()
            .extend(before.message);
        StreamResponse::StatusUpdate(TaskStatusUpdateEvent {
            task_id: self.task.id.clone(),
            context_id: self.task.context_id.clone(),
            status: self.task.status.clone(),
            metadata: None,
        })
    }

    fn chunk(&mut self, text: String, last: bool) -> StreamResponse {
        let part = Part::text(text);
        let artifacts = self.task.artifacts.get_or_insert_default();
        let append = !artifacts.is_empty();
        let chunk = Artifact {
            artifact_id: "output".to_owned(),
            name: Some("output".to_owned()),
            description: None,
            parts: vec![part.clone()],
            metadata: None,
            extensions: None,
        };
        match artifacts.first_mut() {
            Some(artifact) => artifact.parts.push(part),
            None => artifacts.push(chunk.clone()),
        }
        StreamResponse::ArtifactUpdate(TaskArtifactUpdateEvent {
            task_id: self.task.id.clone(),
            context_id: self.task.context_id.clone(),
            artifact: chunk,
            append: Some(append),
            last_chunk: Some(last),
            metadata: None,
        })
    }
}

/// The server adds the time.
fn status(state: TaskState, message: Option<Message>) -> TaskStatus {
    TaskStatus {
        state,
        message,
        timestamp: None,
    }
}
