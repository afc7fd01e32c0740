//! Why a long task could not be followed to its end.

use std::fmt;

use a2a::{A2AError, TaskId, error_code};

use super::event::Cause;
use crate::Error;

/// Why a task can no longer be followed. The task itself may go on.
#[derive(Clone, Debug)]
pub struct LongTaskError(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    kind: LongTaskErrorKind,
    message: String,
    task: Option<TaskId>,
    error: Option<A2AError>,
    may_have_been_processed: bool,
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LongTaskErrorKind {
    /// The message's stream broke before its first event, so no task is known to subscribe to. The
    /// message is not sent again (CL-7): [`LongTaskError::may_have_been_processed`] says whether
    /// that would be safe.
    Unanswered,
    /// The [`max_attempts`](super::RetryPolicy::max_attempts) of the retry policy brought nothing
    /// new.
    GaveUp,
    /// An error that another attempt cannot fix: the access token or its binding is refused, the
    /// task does not exist, the agent does not support subscriptions.
    Refused,
    /// The stream carried an event of another task, which is the agent's mistake.
    OtherTask,
}

impl LongTaskError {
    /// What went wrong.
    pub fn kind(&self) -> LongTaskErrorKind {
        self.0.kind
    }

    /// The task, once it was known: [`LongTask::subscribe`](super::LongTask::subscribe) resumes
    /// it.
    pub fn task_id(&self) -> Option<&str> {
        self.0.task.as_deref()
    }

    /// The last A2A error; `None` if the stream ended without one.
    pub fn last_error(&self) -> Option<&A2AError> {
        self.0.error.as_ref()
    }

    /// What went wrong below A2A, if the last error is one of the transport.
    pub fn transport_error(&self) -> Option<Error> {
        Error::from_a2a(self.0.error.as_ref()?)
    }

    /// Whether the agent may have acted on the message that was sent (CL-7). False if none was
    /// sent.
    pub fn may_have_been_processed(&self) -> bool {
        self.0.may_have_been_processed
    }

    /// The message was sent, and no event came.
    pub(super) fn unanswered(cause: Cause, error: Option<A2AError>) -> Self {
        let may_have_been_processed = error
            .as_ref()
            .and_then(Error::from_a2a)
            .is_none_or(|failure| failure.may_have_been_processed());
        let so = if may_have_been_processed {
            "the agent may have acted on the message, so it is not sent again"
        } else {
            "the agent did not get the message, so it can be sent again"
        };
        let why = reason(cause, error.as_ref());
        Self::new(
            LongTaskErrorKind::Unanswered,
            format!("no task is known yet; {so}: {why}"),
            None,
            error,
        )
        .processed(may_have_been_processed)
    }

    /// The agent, or a proxy in front of it, refused the message.
    pub(super) fn message_refused(error: A2AError) -> Self {
        let may_have_been_processed = match Error::from_a2a(&error) {
            Some(failure) => failure.may_have_been_processed(),
            None => error.code == error_code::INTERNAL_ERROR,
        };
        Self::new(
            LongTaskErrorKind::Refused,
            error.message.clone(),
            None,
            Some(error),
        )
        .processed(may_have_been_processed)
    }

    pub(super) fn refused(task: &str, error: A2AError, before: Option<&A2AError>) -> Self {
        let before = before.map_or(String::new(), |e| format!(" (before that: {})", e.message));
        let message = format!(
            "task {task} can no longer be followed: {}{before}",
            error.message
        );
        Self::new(LongTaskErrorKind::Refused, message, Some(task), Some(error)).processed(true)
    }

    pub(super) fn gave_up(
        task: &str,
        max_attempts: u32,
        cause: Cause,
        error: Option<A2AError>,
    ) -> Self {
        let why = reason(cause, error.as_ref());
        let message = format!(
            "gave up on task {task} after {max_attempts} attempts in a row that brought \
             nothing new: {why}"
        );
        Self::new(LongTaskErrorKind::GaveUp, message, Some(task), error).processed(true)
    }

    pub(super) fn other_task(task: &str, other: &str) -> Self {
        let message = format!("the stream of task {task} has an event of task {other}");
        Self::new(LongTaskErrorKind::OtherTask, message, Some(task), None).processed(true)
    }

    /// For a task that was only subscribed to: no message was sent.
    pub(super) fn nothing_sent(self) -> Self {
        self.processed(false)
    }

    fn new(
        kind: LongTaskErrorKind,
        message: String,
        task: Option<&str>,
        error: Option<A2AError>,
    ) -> Self {
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

fn reason(cause: Cause, error: Option<&A2AError>) -> &str {
    match (error, cause) {
        (Some(error), _) => &error.message,
        (None, Cause::IdleTimeout) => "nothing came within the idle timeout",
        (None, _) => "the stream ended",
    }
}

impl fmt::Display for LongTaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for LongTaskError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.error.as_ref().map(|e| e as _)
    }
}
