//! Random tasks, random cuts: whatever the connections do, each thing is told once and in order,
//! and the end is the end.

use std::time::{Duration, Instant};

use a2a::{A2AError, Message, Part, Role, SendMessageRequest, StreamResponse, Task, TaskState};
use proptest::collection::vec;
use proptest::prelude::*;

use super::fixture::{Consumer, TASK, after, pieces, status, submitted, told};
use crate::error::{Error, ErrorKind};
use crate::long_task::machine::{Action, Event, Machine};
use crate::long_task::{Cause, LongTaskError, LongTaskErrorKind, RetryPolicy, TaskEvent};

/// How an agent says things.
#[derive(Clone, Copy, Debug)]
struct Manner {
    /// Messages of earlier statuses are kept in the history.
    keeps: bool,
    /// Statuses have a time.
    stamps: bool,
    /// Each part is said once only.
    is_varied: bool,
}

/// What an agent does next.
#[derive(Clone, Debug)]
enum Deed {
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

impl Deed {
    fn replace_nothing(&mut self) {
        if let Self::Piece { append, .. } = self {
            *append = true;
        }
    }
}

/// What a connection goes through, and what happens before it.
#[derive(Clone, Debug)]
struct Weather {
    /// Tries that fail before it.
    failures: u32,
    /// Things that happen while there is none.
    missed: usize,
    /// As many of them, the last ones, come again after the task.
    again: usize,
    /// Events until it breaks, the task among them.
    lasts: usize,
    ends_quietly: bool,
}

const POLICY: RetryPolicy = RetryPolicy {
    max_attempts: 4,
    first_pause: Duration::from_secs(1),
    max_pause: Duration::from_secs(8),
    idle_timeout: None,
};

/// A task's life: its events, and what it was before each of them, and after the last.
struct Life {
    events: Vec<StreamResponse>,
    tasks: Vec<Task>,
}

impl Life {
    fn new(sent: &Message, manner: Manner, deeds: &[Deed]) -> Self {
        let mut tasks = vec![submitted(sent)];
        let mut events = Vec::new();
        let mut live = |event: StreamResponse| {
            tasks.push(after(&tasks[tasks.len() - 1], &event, manner.keeps));
            events.push(event);
        };
        let mut begun = [false; 2];
        for (n, deed) in deeds.iter().enumerate() {
            let at = manner.stamps.then_some(n as i64 + 1);
            live(match deed {
                Deed::Status { state, has_message } => {
                    let state = match state % 3 {
                        0 => TaskState::Working,
                        1 => TaskState::Submitted,
                        _ => TaskState::InputRequired,
                    };
                    let id = (*has_message || !manner.stamps).then(|| format!("m{n}"));
                    told(status(state, at, id.as_deref()))
                }
                Deed::Piece {
                    artifact,
                    append,
                    letters,
                } => {
                    let of = usize::from(artifact % 2);
                    let append = std::mem::replace(&mut begun[of], true) && *append;
                    let texts: Vec<String> = letters
                        .iter()
                        .enumerate()
                        .map(|(i, letter)| match manner.is_varied {
                            true => format!("{n}.{i}"),
                            false => format!("{}", letter % 2),
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
        let at = manner.stamps.then_some(deeds.len() as i64 + 1);
        live(told(status(TaskState::Completed, at, Some("end"))));
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

/// Acts the agent and the network out for a machine.
struct Stage<'a> {
    life: &'a Life,
    machine: Machine,
    now: Instant,
    weather: std::vec::IntoIter<Weather>,
    consumer: Consumer,
    /// Places in the life whose statuses must have been told: they came, or were the current one in
    /// a task that came.
    due: Vec<usize>,
    tries_in_a_row: u32,
    most_tries_in_a_row: u32,
    end: Option<Result<(), LongTaskError>>,
}

impl<'a> Stage<'a> {
    fn new(life: &'a Life, sent: Message, weather: Vec<Weather>) -> Self {
        let request = SendMessageRequest {
            message: sent,
            configuration: None,
            metadata: None,
            tenant: None,
        };
        Self {
            life,
            machine: Machine::sending(&request, POLICY),
            now: Instant::now(),
            weather: weather.into_iter(),
            consumer: Consumer::default(),
            due: Vec::new(),
            tries_in_a_row: 0,
            most_tries_in_a_row: 0,
            end: None,
        }
    }

    /// Runs to the end. `happened` is how much of the life there is so far.
    fn run(&mut self) {
        let mut weather = self.calm();
        let mut happened = 0;
        let mut wants = self.happens(Event::Received(StreamResponse::Task(
            self.life.tasks[0].clone(),
        )));
        wants = self.live(
            wants,
            &mut happened,
            weather.lasts.saturating_sub(1),
            &weather,
        );
        while let Some(want) = wants {
            wants = match want {
                Want::Task => {
                    let task = self.life.tasks[happened].clone();
                    self.happens(Event::GotTask(Ok(task)))
                }
                Want::Subscription if weather.failures > 0 => {
                    weather.failures -= 1;
                    let error = Error::new(ErrorKind::Connection, "away").into();
                    self.happens(Event::Failed(error))
                }
                Want::Subscription => {
                    let heard = happened;
                    happened = (happened + weather.missed).min(self.life.events.len());
                    let wants = self.subscribed(heard, &mut happened, &weather);
                    if wants.is_some() && !matches!(wants, Some(Want::Task)) {
                        weather = self.calm();
                    }
                    wants
                }
            };
        }
    }

    fn calm(&mut self) -> Weather {
        self.weather.next().unwrap_or(Weather {
            failures: 0,
            missed: 0,
            again: 0,
            lasts: usize::MAX,
            ends_quietly: true,
        })
    }

    fn subscribed(
        &mut self,
        heard: usize,
        happened: &mut usize,
        weather: &Weather,
    ) -> Option<Want> {
        if *happened == self.life.events.len() {
            let error = A2AError::unsupported_operation("it has ended");
            return self.happens(Event::Failed(error));
        }
        let mut lasts = weather.lasts;
        if lasts == 0 {
            return self.breaks(weather);
        }
        lasts -= 1;
        self.due.extend(self.last_status(*happened));
        let mut wants = self.happens(Event::Received(StreamResponse::Task(
            self.life.tasks[*happened].clone(),
        )));
        let again = weather.again.min(*happened - heard);
        for place in *happened - again..*happened {
            if wants.is_some() || self.end.is_some() {
                return wants;
            }
            if lasts == 0 {
                return self.breaks(weather);
            }
            lasts -= 1;
            wants = self.happens(Event::Received(self.life.events[place].clone()));
        }
        self.live(wants, happened, lasts, weather)
    }

    /// Events come as they happen, until the stream breaks.
    fn live(
        &mut self,
        wants: Option<Want>,
        happened: &mut usize,
        lasts: usize,
        weather: &Weather,
    ) -> Option<Want> {
        let mut wants = wants;
        let until = happened.saturating_add(lasts).min(self.life.events.len());
        while *happened < until && wants.is_none() && self.end.is_none() {
            let event = self.life.events[*happened].clone();
            if let StreamResponse::StatusUpdate(_) = event {
                self.due.push(*happened);
            }
            *happened += 1;
            wants = self.happens(Event::Received(event));
        }
        if wants.is_some() || self.end.is_some() {
            return wants;
        }
        self.breaks(weather)
    }

    fn breaks(&mut self, weather: &Weather) -> Option<Want> {
        // Where the agent waits for somebody, the quiet end of its stream is the end.
        if weather.ends_quietly && !self.waits() {
            return self.happens(Event::Ended);
        }
        self.happens(Event::Failed(
            Error::new(ErrorKind::StreamCut, "cut").into(),
        ))
    }

    fn waits(&self) -> bool {
        let last = self.consumer.statuses.last();
        last.is_some_and(|status| status.state == TaskState::InputRequired)
    }

    fn last_status(&self, happened: usize) -> Option<usize> {
        let events = &self.life.events[..happened];
        events
            .iter()
            .rposition(|event| matches!(event, StreamResponse::StatusUpdate(_)))
    }

    /// What the machine then wants.
    fn happens(&mut self, event: Event) -> Option<Want> {
        assert!(self.end.is_none(), "something happens after the end");
        self.now += Duration::from_millis(100);
        let mut want = None;
        for action in self.machine.handle(self.now, 0.5, event) {
            assert!(
                want.is_none() && self.end.is_none(),
                "{action:?} comes after the last one"
            );
            match action {
                Action::Emit(event) => self.hear(&event),
                Action::Pause(pause) => {
                    assert!(pause <= POLICY.max_pause);
                    self.now += pause;
                }
                Action::Subscribe(task) => {
                    assert_eq!(task, TASK);
                    self.tries_in_a_row += 1;
                    self.most_tries_in_a_row = self.most_tries_in_a_row.max(self.tries_in_a_row);
                    want = Some(Want::Subscription);
                }
                Action::GetTask(task) => {
                    assert_eq!(task, TASK);
                    want = Some(Want::Task);
                }
                Action::Finish => self.end = Some(Ok(())),
                Action::Fail(error) => self.end = Some(Err(error)),
            }
        }
        want
    }

    fn hear(&mut self, event: &TaskEvent) {
        let is_news = match event {
            TaskEvent::CaughtUp(caught_up) => caught_up.is_news(),
            TaskEvent::Reconnect(_) => false,
            _ => true,
        };
        if is_news {
            self.tries_in_a_row = 0;
        }
        let has_ended = self
            .consumer
            .statuses
            .last()
            .is_some_and(|s| s.state.is_terminal());
        assert!(!has_ended, "{event:?} comes after the end");
        self.consumer.hear(event);
    }
}

enum Want {
    Subscription,
    Task,
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        (any::<u8>(), any::<bool>())
            .prop_map(|(state, has_message)| Deed::Status { state, has_message }),
        (
            any::<u8>(),
            prop::bool::weighted(0.85),
            vec(any::<u8>(), 1..3)
        )
            .prop_map(|(artifact, append, letters)| {
                Deed::Piece {
                    artifact,
                    append,
                    letters,
                }
            }),
    ]
}

fn weather(failures: u32) -> impl Strategy<Value = Weather> {
    (0..=failures, 0..4usize, 0..4usize, 0..4usize, any::<bool>()).prop_map(
        |(failures, missed, again, lasts, ends_quietly)| Weather {
            failures,
            missed,
            again,
            lasts,
            ends_quietly,
        },
    )
}

fn manner(is_varied: bool) -> impl Strategy<Value = Manner> {
    (any::<bool>(), any::<bool>()).prop_map(move |(keeps, stamps)| Manner {
        keeps,
        stamps,
        is_varied,
    })
}

/// An agent that neither keeps messages nor stamps statuses does not send any again, and of an
/// artifact that is replaced, no more than the last update comes again.
fn leave_out_what_nobody_can_tell(manner: Manner, deeds: &mut [Deed], weather: &mut [Weather]) {
    if !manner.keeps && !manner.stamps {
        weather.iter_mut().for_each(|weather| weather.again = 0);
    }
    if weather.iter().any(|weather| weather.again > 1) {
        deeds.iter_mut().for_each(Deed::replace_nothing);
    }
}

fn sent() -> Message {
    let mut message = Message::new(Role::User, vec![Part::text("do it")]);
    message.message_id = "sent".to_owned();
    message
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Each status that there was to hear, once and in order; each message that is kept; each part;
    /// and the end, last.
    #[test]
    fn each_thing_is_told_once_and_in_order_whatever_the_cuts(
        manner in manner(true),
        mut deeds in vec(deed(), 0..14),
        mut weather in vec(weather(1), 0..8),
    ) {
        leave_out_what_nobody_can_tell(manner, &mut deeds, &mut weather);
        let life = Life::new(&sent(), manner, &deeds);
        let mut stage = Stage::new(&life, sent(), weather);
        stage.run();
        if let Some(Err(error)) = &stage.end {
            prop_assert_eq!(error.kind(), LongTaskErrorKind::GaveUp);
            return Ok(());
        }

        // Statuses: the first and the last, all that came, none twice, none out of order.
        let places: Vec<usize> = stage.consumer.statuses[1..].iter().map(|status| place(&life, status)).collect();
        prop_assert!(places.is_sorted_by(|a, b| a < b), "in order and once: {:?}", places);
        prop_assert_eq!(places.last(), Some(&(life.events.len() - 1)), "the end is told");
        for due in &stage.due {
            prop_assert!(places.contains(due), "{} is told: {:?}", due, places);
        }
        // Messages.
        if manner.keeps {
            prop_assert_eq!(&stage.consumer.messages, &life.messages());
        }
        // Artifacts: what the agent has, and no part twice.
        let has = life.tasks.last().and_then(|task| task.artifacts.clone()).unwrap_or_default();
        prop_assert_eq!(&stage.consumer.artifacts, &has);
        let mut parts = stage.consumer.parts.clone();
        parts.sort();
        parts.dedup();
        prop_assert_eq!(parts.len(), stage.consumer.parts.len(), "no part is told twice");
    }

    /// Where parts are alike, one may be told late; in the end what was told is what there is.
    #[test]
    fn parts_that_are_alike_are_right_in_the_end(
        manner in manner(false),
        mut deeds in vec(deed(), 0..14),
        mut weather in vec(weather(0), 0..8),
    ) {
        leave_out_what_nobody_can_tell(manner, &mut deeds, &mut weather);
        let life = Life::new(&sent(), manner, &deeds);
        let mut stage = Stage::new(&life, sent(), weather);
        stage.run();
        if let Some(Ok(())) = stage.end {
            let has = life.tasks.last().and_then(|task| task.artifacts.clone()).unwrap_or_default();
            prop_assert_eq!(&stage.consumer.artifacts, &has);
        }
    }

    /// However long the agent is away, there are so many tries in a row and no more, and then an
    /// error.
    #[test]
    fn tries_that_bring_nothing_are_bounded(
        deeds in vec(deed(), 0..6),
        weather in vec(weather(8), 0..8),
    ) {
        let manner = Manner { keeps: true, stamps: true, is_varied: true };
        let life = Life::new(&sent(), manner, &deeds);
        let mut stage = Stage::new(&life, sent(), weather);
        stage.run();
        prop_assert!(stage.most_tries_in_a_row <= POLICY.max_attempts);
        match stage.end {
            Some(Err(error)) => {
                prop_assert_eq!(error.kind(), LongTaskErrorKind::GaveUp);
                prop_assert_eq!(stage.tries_in_a_row, POLICY.max_attempts);
            }
            Some(Ok(())) => {}
            None => prop_assert!(false, "neither end nor error"),
        }
        let counts = stage.machine.counts();
        let acted = [Cause::Connection, Cause::StreamCut, Cause::StreamEnded];
        prop_assert!(counts.reconnects.keys().all(|cause| acted.contains(cause)));
    }
}

/// Where in the life a status was said: by its message or its time, which no other has.
fn place(life: &Life, status: &a2a::TaskStatus) -> usize {
    let is_it = |event: &StreamResponse| matches!(event, StreamResponse::StatusUpdate(update) if update.status == *status);
    life.events
        .iter()
        .position(is_it)
        .expect("a status that the agent said")
}
