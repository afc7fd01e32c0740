//! How a long task can end without its own end.

use std::fmt;

use a2a::{A2AError, TaskId, error_code};

use super::event::Cause;
use crate::Failure;

/// Why nothing more is told of a task. The task itself may go on.
#[derive(Clone, Debug)]
pub struct Error(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    kind: ErrorKind,
    message: String,
    task: Option<TaskId>,
    error: Option<A2AError>,
    may_have_been_processed: bool,
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The message's stream broke before it told anything, so no task is known to subscribe to. The
    /// message is not sent again (CL-7): [`Error::may_have_been_processed`] says whether that would
    /// be safe.
    Unanswered,
    /// As many tries in a row as [`Patience::tries`](super::Patience::tries) allows brought nothing
    /// new.
    GaveUp,
    /// An error that another try cannot mend: the access token or its binding is refused, there is
    /// no such task, the agent does not let its tasks be subscribed to.
    Refused,
    /// The stream told of another task, which is the agent's mistake.
    OtherTask,
}

impl Error {
    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The task, once it was known: [`LongTask::subscribe`](super::LongTask::subscribe) takes it up
    /// again.
    pub fn task_id(&self) -> Option<&str> {
        self.0.task.as_deref()
    }

    /// The last error there was, if it was one: a stream that ends too soon is none.
    pub fn last(&self) -> Option<&A2AError> {
        self.0.error.as_ref()
    }

    /// What went wrong below A2A, if the last error was there.
    pub fn failure(&self) -> Option<Failure> {
        Failure::of(self.0.error.as_ref()?)
    }

    /// Whether the agent may have acted on the message that was sent (CL-7). False where none was.
    pub fn may_have_been_processed(&self) -> bool {
        self.0.may_have_been_processed
    }

    /// The message was sent, and the agent has said nothing.
    pub(super) fn unanswered(cause: Cause, error: Option<A2AError>) -> Self {
        let may_have_been_processed = error
            .as_ref()
            .and_then(Failure::of)
            .is_none_or(|failure| failure.may_have_been_processed());
        let so = if may_have_been_processed {
            "the agent may have acted on the message, and it is not sent again"
        } else {
            "the agent did not get the message, and it can be sent again"
        };
        let why = shown(cause, error.as_ref());
        Self::new(
            ErrorKind::Unanswered,
            format!("no task is known yet; {so}: {why}"),
            None,
            error,
        )
        .processed(may_have_been_processed)
    }

    /// The agent, or somebody before it, does not take the message.
    pub(super) fn message_refused(error: A2AError) -> Self {
        let may_have_been_processed = match Failure::of(&error) {
            Some(failure) => failure.may_have_been_processed(),
            None => error.code == error_code::INTERNAL_ERROR,
        };
        Self::new(ErrorKind::Refused, error.message.clone(), None, Some(error))
            .processed(may_have_been_processed)
    }

    pub(super) fn refused(task: &str, error: A2AError, before: Option<&A2AError>) -> Self {
        let before = before.map_or(String::new(), |e| format!(" (before that: {})", e.message));
        let message = format!(
            "task {task} can be followed no further: {}{before}",
            error.message
        );
        Self::new(ErrorKind::Refused, message, Some(task), Some(error)).processed(true)
    }

    pub(super) fn gave_up(task: &str, tries: u32, cause: Cause, error: Option<A2AError>) -> Self {
        let why = shown(cause, error.as_ref());
        let message = format!(
            "gave up on task {task} after {tries} tries in a row that brought nothing new: {why}"
        );
        Self::new(ErrorKind::GaveUp, message, Some(task), error).processed(true)
    }

    pub(super) fn other_task(task: &str, other: &str) -> Self {
        let message = format!("the stream of task {task} tells of task {other}");
        Self::new(ErrorKind::OtherTask, message, Some(task), None).processed(true)
    }

    /// Who only subscribed has sent no message.
    pub(super) fn nothing_sent(self) -> Self {
        self.processed(false)
    }

    fn new(kind: ErrorKind, message: String, task: Option<&str>, error: Option<A2AError>) -> Self {
        Self(Box::new(Inner {
            kind,
            message,
            task: task.map(str::to_owned),
            error,
            may_have_been_processed: false,
        }))
    }

    fn processed(mut self, may_have_been: bool) -> Self {
        self.0.may_have_been_processed = may_have_been;
        self
    }
}

fn shown(cause: Cause, error: Option<&A2AError>) -> &str {
    match (error, cause) {
        (Some(error), _) => &error.message,
        (None, Cause::Silence) => "nothing came for too long",
        (None, _) => "the stream ended",
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.error.as_ref().map(|e| e as _)
    }
}
