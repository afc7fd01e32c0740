//! The state machine of a long task: events go in, actions come out. No I/O; the time is an
//! argument.

use std::time::{Duration, Instant};

use a2a::{
    A2AError, SendMessageRequest, StreamResponse, Task, TaskId, TaskState, TaskStatusUpdateEvent,
    error_code,
};

use super::error::LongTaskError;
use super::event::{Cause, Counts, Reconnect, TaskEvent};
use super::history::{SnapshotSource, TaskHistory};
use super::retry::RetryPolicy;
use crate::error::{Error, ErrorKind};

/// A stream that lasted this long counts as successful, even without news.
const STEADY_STREAM: Duration = Duration::from_secs(30);

/// A stream that ended sooner than this counts as short, whatever it brought.
const SHORT_STREAM: Duration = Duration::from_secs(1);

/// The state of one long task.
#[derive(Debug)]
pub(super) struct Machine {
    policy: RetryPolicy,
    history: TaskHistory,
    counts: Counts,
    task: Option<TaskId>,
    /// Whether a message was sent.
    has_sent: bool,
    phase: Phase,
    /// Attempts in a row that have brought nothing new, including the current one.
    empty_attempts: u32,
    /// Hasty streams in a row: an agent may have news for each of them, for ever.
    short_streams: u32,
    /// Whether the current stream has brought something new.
    has_news: bool,
    /// When the first event of the current stream came.
    listening_since: Option<Instant>,
    last_error: Option<A2AError>,
}

/// What the task is waiting for.
#[derive(Debug)]
enum Phase {
    /// The first event after the message was sent.
    Sending,
    /// The next event of the stream, or the first of a new subscription.
    Following,
    /// The task from `GetTask`, because this error may mean that it has ended.
    CheckingWhetherEnded(A2AError),
    /// The task from `GetTask`, because it has ended and something was dropped or held back that
    /// may have been new. The update is the final one, if it has not been emitted yet.
    ConfirmingEnd(Option<Box<TaskStatusUpdateEvent>>),
    /// Nothing: the task's stream is over.
    Done,
}

/// What happened.
#[derive(Debug)]
pub(super) enum Event {
    /// The stream brought this.
    Received(StreamResponse),
    /// The stream ended properly.
    Ended,
    /// The call failed, or its stream did.
    Failed(A2AError),
    /// Nothing came within [`RetryPolicy::idle_timeout`].
    IdleTimeout,
    /// The response to [`Action::GetTask`].
    GotTask(Result<Task, A2AError>),
}

/// What to do, in this order.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "an action is moved once or twice, and there are few"
)]
pub(super) enum Action {
    /// Pass this on to the caller.
    Emit(TaskEvent),
    /// Wait this long.
    Pause(Duration),
    /// Drop the current stream, subscribe to the task, and read the new stream.
    Subscribe(TaskId),
    /// Drop the current stream, and call `GetTask`.
    GetTask(TaskId),
    /// End the stream: the task has ended, or waits for input.
    Finish,
    /// End the stream with this error.
    Fail(LongTaskError),
}

impl Machine {
    /// Starts with sending a message.
    pub(super) fn sending(request: &SendMessageRequest, policy: RetryPolicy) -> Self {
        let mut machine = Self::new(policy, Phase::Sending);
        machine.history.record_sent(&request.message);
        machine.has_sent = true;
        machine
    }

    /// Starts with subscribing to a task.
    pub(super) fn subscribing(task: &str, policy: RetryPolicy) -> Self {
        let mut machine = Self::new(policy, Phase::Following);
        machine.task = Some(task.to_owned());
        machine
    }

    fn new(policy: RetryPolicy, phase: Phase) -> Self {
        Self {
            policy,
            history: TaskHistory::new(),
            counts: Counts::default(),
            task: None,
            has_sent: false,
            phase,
            empty_attempts: 0,
            short_streams: 0,
            has_news: false,
            listening_since: None,
            last_error: None,
        }
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
            repeated: self.history.repeated(),
            ..self.counts.clone()
        }
    }

    /// Handles an event. `random`, between 0 and 1, varies the pauses.
    pub(super) fn handle(&mut self, now: Instant, random: f64, event: Event) -> Vec<Action> {
        if let Phase::Done = self.phase {
            return Vec::new();
        }
        let actions = match event {
            Event::Received(event) => self.received(now, event),
            Event::Ended => self.ended(now, random),
            Event::Failed(error) => self.failed(now, random, error),
            Event::IdleTimeout => match self.phase {
                Phase::CheckingWhetherEnded(_) | Phase::ConfirmingEnd(_) => {
                    self.get_task_failed(now, random, None)
                }
                _ => self.reconnect(now, random, BrokenStream::without_error(Cause::IdleTimeout)),
            },
            Event::GotTask(Ok(task)) => self.got_task(task),
            Event::GotTask(Err(error)) => self.get_task_failed(now, random, Some(error)),
        };
        if let Some(Action::Finish | Action::Fail(_)) = actions.last() {
            self.phase = Phase::Done;
        }
        actions
    }

    fn received(&mut self, now: Instant, event: StreamResponse) -> Vec<Action> {
        let is_answer = matches!((&event, &self.task), (StreamResponse::Message(_), None));
        if let Err(error) = self.check_task_id(&event) {
            return vec![self.fail(error)];
        }
        let is_subscription = matches!(self.phase, Phase::Following);
        let is_first = self.listening_since.is_none() && is_subscription;
        self.listening_since.get_or_insert(now);
        self.phase = Phase::Following;
        let emitted = match event {
            StreamResponse::Task(task) if is_first => {
                let caught_up = self.history.catch_up(task, SnapshotSource::Subscription);
                self.has_news |= caught_up.is_news();
                vec![TaskEvent::CaughtUp(Box::new(caught_up))]
            }
            event => {
                let emitted = self.history.update(event);
                self.has_news |= !emitted.is_empty();
                emitted
            }
        };
        if is_answer {
            return emit_and_finish(emitted);
        }
        self.emit(emitted)
    }

    /// Emits events, and finishes if the last one ends the task.
    fn emit(&mut self, mut emitted: Vec<TaskEvent>) -> Vec<Action> {
        match emitted.pop() {
            Some(TaskEvent::Status(end))
                if end.status.state.is_terminal() && self.history.is_uncertain() =>
            {
                let mut actions: Vec<Action> = emitted.into_iter().map(Action::Emit).collect();
                actions.push(Action::GetTask(end.task_id.clone()));
                self.phase = Phase::ConfirmingEnd(Some(Box::new(end)));
                actions
            }
            Some(last) => {
                let has_ended = last
                    .status()
                    .is_some_and(|status| status.state.is_terminal());
                emitted.push(last);
                if has_ended {
                    emit_and_finish(emitted)
                } else {
                    emitted.into_iter().map(Action::Emit).collect()
                }
            }
            None => Vec::new(),
        }
    }

    fn ended(&mut self, now: Instant, random: f64) -> Vec<Action> {
        let status = self.history.status();
        let waits = status.is_some_and(|status| is_interrupted(&status.state));
        if let (Phase::Following, true, Some(task)) = (&self.phase, waits, &self.task) {
            if !self.history.is_uncertain() {
                return vec![Action::Finish];
            }
            let task = task.clone();
            self.phase = Phase::ConfirmingEnd(None);
            return vec![Action::GetTask(task)];
        }
        self.reconnect(now, random, BrokenStream::without_error(Cause::StreamEnded))
    }

    fn failed(&mut self, now: Instant, random: f64, error: A2AError) -> Vec<Action> {
        match (&self.phase, retry(&error), &self.task) {
            (Phase::Sending, Retry::Because(Cause::AgentError) | Retry::Never, _) => {
                vec![Action::Fail(LongTaskError::message_refused(error))]
            }
            // Agents answer a subscription with such an error if the task has ended, and some do if
            // it waits for input.
            (Phase::Following, Retry::Never, Some(task)) if may_have_ended(&error) => {
                let task = task.clone();
                self.phase = Phase::CheckingWhetherEnded(error);
                vec![Action::GetTask(task)]
            }
            (_, Retry::Never, task) => {
                let error = LongTaskError::refused(
                    task.as_deref().unwrap_or_default(),
                    error,
                    self.last_error.as_ref(),
                );
                vec![self.fail(error)]
            }
            (_, Retry::Because(cause), _) => {
                self.reconnect(now, random, BrokenStream::with_error(cause, error))
            }
        }
    }

    fn got_task(&mut self, task: Task) -> Vec<Action> {
        if let Err(error) = self.check_task_id(&StreamResponse::Task(task.clone())) {
            return vec![self.fail(error)];
        }
        let state = task.status.state.clone();
        match std::mem::replace(&mut self.phase, Phase::Done) {
            Phase::ConfirmingEnd(end) => {
                let caught_up = self.history.catch_up(task, SnapshotSource::GetTask);
                let correction = caught_up
                    .is_news()
                    .then(|| TaskEvent::CaughtUp(Box::new(caught_up)));
                emit_and_finish(
                    correction
                        .into_iter()
                        .chain(end.map(|end| TaskEvent::Status(*end)))
                        .collect(),
                )
            }
            Phase::CheckingWhetherEnded(error) => {
                let event = TaskEvent::CaughtUp(Box::new(
                    self.history.catch_up(task, SnapshotSource::GetTask),
                ));
                if state.is_terminal() || is_interrupted(&state) {
                    return emit_and_finish(vec![event]);
                }
                let task = self.task.as_deref().unwrap_or_default();
                let error = LongTaskError::refused(task, error, self.last_error.as_ref());
                vec![Action::Emit(event), self.fail(error)]
            }
            // No `GetTask` was under way.
            _ => Vec::new(),
        }
    }

    /// `GetTask` failed; without an error if no response came in time.
    fn get_task_failed(
        &mut self,
        now: Instant,
        random: f64,
        error: Option<A2AError>,
    ) -> Vec<Action> {
        if let Phase::ConfirmingEnd(end) = std::mem::replace(&mut self.phase, Phase::Following) {
            // The end is known. What was held back is emitted, what was dropped stays dropped.
            let held = self.history.release();
            return emit_and_finish(
                held.into_iter()
                    .chain(end.map(|end| TaskEvent::Status(*end)))
                    .collect(),
            );
        }
        let Some(error) = error else {
            return self.reconnect(now, random, BrokenStream::without_error(Cause::IdleTimeout));
        };
        match retry(&error) {
            Retry::Because(cause) => {
                self.reconnect(now, random, BrokenStream::with_error(cause, error))
            }
            Retry::Never => {
                let task = self.task.as_deref().unwrap_or_default();
                let error = LongTaskError::refused(task, error, self.last_error.as_ref());
                vec![self.fail(error)]
            }
        }
    }

    /// Subscribes again, unless there were too many attempts without news.
    fn reconnect(&mut self, now: Instant, random: f64, broken: BrokenStream) -> Vec<Action> {
        let BrokenStream { cause, error } = broken;
        let (Phase::Following, Some(task)) = (&self.phase, self.task.clone()) else {
            return vec![Action::Fail(LongTaskError::unanswered(cause, error))];
        };
        let since = self.listening_since.take();
        let lasted = since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        let was_steady = lasted >= STEADY_STREAM;
        self.short_streams = if lasted < SHORT_STREAM {
            self.short_streams.saturating_add(1)
        } else {
            0
        };
        if std::mem::take(&mut self.has_news) || was_steady {
            self.empty_attempts = 0;
        }
        if self.empty_attempts == self.policy.max_attempts {
            return vec![self.fail(LongTaskError::gave_up(
                &task,
                self.empty_attempts,
                cause,
                error,
            ))];
        }
        let retry_after = error
            .as_ref()
            .and_then(Error::from_a2a)
            .and_then(|f| f.retry_after());
        let are_too_short = self.short_streams > self.policy.max_attempts;
        let pause = self.policy.pause(
            self.empty_attempts.max(are_too_short.into()),
            retry_after,
            random,
        );
        self.empty_attempts += 1;
        self.last_error.clone_from(&error);
        *self.counts.reconnects.entry(cause).or_default() += 1;
        let reconnect = Reconnect {
            number: self.counts.reconnects(),
            cause,
            pause,
            error,
        };
        let mut actions = vec![Action::Emit(TaskEvent::Reconnect(reconnect))];
        if !pause.is_zero() {
            actions.push(Action::Pause(pause));
        }
        actions.push(Action::Subscribe(task));
        actions
    }

    /// Checks that an event belongs to this task. The first event determines the task.
    fn check_task_id(&mut self, event: &StreamResponse) -> Result<(), LongTaskError> {
        let id = match event {
            StreamResponse::Task(task) => Some(&task.id),
            StreamResponse::StatusUpdate(update) => Some(&update.task_id),
            StreamResponse::ArtifactUpdate(update) => Some(&update.task_id),
            // A message need not have the task's id.
            StreamResponse::Message(_) => None,
        };
        match (&self.task, id) {
            (Some(task), Some(id)) if task != id => Err(LongTaskError::other_task(task, id)),
            (None, Some(id)) => {
                self.task = Some(id.clone());
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn fail(&self, error: LongTaskError) -> Action {
        Action::Fail(if self.has_sent {
            error
        } else {
            error.nothing_sent()
        })
    }
}

/// Why a stream broke.
struct BrokenStream {
    cause: Cause,
    error: Option<A2AError>,
}

impl BrokenStream {
    fn without_error(cause: Cause) -> Self {
        Self { cause, error: None }
    }

    fn with_error(cause: Cause, error: A2AError) -> Self {
        let error = Some(error);
        Self { cause, error }
    }
}

/// Whether another attempt may succeed after an error.
enum Retry {
    Because(Cause),
    Never,
}

fn retry(error: &A2AError) -> Retry {
    let Some(failure) = Error::from_a2a(error) else {
        return match error.code {
            error_code::INTERNAL_ERROR => Retry::Because(Cause::AgentError),
            _ => Retry::Never,
        };
    };
    match failure.kind() {
        ErrorKind::Connection => Retry::Because(Cause::Connection),
        ErrorKind::MayHaveBeenProcessed => Retry::Because(Cause::ConnectionLost),
        ErrorKind::StreamCut => Retry::Because(Cause::StreamCut),
        ErrorKind::TimedOut => Retry::Because(Cause::TimedOut),
        ErrorKind::Token => Retry::Because(Cause::Token),
        ErrorKind::Status if failure.is_transient() => Retry::Because(Cause::Unavailable),
        _ => Retry::Never,
    }
}

/// Whether this may be the response to subscribing to a task that has ended.
fn may_have_ended(error: &A2AError) -> bool {
    matches!(
        error.code,
        error_code::UNSUPPORTED_OPERATION | error_code::TASK_NOT_FOUND
    )
}

/// Whether the task waits for the caller, so that its stream may end here (A2A 1.0 §3.2.2).
fn is_interrupted(state: &TaskState) -> bool {
    matches!(state, TaskState::InputRequired | TaskState::AuthRequired)
}

fn emit_and_finish(events: Vec<TaskEvent>) -> Vec<Action> {
    events
        .into_iter()
        .map(Action::Emit)
        .chain([Action::Finish])
        .collect()
}
