//! A task's events across connections.
//!
//! - `machine`: what to do next. No I/O, no clock.
//! - `seen`: what has been told, and what of that which comes is new; `digest` tells contents
//!   apart.
//! - `policy`: how often another try is made, and after which pause.
//! - `driver`: the calls, by way of `agent`.
//!
//! It knows nothing of proofs: a stream that is opened again is a request like any other, on
//! whatever connection the transport has, with the proof that fits it.

mod agent;
mod digest;
mod driver;
mod error;
mod event;
mod history;
mod machine;
mod retry;

#[cfg(test)]
mod tests;

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use a2a::{SendMessageRequest, SubscribeToTaskRequest};
use a2a_client::BoxStream;
use futures_util::{Stream, StreamExt, stream};

use self::driver::Driver;
use self::machine::Machine;

pub use self::agent::Agent;
pub use self::error::{LongTaskError, LongTaskErrorKind};
pub use self::event::{CaughtUp, Cause, Counts, Reconnect, TaskEvent};
pub use self::retry::RetryPolicy;

/// A task that outlives connections: a stream of what happens to it, from [`send`](Self::send) or
/// [`subscribe`](Self::subscribe) to its end.
///
/// ```no_run
/// # use a2a::{Message, Part, Role, SendMessageRequest};
/// # async fn example(agent: a2a_client::A2AClient<Box<dyn a2a_client::Transport>>) -> Result<(), bowline_a2a::long_task::LongTaskError> {
/// use bowline_a2a::long_task::{LongTask, RetryPolicy, TaskEvent};
/// use futures_util::StreamExt;
///
/// let message = Message::new(Role::User, vec![Part::text("Write a long report")]);
/// let request = SendMessageRequest { message, configuration: None, metadata: None, tenant: None };
/// let mut task = LongTask::send(agent, request, RetryPolicy::default());
/// while let Some(event) = task.next().await {
///     let event = event?;
///     if let Some(status) = event.status() {
///         println!("{:?}", status.state);
///     }
///     if let TaskEvent::Reconnect(reconnect) = event {
///         println!("again, because of {}", reconnect.cause.name());
///     }
/// }
/// # Ok(()) }
/// ```
///
/// # When the stream breaks
/// The task is subscribed to again (`SubscribeToTask`), at once the first time and after growing
/// pauses as long as nothing new comes: see [`RetryPolicy`]. **The message is never sent a second
/// time**: a stream that breaks before it told anything is an error that says whether the message
/// may have been processed ([`LongTaskErrorKind::Unanswered`]).
///
/// # Each thing once
/// A subscription begins with the task as it stands. [`TaskEvent::CaughtUp`] says what in it is
/// new; updates that follow and are in it already are dropped. Nothing is told that the agent did
/// not say: a status that came and went while no stream was open is known only if the agent keeps
/// messages in the task's history, and then only by its message.
///
/// Two updates can be told apart by a message's id, a status's time, or the contents of an
/// artifact's parts. An agent that sends statuses with neither time nor message may be heard to
/// repeat itself after a reconnect. A part that is just like those that were missed is taken for
/// one of them; then the task is asked for once more before its end is told, and anything that was
/// dropped wrongly comes in a [`CaughtUp`]. An artifact that was replaced twice while no stream was
/// open may be heard to go back and forth. One that comes back shorter than it was told may come
/// from an agent that lags behind: it is left as it was, and the task asked for before its end. Of
/// a task with more than half a million parts, each artifact is told whole whenever the task is.
/// The metadata, names and descriptions of what was told are not compared.
///
/// # The end
/// The stream ends after a terminal state (COMPLETED, FAILED, CANCELED, REJECTED), after a message
/// without a task, and where the agent ends its stream in an interrupted state (INPUT_REQUIRED,
/// AUTH_REQUIRED). A task that ended while no stream was open can be subscribed to no more: then it
/// is asked for (`GetTask`), and told like any other. After an error there is nothing more.
///
/// After the end, the last stream is read out, for a second at most, so that its connection can
/// serve another call: poll until `None`. Dropping a `LongTask` leaves the task alone; `CancelTask`
/// ends it.
pub struct LongTask {
    events: BoxStream<'static, Result<TaskEvent, LongTaskError>>,
    counter: Counter,
}

impl LongTask {
    /// Sends a message (`SendStreamingMessage`) when first polled, and follows the task that it
    /// begins or goes on with. The message itself is not told when it is found in the task's
    /// history.
    pub fn send(agent: impl Into<Agent>, request: SendMessageRequest, policy: RetryPolicy) -> Self {
        let machine = Machine::sending(&request, policy);
        let calls = agent.into().calls();
        Self::driven(Driver::sending(
            calls,
            machine,
            request,
            policy.idle_timeout,
        ))
    }

    /// Follows a task that there is (`SubscribeToTask`). All of it is new at first. One that has
    /// ended is told as it is.
    pub fn subscribe(
        agent: impl Into<Agent>,
        request: SubscribeToTaskRequest,
        policy: RetryPolicy,
    ) -> Self {
        let machine = Machine::subscribing(&request.id, policy);
        let calls = agent.into().calls();
        Self::driven(Driver::subscribing(
            calls,
            machine,
            request,
            policy.idle_timeout,
        ))
    }

    /// What has been counted so far.
    pub fn counts(&self) -> Counts {
        self.counter.counts()
    }

    /// The counts for whoever has not the stream, such as a metrics endpoint.
    pub fn counter(&self) -> Counter {
        self.counter.clone()
    }

    fn driven(driver: Driver) -> Self {
        let counter = Counter(driver.counts());
        let events = stream::unfold(driver, |mut driver| async move {
            let event = driver.next().await?;
            Some((event, driver))
        });
        Self {
            events: Box::pin(events.fuse()),
            counter,
        }
    }
}

impl Stream for LongTask {
    type Item = Result<TaskEvent, LongTaskError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.events.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for LongTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LongTask")
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}

/// A long task's counts, while it runs and after. Clones show the same.
#[derive(Clone, Debug)]
pub struct Counter(Arc<Mutex<Counts>>);

impl Counter {
    /// What has been counted so far.
    pub fn counts(&self) -> Counts {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
