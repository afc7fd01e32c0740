//! The events of a long task's stream.

use std::collections::BTreeMap;
use std::time::Duration;

use a2a::{A2AError, Message, Task, TaskArtifactUpdateEvent, TaskStatus, TaskStatusUpdateEvent};

/// What happens to a task. Each status, message and artifact part comes once, in the agent's order.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum TaskEvent {
    /// A snapshot of the whole task, with what in it is new. One comes at the beginning, after each
    /// reconnect, and whenever the agent sends one.
    CaughtUp(Box<CaughtUp>),
    /// A status update, unchanged.
    Status(TaskStatusUpdateEvent),
    /// An artifact update, unchanged.
    Artifact(TaskArtifactUpdateEvent),
    /// A message of the agent, unchanged. Without a task it is the whole answer. With one it may be
    /// the message of a status that was already outdated when the snapshot came.
    Message(Message),
    /// The stream broke, and the next one is about to be opened.
    Reconnect(Reconnect),
}

impl TaskEvent {
    /// The new status that this event brings, if any.
    pub fn status(&self) -> Option<&TaskStatus> {
        match self {
            Self::Status(update) => Some(&update.status),
            Self::CaughtUp(caught_up) => caught_up.status.as_ref(),
            _ => None,
        }
    }
}

/// A snapshot of a task, and what in it is new.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct CaughtUp {
    /// The task, unchanged.
    pub task: Task,
    /// Its status, if it is new. Messages between the last status and this one are in the history
    /// if the agent keeps them there, and are lost otherwise (A2A 1.0 §3.7).
    pub status: Option<TaskStatus>,
    /// The new messages of its history. That of `status` is not among them.
    pub messages: Vec<Message>,
    /// Its new artifacts and parts, as the updates that lead from the last known state to this one:
    /// with `append`, parts are added to the artifact; without, the artifact is new, or replaces
    /// the known one. A task does not say whether a chunk was the last one.
    pub artifacts: Vec<TaskArtifactUpdateEvent>,
}

impl CaughtUp {
    /// Whether anything in it is new.
    pub fn is_news(&self) -> bool {
        self.status.is_some() || !self.messages.is_empty() || !self.artifacts.is_empty()
    }
}

/// A new subscription after a broken stream.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Reconnect {
    /// How many reconnects there have been, including this one.
    pub number: u64,
    /// Why.
    pub cause: Cause,
    /// The pause before it.
    pub pause: Duration,
    /// The error that the stream or the last attempt ended with, if any.
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

/// Why a task is subscribed to again. A fixed set, for labels. The client
/// knows why a connection closed (GOAWAY, for example): `after` in
/// [`Client::stats`](bowline_http_client::Client::stats) counts it for each new proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// No connection could be opened, or it ended before the call was sent.
    Connection,
    /// The connection ended after the call was sent and before the response began.
    ConnectionLost,
    /// The connection ended in the middle of the stream.
    StreamCut,
    /// The stream ended properly, but the task has not.
    StreamEnded,
    /// A step of the call took longer than its limit.
    TimedOut,
    /// Nothing came within [`RetryPolicy::idle_timeout`](super::RetryPolicy::idle_timeout).
    IdleTimeout,
    /// The agent, or a proxy in front of it, is unavailable for now (HTTP 408, 425, 429, 500, 502,
    /// 503, 504; gRPC CANCELLED, UNKNOWN, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, ABORTED,
    /// UNAVAILABLE).
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
            Self::IdleTimeout => "idle_timeout",
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
    /// Updates that a snapshot already contained, and that were dropped.
    pub repeated: u64,
}

impl Counts {
    /// Reconnects of all causes.
    pub fn reconnects(&self) -> u64 {
        self.reconnects.values().sum()
    }
}
