//! What a long task's stream tells.

use std::collections::BTreeMap;
use std::time::Duration;

use a2a::{A2AError, Message, Task, TaskArtifactUpdateEvent, TaskStatus, TaskStatusUpdateEvent};

/// What happens to a task. Each status, message and artifact part is told once, in the order in
/// which the agent has them.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum TaskEvent {
    /// The task as a whole came, and this in it is new. It does so at the beginning, after each
    /// reconnect, and whenever the agent likes.
    CaughtUp(Box<CaughtUp>),
    /// The agent's status update, as it came.
    Status(TaskStatusUpdateEvent),
    /// The agent's artifact update, as it came.
    Artifact(TaskArtifactUpdateEvent),
    /// A message of the agent's, as it came. Without a task it is the whole answer; with one it may
    /// be that of a status which the task had left behind when it was caught up with.
    Message(Message),
    /// The stream broke, and another is about to be opened.
    Reconnect(Reconnect),
}

impl TaskEvent {
    /// The status that this event tells, if it is one that was not told before.
    pub fn status(&self) -> Option<&TaskStatus> {
        match self {
            Self::Status(update) => Some(&update.status),
            Self::CaughtUp(caught_up) => caught_up.status.as_ref(),
            _ => None,
        }
    }
}

/// A task as it stands, and what of it was not told before.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct CaughtUp {
    /// The task, as it came.
    pub task: Task,
    /// Its status, if it is new. What an agent said between the status told last and this one it
    /// may have kept in the history, or may have forgotten (A2A 1.0 §3.7): then nobody can tell it.
    pub status: Option<TaskStatus>,
    /// The new messages of its history. That of `status` is not among them.
    pub messages: Vec<Message>,
    /// Its new artifacts and parts, put as the updates that lead from what was told to what there
    /// is: with `append`, parts are added to the artifact; without, the artifact is new, or
    /// replaces what was told of it. Whether a chunk was the last one a task does not say.
    pub artifacts: Vec<TaskArtifactUpdateEvent>,
}

impl CaughtUp {
    /// Whether anything of it is new.
    pub fn is_news(&self) -> bool {
        self.status.is_some() || !self.messages.is_empty() || !self.artifacts.is_empty()
    }
}

/// That a task is subscribed to again, and why.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Reconnect {
    /// How many there have been, with this one.
    pub number: u64,
    /// Why.
    pub cause: Cause,
    /// How long is waited before.
    pub pause: Duration,
    /// The error that the stream or the last try ended with, if it was one.
    pub error: Option<A2AError>,
}

impl PartialEq for Reconnect {
    /// An [`A2AError`] cannot be compared; its code and message can.
    fn eq(&self, other: &Self) -> bool {
        let error = |of: &Self| of.error.as_ref().map(|e| (e.code, e.message.clone()));
        (self.number, self.cause, self.pause) == (other.number, other.cause, other.pause)
            && error(self) == error(other)
    }
}

/// Why a task is subscribed to again. A fixed set, for labels. Why a connection closed, GOAWAY for
/// one, is the client's to say: `after` in [`Client::stats`](bowline_client::Client::stats) counts
/// it for each new proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// No connection could be had, or it ended before the call left.
    Connection,
    /// The connection ended after the call left, and before the answer began.
    ConnectionLost,
    /// The connection ended in the middle of the stream.
    StreamCut,
    /// The stream ended properly, and the task has not.
    StreamEnded,
    /// A step of the call took longer than its limit.
    TimedOut,
    /// Nothing came for as long as [`Patience::silence`](super::Patience::silence) says.
    Silence,
    /// The agent, or something in front of it, has no time now (HTTP 408, 425, 429, 500, 502, 503,
    /// 504; gRPC CANCELLED, UNKNOWN, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, ABORTED, UNAVAILABLE).
    Unavailable,
    /// The token source had no access token to send.
    Token,
    /// The agent reported an internal error.
    AgentError,
}

impl Cause {
    /// The cause's name, for labels and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::ConnectionLost => "connection_lost",
            Self::StreamCut => "stream_cut",
            Self::StreamEnded => "stream_ended",
            Self::TimedOut => "timed_out",
            Self::Silence => "silence",
            Self::Unavailable => "unavailable",
            Self::Token => "token",
            Self::AgentError => "agent_error",
        }
    }
}

/// What a long task has counted so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Reconnects, by cause.
    pub reconnects: BTreeMap<Cause, u64>,
    /// Updates that came again after they had been caught up with, and were not told a second time.
    pub repeated: u64,
}

impl Counts {
    /// Reconnects of all causes.
    pub fn reconnects(&self) -> u64 {
        self.reconnects.values().sum()
    }
}
