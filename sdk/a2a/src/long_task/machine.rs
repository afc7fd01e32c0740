//! What a long task does next: what happened goes in, what is to be done comes out. No I/O; the
//! time is an argument.

use std::time::{Duration, Instant};

use a2a::{
    A2AError, SendMessageRequest, StreamResponse, Task, TaskId, TaskState, TaskStatusUpdateEvent,
    error_code,
};

use super::error::Error;
use super::event::{Cause, Counts, Reconnect, TaskEvent};
use super::patience::Patience;
use super::seen::{Seen, Source};
use crate::failure::{ErrorKind, Failure};

/// A stream that was listened to this long was good for something, even if nothing happened.
const STEADY: Duration = Duration::from_secs(30);

/// A stream that ended sooner than this was hasty, whatever it brought.
const HASTE: Duration = Duration::from_secs(1);

/// The decisions of one long task.
#[derive(Debug)]
pub(super) struct Machine {
    patience: Patience,
    seen: Seen,
    counts: Counts,
    task: Option<TaskId>,
    /// Whether a message was sent.
    has_sent: bool,
    phase: Phase,
    /// Tries in a row that have brought nothing new, with the one under way.
    fruitless: u32,
    /// Hasty streams in a row: an agent may have news for each of them, for ever.
    hasty: u32,
    /// Whether the stream at hand has brought something new.
    has_brought: bool,
    /// When the stream at hand told its first.
    listening_since: Option<Instant>,
    last_error: Option<A2AError>,
}

/// What is under way.
#[derive(Debug)]
enum Phase {
    /// The message, or its stream before the first event.
    Sending,
    /// A subscription, or a stream that has begun.
    Following,
    /// The task is asked for, because this error may mean that it has ended.
    Asking(A2AError),
    /// The task is asked for, because it ends, with this update unless that was told, and something
    /// was dropped or held back that may have been new.
    Settling(Option<Box<TaskStatusUpdateEvent>>),
    Over,
}

/// What happened.
#[derive(Debug)]
pub(super) enum Event {
    /// The stream told this.
    Came(StreamResponse),
    /// The stream ended properly.
    Ended,
    /// The call failed, or its stream did.
    Failed(A2AError),
    /// Nothing came for as long as [`Patience::silence`] says.
    Silent,
    /// The answer to [`Action::Ask`].
    Answered(Result<Task, A2AError>),
}

/// What is to be done, in this order.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "an action is moved once or twice, and there are few"
)]
pub(super) enum Action {
    /// Tell this.
    Tell(TaskEvent),
    /// Wait.
    Pause(Duration),
    /// Leave the stream at hand, subscribe to the task, and listen.
    Subscribe(TaskId),
    /// Leave the stream at hand, and get the task.
    Ask(TaskId),
    /// The task has ended, or does nothing for now.
    Finish,
    /// Nothing more can be told.
    Fail(Error),
}

impl Machine {
    /// A message is sent, and its stream listened to.
    pub(super) fn sending(request: &SendMessageRequest, patience: Patience) -> Self {
        let mut machine = Self::new(patience, Phase::Sending);
        machine.seen.know(&request.message);
        machine.has_sent = true;
        machine
    }

    /// This task is subscribed to, and its stream listened to.
    pub(super) fn subscribing(task: &str, patience: Patience) -> Self {
        let mut machine = Self::new(patience, Phase::Following);
        machine.task = Some(task.to_owned());
        machine
    }

    fn new(patience: Patience, phase: Phase) -> Self {
        Self {
            patience,
            seen: Seen::new(),
            counts: Counts::default(),
            task: None,
            has_sent: false,
            phase,
            fruitless: 0,
            hasty: 0,
            has_brought: false,
            listening_since: None,
            last_error: None,
        }
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
            repeated: self.seen.repeated(),
            ..self.counts.clone()
        }
    }

    /// `random`, between 0 and 1, spreads the pauses.
    pub(super) fn handle(&mut self, now: Instant, random: f64, event: Event) -> Vec<Action> {
        if let Phase::Over = self.phase {
            return Vec::new();
        }
        let actions = match event {
            Event::Came(event) => self.came(now, event),
            Event::Ended => self.ended(now, random),
            Event::Failed(error) => self.failed(now, random, error),
            Event::Silent => match self.phase {
                Phase::Asking(_) | Phase::Settling(_) => self.unanswered(now, random, None),
                _ => self.broke(now, random, Break::of(Cause::Silence)),
            },
            Event::Answered(Ok(task)) => self.answered(task),
            Event::Answered(Err(error)) => self.unanswered(now, random, Some(error)),
        };
        if let Some(Action::Finish | Action::Fail(_)) = actions.last() {
            self.phase = Phase::Over;
        }
        actions
    }

    fn came(&mut self, now: Instant, event: StreamResponse) -> Vec<Action> {
        let is_answer = matches!((&event, &self.task), (StreamResponse::Message(_), None));
        if let Err(error) = self.recognise(&event) {
            return vec![self.fail(error)];
        }
        let is_subscription = matches!(self.phase, Phase::Following);
        let is_first = self.listening_since.is_none() && is_subscription;
        self.listening_since.get_or_insert(now);
        self.phase = Phase::Following;
        let told = match event {
            StreamResponse::Task(task) if is_first => {
                let caught_up = self.seen.catch_up(task, Source::Subscription);
                self.has_brought |= caught_up.is_news();
                vec![TaskEvent::CaughtUp(Box::new(caught_up))]
            }
            event => {
                let told = self.seen.update(event);
                self.has_brought |= !told.is_empty();
                told
            }
        };
        if is_answer {
            return finishing(told);
        }
        self.tell(told)
    }

    /// Tells this, and finishes if the task has ended with it.
    fn tell(&mut self, mut told: Vec<TaskEvent>) -> Vec<Action> {
        match told.pop() {
            Some(TaskEvent::Status(end))
                if end.status.state.is_terminal() && self.seen.is_in_doubt() =>
            {
                let mut actions: Vec<Action> = told.into_iter().map(Action::Tell).collect();
                actions.push(Action::Ask(end.task_id.clone()));
                self.phase = Phase::Settling(Some(Box::new(end)));
                actions
            }
            Some(last) => {
                let has_ended = last
                    .status()
                    .is_some_and(|status| status.state.is_terminal());
                told.push(last);
                if has_ended {
                    finishing(told)
                } else {
                    told.into_iter().map(Action::Tell).collect()
                }
            }
            None => Vec::new(),
        }
    }

    fn ended(&mut self, now: Instant, random: f64) -> Vec<Action> {
        let status = self.seen.status();
        let waits = status.is_some_and(|status| is_interrupted(&status.state));
        if let (Phase::Following, true, Some(task)) = (&self.phase, waits, &self.task) {
            if !self.seen.is_in_doubt() {
                return vec![Action::Finish];
            }
            let task = task.clone();
            self.phase = Phase::Settling(None);
            return vec![Action::Ask(task)];
        }
        self.broke(now, random, Break::of(Cause::StreamEnded))
    }

    fn failed(&mut self, now: Instant, random: f64, error: A2AError) -> Vec<Action> {
        match (&self.phase, verdict(&error), &self.task) {
            (Phase::Sending, Verdict::Again(Cause::AgentError) | Verdict::Never, _) => {
                vec![Action::Fail(Error::message_refused(error))]
            }
            // So says an agent of a task that has ended, and one that works on it no longer, of a
            // task that waits for input.
            (Phase::Following, Verdict::Never, Some(task)) if may_have_ended(&error) => {
                let task = task.clone();
                self.phase = Phase::Asking(error);
                vec![Action::Ask(task)]
            }
            (_, Verdict::Never, task) => {
                let error = Error::refused(
                    task.as_deref().unwrap_or_default(),
                    error,
                    self.last_error.as_ref(),
                );
                vec![self.fail(error)]
            }
            (_, Verdict::Again(cause), _) => self.broke(now, random, Break::with(cause, error)),
        }
    }

    fn answered(&mut self, task: Task) -> Vec<Action> {
        if let Err(error) = self.recognise(&StreamResponse::Task(task.clone())) {
            return vec![self.fail(error)];
        }
        let state = task.status.state.clone();
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Settling(end) => {
                let caught_up = self.seen.catch_up(task, Source::Answer);
                let put_right = caught_up
                    .is_news()
                    .then(|| TaskEvent::CaughtUp(Box::new(caught_up)));
                finishing(
                    put_right
                        .into_iter()
                        .chain(end.map(|end| TaskEvent::Status(*end)))
                        .collect(),
                )
            }
            Phase::Asking(error) => {
                let told = TaskEvent::CaughtUp(Box::new(self.seen.catch_up(task, Source::Answer)));
                if state.is_terminal() || is_interrupted(&state) {
                    return finishing(vec![told]);
                }
                let task = self.task.as_deref().unwrap_or_default();
                let error = Error::refused(task, error, self.last_error.as_ref());
                vec![Action::Tell(told), self.fail(error)]
            }
            // Nobody asked.
            _ => Vec::new(),
        }
    }

    /// The task was asked for in vain; without an error, because no answer came in time.
    fn unanswered(&mut self, now: Instant, random: f64, error: Option<A2AError>) -> Vec<Action> {
        if let Phase::Settling(end) = std::mem::replace(&mut self.phase, Phase::Following) {
            // The agent has said how it ends. What is held back is told, what was dropped stays so.
            let held = self.seen.release();
            return finishing(
                held.into_iter()
                    .chain(end.map(|end| TaskEvent::Status(*end)))
                    .collect(),
            );
        }
        let Some(error) = error else {
            return self.broke(now, random, Break::of(Cause::Silence));
        };
        match verdict(&error) {
            Verdict::Again(cause) => self.broke(now, random, Break::with(cause, error)),
            Verdict::Never => {
                let task = self.task.as_deref().unwrap_or_default();
                let error = Error::refused(task, error, self.last_error.as_ref());
                vec![self.fail(error)]
            }
        }
    }

    /// Subscribes again, unless that has been tried often enough.
    fn broke(&mut self, now: Instant, random: f64, broke: Break) -> Vec<Action> {
        let Break { cause, error } = broke;
        let (Phase::Following, Some(task)) = (&self.phase, self.task.clone()) else {
            return vec![Action::Fail(Error::unanswered(cause, error))];
        };
        let since = self.listening_since.take();
        let lasted = since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        let was_steady = lasted >= STEADY;
        self.hasty = if lasted < HASTE {
            self.hasty.saturating_add(1)
        } else {
            0
        };
        if std::mem::take(&mut self.has_brought) || was_steady {
            self.fruitless = 0;
        }
        if self.fruitless == self.patience.tries {
            return vec![self.fail(Error::gave_up(&task, self.fruitless, cause, error))];
        }
        let retry_after = error
            .as_ref()
            .and_then(Failure::of)
            .and_then(|f| f.retry_after());
        let is_overrun = self.hasty > self.patience.tries;
        let pause = self
            .patience
            .pause(self.fruitless.max(is_overrun.into()), retry_after, random);
        self.fruitless += 1;
        self.last_error.clone_from(&error);
        *self.counts.reconnects.entry(cause).or_default() += 1;
        let reconnect = Reconnect {
            number: self.counts.reconnects(),
            cause,
            pause,
            error,
        };
        let mut actions = vec![Action::Tell(TaskEvent::Reconnect(reconnect))];
        if !pause.is_zero() {
            actions.push(Action::Pause(pause));
        }
        actions.push(Action::Subscribe(task));
        actions
    }

    /// Whether an event is of this task. The first one says which this is.
    fn recognise(&mut self, event: &StreamResponse) -> Result<(), Error> {
        let id = match event {
            StreamResponse::Task(task) => Some(&task.id),
            StreamResponse::StatusUpdate(update) => Some(&update.task_id),
            StreamResponse::ArtifactUpdate(update) => Some(&update.task_id),
            // Agents need not put the task's id into one.
            StreamResponse::Message(_) => None,
        };
        match (&self.task, id) {
            (Some(task), Some(id)) if task != id => Err(Error::other_task(task, id)),
            (None, Some(id)) => {
                self.task = Some(id.clone());
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn fail(&self, error: Error) -> Action {
        Action::Fail(if self.has_sent {
            error
        } else {
            error.nothing_sent()
        })
    }
}

/// How a stream broke.
struct Break {
    cause: Cause,
    error: Option<A2AError>,
}

impl Break {
    fn of(cause: Cause) -> Self {
        Self { cause, error: None }
    }

    fn with(cause: Cause, error: A2AError) -> Self {
        let error = Some(error);
        Self { cause, error }
    }
}

/// Whether another try may mend an error.
enum Verdict {
    Again(Cause),
    Never,
}

fn verdict(error: &A2AError) -> Verdict {
    let Some(failure) = Failure::of(error) else {
        return match error.code {
            error_code::INTERNAL_ERROR => Verdict::Again(Cause::AgentError),
            _ => Verdict::Never,
        };
    };
    match failure.kind() {
        ErrorKind::Connection => Verdict::Again(Cause::Connection),
        ErrorKind::MayHaveBeenProcessed => Verdict::Again(Cause::ConnectionLost),
        ErrorKind::StreamCut => Verdict::Again(Cause::StreamCut),
        ErrorKind::TimedOut => Verdict::Again(Cause::TimedOut),
        ErrorKind::Token => Verdict::Again(Cause::Token),
        ErrorKind::Status if failure.passes() => Verdict::Again(Cause::Unavailable),
        _ => Verdict::Never,
    }
}

/// Whether an agent answers a subscription so if the task has ended meanwhile.
fn may_have_ended(error: &A2AError) -> bool {
    matches!(
        error.code,
        error_code::UNSUPPORTED_OPERATION | error_code::TASK_NOT_FOUND
    )
}

/// Whether an agent waits for somebody, so that a stream may end here (A2A 1.0 §3.2.2).
fn is_interrupted(state: &TaskState) -> bool {
    matches!(state, TaskState::InputRequired | TaskState::AuthRequired)
}

fn finishing(told: Vec<TaskEvent>) -> Vec<Action> {
    told.into_iter()
        .map(Action::Tell)
        .chain([Action::Finish])
        .collect()
}
