//! Executors: what an agent does with a message.

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
    fn execute(
        &self,
        context: ExecutorContext,
    ) -> BoxStream<'static, Result<StreamResponse, A2AError>> {
        let text = text(&context);
        let parameter = parameter(
            &context,
            text.strip_prefix("parameter ").unwrap_or_default(),
        );
        let (run, events) = self.runs.begin(context, Telling::Updates);
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

    fn cancel(
        &self,
        context: ExecutorContext,
    ) -> BoxStream<'static, Result<StreamResponse, A2AError>> {
        self.runs.cancel(&context)
    }
}

/// Runs tasks that a test drives, step by step; of itself it does no more than accept them
/// (SUBMITTED). Clones share their tasks: keep one for the test.
#[derive(Clone, Debug, Default)]
pub struct Stepped {
    runs: Runs,
    telling: Telling,
}

impl Stepped {
    /// Each step is told as a status update. The official server keeps the last one only: what a
    /// subscriber missed before it is lost to him, as it is with most agents.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Each step is told as the whole task, with every earlier message in its history: who
    /// subscribes late can learn what he missed.
    #[must_use]
    pub fn with_history() -> Self {
        Self {
            runs: Runs::default(),
            telling: Telling::Tasks,
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
    fn execute(
        &self,
        context: ExecutorContext,
    ) -> BoxStream<'static, Result<StreamResponse, A2AError>> {
        let (run, events) = self.runs.begin(context, self.telling);
        run.accept();
        events
    }

    fn cancel(
        &self,
        context: ExecutorContext,
    ) -> BoxStream<'static, Result<StreamResponse, A2AError>> {
        self.runs.cancel(&context)
    }
}

/// Runs tasks that step of themselves: SUBMITTED, a status update at once and after each interval,
/// then COMPLETED. For runs that are about time; tests use [`Stepped`].
#[derive(Clone, Debug)]
pub struct Paced {
    runs: Runs,
    telling: Telling,
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
            telling: Telling::Updates,
            every,
            steps,
        }
    }

    /// Tells each step as [`Stepped::with_history`] does.
    #[must_use]
    pub fn with_history(mut self) -> Self {
        self.telling = Telling::Tasks;
        self
    }
}

impl AgentExecutor for Paced {
    fn execute(
        &self,
        context: ExecutorContext,
    ) -> BoxStream<'static, Result<StreamResponse, A2AError>> {
        let (run, events) = self.runs.begin(context, self.telling);
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

    fn cancel(
        &self,
        context: ExecutorContext,
    ) -> BoxStream<'static, Result<StreamResponse, A2AError>> {
        self.runs.cancel(&context)
    }
}

/// How a step is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Telling {
    #[default]
    Updates,
    Tasks,
}

/// The tasks of one executor.
#[derive(Clone, Debug, Default)]
struct Runs(Arc<watch::Sender<Begun>>);

/// Every run that has been begun, kept as long as the agent, as the server keeps its tasks.
#[derive(Debug, Default)]
struct Begun {
    begun: Vec<Run>,
    by_id: HashMap<TaskId, Run>,
}

impl Runs {
    fn begin(
        &self,
        context: ExecutorContext,
        telling: Telling,
    ) -> (Run, BoxStream<'static, Result<StreamResponse, A2AError>>) {
        let (run, steps) = Run::new(context.task_id.clone());
        self.0.send_modify(|runs| {
            runs.begun.push(run.clone());
            runs.by_id.insert(context.task_id.clone(), run.clone());
        });
        (run, run::events(context, steps, telling == Telling::Tasks))
    }

    fn cancel(
        &self,
        context: &ExecutorContext,
    ) -> BoxStream<'static, Result<StreamResponse, A2AError>> {
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

/// The values of a service parameter, whose name is compared without case: the bindings differ
/// there.
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
