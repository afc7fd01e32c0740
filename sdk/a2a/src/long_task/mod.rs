//! A task's events across connections.
//!
//! - `machine`: what to do next. No I/O, no clock.
//! - `history`: what has been emitted, and which parts of what comes are new; `digest` compares
//!   contents.
//! - `retry`: how often it subscribes again, and after which pause.
//! - `driver`: makes the calls through `agent`.
//!
//! It knows nothing of proofs: a new subscription is a request like any other, and the client adds
//! the proof that fits its connection.

mod agent;
mod digest;
mod driver;
mod error;
mod event;
mod history;
mod machine;
mod retry;
mod search;

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
/// # use a2a_client::{A2AClient, Transport};
/// # use bowline_a2a::long_task::LongTaskError;
/// # async fn example(agent: A2AClient<Box<dyn Transport>>) -> Result<(), LongTaskError> {
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
///         println!("reconnecting because of {}", reconnect.cause.name());
///     }
/// }
/// # Ok(()) }
/// ```
///
/// # When the stream breaks
/// The task is subscribed to again (`SubscribeToTask`), at once the first time and after growing
/// pauses as long as nothing new comes: see [`RetryPolicy`]. **The message is never sent a second
/// time**: a stream that breaks before its first event is an error that says whether the message
/// may have been processed ([`LongTaskErrorKind::Unanswered`]).
///
/// # Everything comes once
/// A subscription begins with a snapshot of the task. [`TaskEvent::CaughtUp`] says what in it is
/// new; updates that follow and are in the snapshot already are dropped. Nothing is made up: a
/// status that came and went while no stream was open is known only if the agent keeps messages in
/// the task's history, and then only by its message.
///
/// Updates are identified by a message's id, a status's timestamp, or the contents of an artifact's
/// parts. This has limits:
///
/// - Statuses with neither timestamp nor message may come twice after a reconnect.
/// - A part with the same content as a missed one is taken for that one. Then `GetTask` is called
///   before the end, and anything that was dropped wrongly comes in a [`CaughtUp`].
/// - An artifact that was replaced twice while no stream was open may go back and forth.
/// - An artifact that comes back shorter may be from an outdated snapshot. It is left as it was,
///   and `GetTask` is called before the end.
/// - Of a task with more than half a million parts, each snapshot brings every artifact in full.
/// - Metadata, names and descriptions are not compared.
///
/// # The end
/// The stream ends after a terminal state (COMPLETED, FAILED, CANCELED, REJECTED), after a message
/// without a task, and where the agent ends its stream in an interrupted state (INPUT_REQUIRED,
/// AUTH_REQUIRED). A task that ended while no stream was open cannot be subscribed to. Then
/// `GetTask` fetches it. An error is the last item.
///
/// After the end, the last stream is drained for a second at most, so that its connection can serve
/// another call: poll until `None`. Dropping a `LongTask` leaves the task alone; `CancelTask`
/// ends it.
pub struct LongTask {
    events: BoxStream<'static, Result<TaskEvent, LongTaskError>>,
    counter: Counter,
}

impl LongTask {
    /// Sends a message (`SendStreamingMessage`) when first polled, and follows the task that it
    /// begins or continues. The message itself is not emitted when it is in the task's history.
    pub fn send(agent: impl Into<Agent>, request: SendMessageRequest, policy: RetryPolicy) -> Self {
        let machine = Machine::sending(&request, policy);
        let calls = agent.into().calls();
        Self::from_driver(Driver::sending(
            calls,
            machine,
            request,
            policy.idle_timeout,
        ))
    }

    /// Follows an existing task (`SubscribeToTask`). All of it is new at first. Of a task that has
    /// ended, the stream brings its final state.
    pub fn subscribe(
        agent: impl Into<Agent>,
        request: SubscribeToTaskRequest,
        policy: RetryPolicy,
    ) -> Self {
        let machine = Machine::subscribing(&request.id, policy);
        let calls = agent.into().calls();
        Self::from_driver(Driver::subscribing(
            calls,
            machine,
            request,
            policy.idle_timeout,
        ))
    }

    /// The counts so far.
    pub fn counts(&self) -> Counts {
        self.counter.counts()
    }

    /// The counts, for code that does not own the stream, such as a metrics endpoint.
    pub fn counter(&self) -> Counter {
        self.counter.clone()
    }

    fn from_driver(driver: Driver) -> Self {
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

/// A long task's counts, during and after its run. Clones share them.
#[derive(Clone, Debug)]
pub struct Counter(Arc<Mutex<Counts>>);

impl Counter {
    /// The counts so far.
    pub fn counts(&self) -> Counts {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
