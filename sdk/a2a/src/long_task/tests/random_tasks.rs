//! Random tasks over connections that break at random: everything is emitted once and in order, and
//! the end comes last.

use std::time::{Duration, Instant};

use a2a::{A2AError, Message, Part, Role, SendMessageRequest, StreamResponse, Task, TaskState};
use proptest::collection::vec;
use proptest::prelude::*;

use super::fixture::{Consumer, TASK, after, pieces, status, status_update, submitted};
use crate::error::{Error, ErrorKind};
use crate::long_task::machine::{Action, Event, Machine};
use crate::long_task::{Cause, LongTaskError, LongTaskErrorKind, RetryPolicy, TaskEvent};

/// How an agent reports its task.
#[derive(Clone, Copy, Debug)]
struct AgentStyle {
    /// Messages of earlier statuses are kept in the history.
    keeps_messages: bool,
    /// Statuses have a timestamp.
    has_timestamps: bool,
    /// No two parts have the same content.
    are_parts_distinct: bool,
}

/// What an agent does next.
#[derive(Clone, Debug)]
enum AgentStep {
    Status {
        state: u8,
        has_message: bool,
    },
    Piece {
        artifact: u8,
        append: bool,
        letters: Vec<u8>,
    },
}

impl AgentStep {
    fn replace_nothing(&mut self) {
        if let Self::Piece { append, .. } = self {
            *append = true;
        }
    }
}

/// What happens to a connection, and before it.
#[derive(Clone, Debug)]
struct ConnectionPlan {
    /// Attempts that fail before it.
    failures: u32,
    /// Events that happen while there is no connection.
    missed: usize,
    /// How many of those, the last ones, are repeated after the snapshot.
    repeated: usize,
    /// Events until it breaks, including the snapshot.
    max_events: usize,
    ends_properly: bool,
}

const POLICY: RetryPolicy = RetryPolicy {
    max_attempts: 4,
    first_pause: Duration::from_secs(1),
    max_pause: Duration::from_secs(8),
    idle_timeout: None,
};

/// The events of a task, and the task before each of them and after the last.
struct TaskScript {
    events: Vec<StreamResponse>,
    tasks: Vec<Task>,
}

impl TaskScript {
    fn new(sent: &Message, style: AgentStyle, steps: &[AgentStep]) -> Self {
        let mut tasks = vec![submitted(sent)];
        let mut events = Vec::new();
        let mut add = |event: StreamResponse| {
            tasks.push(after(&tasks[tasks.len() - 1], &event, style.keeps_messages));
            events.push(event);
        };
        let mut begun = [false; 2];
        for (n, step) in steps.iter().enumerate() {
            let at = style.has_timestamps.then_some(n as i64 + 1);
            add(match step {
                AgentStep::Status { state, has_message } => {
                    let state = match state % 3 {
                        0 => TaskState::Working,
                        1 => TaskState::Submitted,
                        _ => TaskState::InputRequired,
                    };
                    let id = (*has_message || !style.has_timestamps).then(|| format!("m{n}"));
                    status_update(status(state, at, id.as_deref()))
                }
                AgentStep::Piece {
                    artifact,
                    append,
                    letters,
                } => {
                    let of = usize::from(artifact % 2);
                    let append = std::mem::replace(&mut begun[of], true) && *append;
                    let texts: Vec<String> = letters
                        .iter()
                        .enumerate()
                        .map(|(i, letter)| {
                            if style.are_parts_distinct {
                                format!("{n}.{i}")
                            } else {
                                format!("{}", letter % 2)
                            }
                        })
                        .collect();
                    pieces(
                        ["a", "b"][of],
                        append,
                        &texts.iter().map(String::as_str).collect::<Vec<_>>(),
                    )
                }
            });
        }
        let at = style.has_timestamps.then_some(steps.len() as i64 + 1);
        add(status_update(status(TaskState::Completed, at, Some("end"))));
        Self { events, tasks }
    }

    fn messages(&self) -> Vec<String> {
        let statuses = self.events.iter().filter_map(|event| match event {
            StreamResponse::StatusUpdate(update) => update.status.message.as_ref(),
            _ => None,
        });
        statuses.map(|message| message.message_id.clone()).collect()
    }
}

/// Simulates the agent and the network for a machine.
struct Simulation<'a> {
    script: &'a TaskScript,
    machine: Machine,
    now: Instant,
    plans: std::vec::IntoIter<ConnectionPlan>,
    consumer: Consumer,
    /// Indexes of the statuses that must have been emitted: they came, or were current in a
    /// snapshot.
    expected: Vec<usize>,
    attempts_in_a_row: u32,
    max_attempts_in_a_row: u32,
    end: Option<Result<(), LongTaskError>>,
}

impl<'a> Simulation<'a> {
    fn new(script: &'a TaskScript, sent: Message, plans: Vec<ConnectionPlan>) -> Self {
        let request = SendMessageRequest {
            message: sent,
            configuration: None,
            metadata: None,
            tenant: None,
        };
        Self {
            script,
            machine: Machine::sending(&request, POLICY),
            now: Instant::now(),
            plans: plans.into_iter(),
            consumer: Consumer::default(),
            expected: Vec::new(),
            attempts_in_a_row: 0,
            max_attempts_in_a_row: 0,
            end: None,
        }
    }

    /// Runs to the end. `happened` counts the events of the script so far.
    fn run(&mut self) {
        let mut plan = self.next_plan();
        let mut happened = 0;
        let mut requests = self.handle(Event::Received(StreamResponse::Task(
            self.script.tasks[0].clone(),
        )));
        requests = self.deliver(
            requests,
            &mut happened,
            plan.max_events.saturating_sub(1),
            &plan,
        );
        while let Some(request) = requests {
            requests = match request {
                Request::Task => {
                    let task = self.script.tasks[happened].clone();
                    self.handle(Event::GotTask(Ok(task)))
                }
                Request::Subscription if plan.failures > 0 => {
                    plan.failures -= 1;
                    let error = Error::new(ErrorKind::Connection, "away").into();
                    self.handle(Event::Failed(error))
                }
                Request::Subscription => {
                    let known = happened;
                    happened = (happened + plan.missed).min(self.script.events.len());
                    let requests = self.subscribed(known, &mut happened, &plan);
                    if requests.is_some() && !matches!(requests, Some(Request::Task)) {
                        plan = self.next_plan();
                    }
                    requests
                }
            };
        }
    }

    fn next_plan(&mut self) -> ConnectionPlan {
        self.plans.next().unwrap_or(ConnectionPlan {
            failures: 0,
            missed: 0,
            repeated: 0,
            max_events: usize::MAX,
            ends_properly: true,
        })
    }

    fn subscribed(
        &mut self,
        known: usize,
        happened: &mut usize,
        plan: &ConnectionPlan,
    ) -> Option<Request> {
        if *happened == self.script.events.len() {
            let error = A2AError::unsupported_operation("it has ended");
            return self.handle(Event::Failed(error));
        }
        let mut max_events = plan.max_events;
        if max_events == 0 {
            return self.breaks(plan);
        }
        max_events -= 1;
        self.expected.extend(self.last_status(*happened));
        let mut requests = self.handle(Event::Received(StreamResponse::Task(
            self.script.tasks[*happened].clone(),
        )));
        let repeated = plan.repeated.min(*happened - known);
        for index in *happened - repeated..*happened {
            if requests.is_some() || self.end.is_some() {
                return requests;
            }
            if max_events == 0 {
                return self.breaks(plan);
            }
            max_events -= 1;
            requests = self.handle(Event::Received(self.script.events[index].clone()));
        }
        self.deliver(requests, happened, max_events, plan)
    }

    /// Delivers events as they happen, until the stream breaks.
    fn deliver(
        &mut self,
        requests: Option<Request>,
        happened: &mut usize,
        max_events: usize,
        plan: &ConnectionPlan,
    ) -> Option<Request> {
        let mut requests = requests;
        let until = happened
            .saturating_add(max_events)
            .min(self.script.events.len());
        while *happened < until && requests.is_none() && self.end.is_none() {
            let event = self.script.events[*happened].clone();
            if let StreamResponse::StatusUpdate(_) = event {
                self.expected.push(*happened);
            }
            *happened += 1;
            requests = self.handle(Event::Received(event));
        }
        if requests.is_some() || self.end.is_some() {
            return requests;
        }
        self.breaks(plan)
    }

    fn breaks(&mut self, plan: &ConnectionPlan) -> Option<Request> {
        // If the task waits for input, the proper end of its stream is the end.
        if plan.ends_properly && !self.waits() {
            return self.handle(Event::Ended);
        }
        self.handle(Event::Failed(
            Error::new(ErrorKind::StreamCut, "cut").into(),
        ))
    }

    fn waits(&self) -> bool {
        let last = self.consumer.statuses.last();
        last.is_some_and(|status| status.state == TaskState::InputRequired)
    }

    fn last_status(&self, happened: usize) -> Option<usize> {
        let events = &self.script.events[..happened];
        events
            .iter()
            .rposition(|event| matches!(event, StreamResponse::StatusUpdate(_)))
    }

    /// Handles an event, and returns what the machine then requests.
    fn handle(&mut self, event: Event) -> Option<Request> {
        assert!(self.end.is_none(), "something happens after the end");
        self.now += Duration::from_millis(100);
        let mut request = None;
        for action in self.machine.handle(self.now, 0.5, event) {
            assert!(
                request.is_none() && self.end.is_none(),
                "{action:?} comes after the last one"
            );
            match action {
                Action::Emit(event) => self.observe(&event),
                Action::Pause(pause) => {
                    assert!(pause <= POLICY.max_pause);
                    self.now += pause;
                }
                Action::Subscribe(task) => {
                    assert_eq!(task, TASK);
                    self.attempts_in_a_row += 1;
                    self.max_attempts_in_a_row =
                        self.max_attempts_in_a_row.max(self.attempts_in_a_row);
                    request = Some(Request::Subscription);
                }
                Action::GetTask(task) => {
                    assert_eq!(task, TASK);
                    request = Some(Request::Task);
                }
                Action::Finish => self.end = Some(Ok(())),
                Action::Fail(error) => self.end = Some(Err(error)),
            }
        }
        request
    }

    fn observe(&mut self, event: &TaskEvent) {
        let is_news = match event {
            TaskEvent::CaughtUp(caught_up) => caught_up.is_news(),
            TaskEvent::Reconnect(_) => false,
            _ => true,
        };
        if is_news {
            self.attempts_in_a_row = 0;
        }
        let has_ended = self
            .consumer
            .statuses
            .last()
            .is_some_and(|s| s.state.is_terminal());
        assert!(!has_ended, "{event:?} comes after the end");
        self.consumer.observe(event);
    }
}

enum Request {
    Subscription,
    Task,
}

fn step() -> impl Strategy<Value = AgentStep> {
    prop_oneof![
        (any::<u8>(), any::<bool>())
            .prop_map(|(state, has_message)| AgentStep::Status { state, has_message }),
        (
            any::<u8>(),
            prop::bool::weighted(0.85),
            vec(any::<u8>(), 1..3)
        )
            .prop_map(|(artifact, append, letters)| {
                AgentStep::Piece {
                    artifact,
                    append,
                    letters,
                }
            }),
    ]
}

fn plan(failures: u32) -> impl Strategy<Value = ConnectionPlan> {
    (0..=failures, 0..4usize, 0..4usize, 0..4usize, any::<bool>()).prop_map(
        |(failures, missed, repeated, max_events, ends_properly)| ConnectionPlan {
            failures,
            missed,
            repeated,
            max_events,
            ends_properly,
        },
    )
}

fn style(are_parts_distinct: bool) -> impl Strategy<Value = AgentStyle> {
    (any::<bool>(), any::<bool>()).prop_map(move |(keeps_messages, has_timestamps)| AgentStyle {
        keeps_messages,
        has_timestamps,
        are_parts_distinct,
    })
}

/// Excludes what no client could recognise: repeated statuses with neither message nor timestamp,
/// and more than one repeated update where artifacts are replaced.
fn exclude_ambiguous_cases(
    style: AgentStyle,
    steps: &mut [AgentStep],
    plans: &mut [ConnectionPlan],
) {
    if !style.keeps_messages && !style.has_timestamps {
        plans.iter_mut().for_each(|plan| plan.repeated = 0);
    }
    if plans.iter().any(|plan| plan.repeated > 1) {
        steps.iter_mut().for_each(AgentStep::replace_nothing);
    }
}

fn sent() -> Message {
    let mut message = Message::new(Role::User, vec![Part::text("do it")]);
    message.message_id = "sent".to_owned();
    message
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Each status that was visible, once and in order; each message that is kept; each part; and
    /// the end last.
    #[test]
    fn everything_is_emitted_once_and_in_order_wherever_streams_break(
        style in style(true),
        mut steps in vec(step(), 0..14),
        mut plans in vec(plan(1), 0..8),
    ) {
        exclude_ambiguous_cases(style, &mut steps, &mut plans);
        let script = TaskScript::new(&sent(), style, &steps);
        let mut simulation = Simulation::new(&script, sent(), plans);
        simulation.run();
        if let Some(Err(error)) = &simulation.end {
            prop_assert_eq!(error.kind(), LongTaskErrorKind::GaveUp);
            return Ok(());
        }

        // Statuses: the first and the last, all that came, none twice, none out of order.
        let statuses = simulation.consumer.statuses[1..].iter();
        let indexes: Vec<usize> = statuses.map(|status| index_of(&script, status)).collect();
        prop_assert!(indexes.is_sorted_by(|a, b| a < b), "in order and once: {:?}", indexes);
        prop_assert_eq!(indexes.last(), Some(&(script.events.len() - 1)), "the end is emitted");
        for expected in &simulation.expected {
            prop_assert!(indexes.contains(expected), "{} is emitted: {:?}", expected, indexes);
        }
        // Messages.
        if style.keeps_messages {
            prop_assert_eq!(&simulation.consumer.messages, &script.messages());
        }
        // Artifacts: what the agent has, and no part twice.
        let has = script.tasks.last().and_then(|task| task.artifacts.clone()).unwrap_or_default();
        prop_assert_eq!(&simulation.consumer.artifacts, &has);
        let mut parts = simulation.consumer.parts.clone();
        parts.sort();
        parts.dedup();
        prop_assert_eq!(parts.len(), simulation.consumer.parts.len(), "no part is emitted twice");
    }

    /// Of parts with the same content, one may be emitted late. In the end all are there.
    #[test]
    fn parts_with_the_same_content_are_complete_in_the_end(
        style in style(false),
        mut steps in vec(step(), 0..14),
        mut plans in vec(plan(0), 0..8),
    ) {
        exclude_ambiguous_cases(style, &mut steps, &mut plans);
        let script = TaskScript::new(&sent(), style, &steps);
        let mut simulation = Simulation::new(&script, sent(), plans);
        simulation.run();
        if let Some(Ok(())) = simulation.end {
            let last = script.tasks.last();
            let has = last.and_then(|task| task.artifacts.clone()).unwrap_or_default();
            prop_assert_eq!(&simulation.consumer.artifacts, &has);
        }
    }

    /// However long the agent is unreachable, attempts in a row are limited, and an error follows.
    #[test]
    fn attempts_that_bring_nothing_are_limited(
        steps in vec(step(), 0..6),
        plans in vec(plan(8), 0..8),
    ) {
        let style = AgentStyle {
            keeps_messages: true,
            has_timestamps: true,
            are_parts_distinct: true,
        };
        let script = TaskScript::new(&sent(), style, &steps);
        let mut simulation = Simulation::new(&script, sent(), plans);
        simulation.run();
        prop_assert!(simulation.max_attempts_in_a_row <= POLICY.max_attempts);
        match simulation.end {
            Some(Err(error)) => {
                prop_assert_eq!(error.kind(), LongTaskErrorKind::GaveUp);
                prop_assert_eq!(simulation.attempts_in_a_row, POLICY.max_attempts);
            }
            Some(Ok(())) => {}
            None => prop_assert!(false, "neither end nor error"),
        }
        let counts = simulation.machine.counts();
        let simulated = [Cause::Connection, Cause::StreamCut, Cause::StreamEnded];
        prop_assert!(counts.reconnects.keys().all(|cause| simulated.contains(cause)));
    }
}

/// The index of a status, which its message or timestamp makes unique.
fn index_of(script: &TaskScript, status: &a2a::TaskStatus) -> usize {
    let is_it = |event: &StreamResponse| matches!(event, StreamResponse::StatusUpdate(update) if update.status == *status);
    script
        .events
        .iter()
        .position(is_it)
        .expect("a status of the script")
}
