//! Executors: how an agent handles a message.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use a2a::{A2AError, StreamResponse, TaskId, TaskState};
use a2a_server::{AgentExecutor, ExecutorContext};
use futures_util::stream::{self, BoxStream};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::run::{self, Run};
use crate::task::until;

type Events = BoxStream<'static, Result<StreamResponse, A2AError>>;

/// Answers a message at once, with a completed task whose artifact is the message's text. Three
/// texts are commands:
///
/// - `parameter NAME`: the artifact is the value of that service parameter, or `none`;
/// - `count N`: N status updates, then an artifact in two pieces, then COMPLETED;
/// - `hold`: one status update, then nothing until the task is cancelled.
#[derive(Clone, Debug, Default)]
pub struct Echo {
    runs: Runs,
}

impl AgentExecutor for Echo {
    fn execute(&self, context: ExecutorContext) -> Events {
        let text = text(&context);
        let parameter = parameter(
            &context,
            text.strip_prefix("parameter ").unwrap_or_default(),
        );
        let (run, events) = self.runs.begin(context, StepEvents::Updates);
        match text.split_once(' ').unwrap_or((&text, "")) {
            ("hold", "") => run.working(),
            ("count", number) if number.parse::<u8>().is_ok() => {
                (0..number.parse().unwrap_or(0)).for_each(|_: u8| run.working());
                run.chunk("one ", false);
                run.chunk("two", true);
                run.complete();
            }
            ("parameter", name) if !name.is_empty() => {
                run.chunk(parameter.unwrap_or_else(|| "none".to_owned()), true);
                run.complete();
            }
            _ => {
                run.chunk(text, true);
                run.complete();
            }
        }
        events
    }

    fn cancel(&self, context: ExecutorContext) -> Events {
        self.runs.cancel(&context)
    }
}

/// Runs tasks that a test drives step by step; by itself it only accepts them (SUBMITTED). Clones
/// share their tasks: keep one for the test.
#[derive(Clone, Debug, Default)]
pub struct Stepped {
    runs: Runs,
    step_events: StepEvents,
}

impl Stepped {
    /// Reports each step as a status update. The official server keeps only the last one: a
    /// subscriber cannot recover earlier updates that it missed, as with most agents.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reports each step as the whole task, with every earlier message in its history, so that a
    /// late subscriber can recover what it missed.
    #[must_use]
    pub fn with_history() -> Self {
        Self {
            runs: Runs::default(),
            step_events: StepEvents::Tasks,
        }
    }

    /// The task with this id, once the agent works on it.
    ///
    /// # Panics
    /// After 30 s.
    pub async fn task(&self, id: &str) -> Run {
        self.runs
            .until("a task to begin", |runs| runs.by_id.get(id))
            .await
    }

    /// The task that was begun as the `n`th, from 0, once it is.
    ///
    /// # Panics
    /// After 30 s.
    pub async fn begun(&self, n: usize) -> Run {
        self.runs
            .until("a task to begin", |runs| runs.begun.get(n))
            .await
    }
}

impl AgentExecutor for Stepped {
    fn execute(&self, context: ExecutorContext) -> Events {
        let (run, events) = self.runs.begin(context, self.step_events);
        run.accept();
        events
    }

    fn cancel(&self, context: ExecutorContext) -> Events {
        self.runs.cancel(&context)
    }
}

/// Runs tasks that step by themselves: SUBMITTED, a status update at once and after each interval,
/// then COMPLETED. For measurements over time; tests use [`Stepped`].
#[derive(Clone, Debug)]
pub struct Paced {
    runs: Runs,
    step_events: StepEvents,
    every: Duration,
    steps: u32,
}

impl Paced {
    /// `steps` status updates, one every `every`, and COMPLETED `every` after the last: a task of
    /// `steps` times `every`.
    ///
    /// # Panics
    /// If `every` is zero.
    #[must_use]
    pub fn new(every: Duration, steps: u32) -> Self {
        assert!(!every.is_zero(), "a step takes time");
        Self {
            runs: Runs::default(),
            step_events: StepEvents::Updates,
            every,
            steps,
        }
    }

    /// Reports each step as [`Stepped::with_history`] does.
    #[must_use]
    pub fn with_history(mut self) -> Self {
        self.step_events = StepEvents::Tasks;
        self
    }
}

impl AgentExecutor for Paced {
    fn execute(&self, context: ExecutorContext) -> Events {
        let (run, events) = self.runs.begin(context, self.step_events);
        run.accept();
        let (every, steps) = (self.every, self.steps);
        tokio::spawn(async move {
            let mut ticks = interval(every);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            for _ in 0..steps {
                ticks.tick().await;
                if run.is_over() {
                    return;
                }
                run.working();
            }
            ticks.tick().await;
            run.end(TaskState::Completed);
        });
        events
    }

    fn cancel(&self, context: ExecutorContext) -> Events {
        self.runs.cancel(&context)
    }
}

/// What is sent for a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum StepEvents {
    #[default]
    Updates,
    Tasks,
}

/// The tasks of one executor.
#[derive(Clone, Debug, Default)]
struct Runs(Arc<watch::Sender<Begun>>);

/// Every run that has begun; kept as long as the agent, like the server's tasks.
#[derive(Debug, Default)]
struct Begun {
    begun: Vec<Run>,
    by_id: HashMap<TaskId, Run>,
}

impl Runs {
    fn begin(&self, context: ExecutorContext, step_events: StepEvents) -> (Run, Events) {
        let (run, steps) = Run::new(context.task_id.clone());
        self.0.send_modify(|runs| {
            runs.begun.push(run.clone());
            runs.by_id.insert(context.task_id.clone(), run.clone());
        });
        (
            run,
            run::events(context, steps, step_events == StepEvents::Tasks),
        )
    }

    fn cancel(&self, context: &ExecutorContext) -> Events {
        if let Some(run) = self.0.borrow().by_id.get(&context.task_id) {
            run.quit();
        }
        let event = run::canceled(context);
        Box::pin(stream::once(async move { Ok(event) }))
    }

    async fn until(&self, what: &str, find: impl Fn(&Begun) -> Option<&Run>) -> Run {
        until(&self.0, what, |runs| find(runs).is_some()).await;
        find(&self.0.borrow())
            .cloned()
            .expect("runs are never removed")
    }
}

/// The values of a service parameter. Names are compared case-insensitively, because the bindings
/// differ in case.
fn parameter(context: &ExecutorContext, name: &str) -> Option<String> {
    let mut parameters = context.service_params.iter();
    let values = parameters
        .find(|(key, _)| key.eq_ignore_ascii_case(name))?
        .1;
    Some(values.join(", "))
}

/// The text of the message, joined.
fn text(context: &ExecutorContext) -> String {
    let parts = context.message.iter().flat_map(|message| &message.parts);
    parts.filter_map(|part| part.as_text()).collect()
}
