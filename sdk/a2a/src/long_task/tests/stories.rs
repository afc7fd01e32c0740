//! The machine, story by story.

use std::time::{Duration, Instant};

use a2a::{A2AError, Message, Part, Role, SendMessageRequest, StreamResponse, Task, TaskState};
use serde_json::json;

use super::world::{Consumer, TASK, after, completed, message, pieces, status, submitted, told, working};
use crate::failure::{Failure, Kind as Below};
use crate::long_task::digest::Digests;
use crate::long_task::machine::{Action, Event, Machine};
use crate::long_task::{Cause, Error, Kind, Patience, TaskEvent};

/// A machine with a clock, and what it has told and wanted.
struct Story {
    machine: Machine,
    now: Instant,
    consumer: Consumer,
    told: usize,
    wants: Vec<String>,
    error: Option<Error>,
    has_finished: bool,
}

impl Story {
    fn sending() -> Self {
        let request = SendMessageRequest {
            message: sent(),
            configuration: None,
            metadata: None,
            tenant: None,
        };
        Self::of(Machine::sending(&request, Patience::default()))
    }

    /// A message was sent, and this task is its answer.
    fn begun() -> Self {
        let mut story = Self::sending();
        story.came(StreamResponse::Task(submitted(&sent())));
        story
    }

    fn subscribing() -> Self {
        Self::of(Machine::subscribing(TASK, Patience::default()))
    }

    fn of(machine: Machine) -> Self {
        Self {
            machine,
            now: Instant::now(),
            consumer: Consumer::default(),
            told: 0,
            wants: Vec::new(),
            error: None,
            has_finished: false,
        }
    }

    /// What is wanted then: `subscribe`, `ask`, a pause in milliseconds. How many things are told, without reconnects, is noted.
    fn happens(&mut self, event: Event) -> &[String] {
        self.wants.clear();
        self.told = 0;
        for action in self.machine.handle(self.now, 1.0, event) {
            match action {
                Action::Tell(TaskEvent::Reconnect(reconnect)) => self.wants.push(reconnect.cause.name().to_owned()),
                Action::Tell(event) => {
                    self.told += 1;
                    self.consumer.hear(&event);
                }
                Action::Pause(pause) => self.wants.push(pause.as_millis().to_string()),
                Action::Subscribe(_) => self.wants.push("subscribe".to_owned()),
                Action::Ask(_) => self.wants.push("ask".to_owned()),
                Action::Finish => self.has_finished = true,
                Action::Fail(error) => self.error = Some(error),
            }
        }
        &self.wants
    }

    fn came(&mut self, event: StreamResponse) -> usize {
        self.happens(Event::Came(event));
        self.told
    }

    fn cut(&mut self) -> &[String] {
        self.happens(Event::Failed(Failure::new(Below::StreamCut, "cut").into()))
    }

    fn states(&self) -> Vec<TaskState> {
        self.consumer
            .statuses
            .iter()
            .map(|status| status.state.clone())
            .collect()
    }

    fn texts(&self, artifact: &str) -> Vec<&str> {
        let artifacts = self.consumer.artifacts.iter().filter(|a| a.artifact_id == artifact);
        artifacts
            .flat_map(|a| a.parts.iter().filter_map(Part::as_text))
            .collect()
    }

    fn kind(&self) -> Option<Kind> {
        self.error.as_ref().map(Error::kind)
    }
}

fn sent() -> Message {
    let mut message = Message::new(Role::User, vec![Part::text("do it")]);
    message.message_id = "sent".to_owned();
    message
}

fn below(kind: Below) -> A2AError {
    Failure::new(kind, "below").into()
}

/// The task after these events, with an agent that keeps messages.
fn task(events: &[StreamResponse]) -> Task {
    events
        .iter()
        .fold(submitted(&sent()), |task, event| after(&task, event, true))
}

#[test]
fn a_message_whose_stream_broke_before_it_told_anything_is_not_sent_again_and_the_error_says_what_that_means() {
    for (event, may_have_been_processed) in [
        (Event::Failed(below(Below::Connection)), false),
        (Event::Failed(below(Below::Token)), false),
        (Event::Failed(below(Below::MayHaveBeenProcessed)), true),
        (Event::Failed(below(Below::StreamCut)), true),
        (Event::Ended, true),
        (Event::Silent, true),
    ] {
        let mut story = Story::sending();
        assert!(story.happens(event).is_empty());
        let error = story.error.unwrap();
        assert_eq!(error.kind(), Kind::Unanswered, "{error}");
        assert_eq!(error.may_have_been_processed(), may_have_been_processed, "{error}");
        assert_eq!(error.task_id(), None);
    }
}

#[test]
fn a_message_that_is_refused_is_refused() {
    for (error, may_have_been_processed) in [
        (A2AError::invalid_params("no"), false),
        (below(Below::Unauthorized), false),
        (A2AError::internal("the agent fell over"), true),
    ] {
        let mut story = Story::sending();
        story.happens(Event::Failed(error));
        assert_eq!(story.kind(), Some(Kind::Refused));
        assert_eq!(story.error.unwrap().may_have_been_processed(), may_have_been_processed);
    }
}

#[test]
fn the_caller_s_own_message_is_no_news() {
    let story = Story::begun();
    assert_eq!(story.consumer.messages, Vec::<String>::new());
    assert_eq!(story.states(), [TaskState::Submitted]);
}

#[test]
fn who_takes_a_task_up_hears_all_of_it() {
    let mut story = Story::subscribing();
    story.came(StreamResponse::Task(task(&[
        working(1),
        working(2),
        pieces("a", false, &["x"]),
    ])));
    assert_eq!(story.consumer.messages, ["sent", "m1", "m2"]);
    assert_eq!(story.states(), [TaskState::Working]);
    assert_eq!(story.texts("a"), ["x"]);
}

#[test]
fn what_was_missed_is_told_and_what_comes_again_is_not() {
    let mut story = Story::begun();
    let events = [
        working(1),
        pieces("a", false, &["one"]),
        working(2),
        pieces("a", true, &["two", "three"]),
        working(3),
    ];
    story.came(events[0].clone());
    story.came(events[1].clone());
    assert_eq!(story.cut(), ["stream_cut", "subscribe"]);
    assert_eq!(story.came(StreamResponse::Task(task(&events))), 1);
    for event in &events[2..] {
        assert_eq!(story.came(event.clone()), 0, "{event:?} was in the task");
    }
    assert_eq!(story.came(pieces("a", true, &["four"])), 1);
    assert_eq!(story.came(completed(9)), 1);
    assert!(story.has_finished);
    assert_eq!(story.consumer.messages, ["m1", "m2", "m3"]);
    assert_eq!(story.texts("a"), ["one", "two", "three", "four"]);
    assert_eq!(story.consumer.parts, ["one", "two", "three", "four"]);
    assert_eq!(story.machine.counts().repeated, 3);
}

#[test]
fn an_update_that_comes_twice_while_nothing_broke_is_the_agent_s_word_and_is_told() {
    let mut story = Story::begun();
    let again = || told(status(TaskState::Working, None, None));
    assert_eq!([story.came(again()), story.came(again())], [1, 1]);
    story.came(pieces("a", false, &["ha"]));
    story.came(pieces("a", true, &["ha"]));
    assert_eq!(story.texts("a"), ["ha", "ha"]);
}

#[test]
fn a_status_without_time_or_message_is_not_told_again_after_a_reconnect_and_says_nothing_of_what_is_held_back() {
    let mut story = Story::begun();
    story.came(told(status(TaskState::Working, None, None)));
    story.cut();
    let bare = || told(status(TaskState::Working, None, None));
    story.came(StreamResponse::Task(task(&[bare(), pieces("a", false, &["x", "y"])])));
    assert_eq!(story.came(pieces("a", false, &["x"])), 0);
    assert_eq!(story.came(bare()), 0);
    assert_eq!(
        story.came(working(1)),
        2,
        "the piece that was held back, and the status"
    );
}

#[test]
fn a_part_like_one_that_was_missed_waits_for_the_next_update_and_is_told() {
    let mut story = Story::begun();
    story.came(pieces("a", false, &["the"]));
    story.cut();
    let missed = [pieces("a", false, &["the"]), pieces("a", true, &["cat", "and"])];
    story.came(StreamResponse::Task(task(&missed)));
    assert_eq!(story.came(pieces("a", true, &["cat"])), 0, "it may have been missed");
    assert_eq!(
        story.came(pieces("a", true, &["sat"])),
        2,
        "it was not: `and` would have followed"
    );
    assert_eq!(story.texts("a"), ["the", "cat", "and", "cat", "sat"]);
}

#[test]
fn a_part_that_was_dropped_wrongly_is_told_before_the_end() {
    let mut story = Story::begun();
    story.came(pieces("a", false, &["ha"]));
    story.cut();
    let missed = [pieces("a", false, &["ha"]), pieces("a", true, &["ho"])];
    story.came(StreamResponse::Task(task(&missed)));
    assert_eq!(
        story.came(pieces("a", true, &["ho"])),
        0,
        "nothing tells it from the one that was missed"
    );
    assert_eq!(story.came(pieces("a", true, &["hi"])), 1);
    assert_eq!(
        story.happens(Event::Came(completed(9))),
        ["ask"],
        "so it is looked after"
    );
    let all = [
        pieces("a", false, &["ha", "ho"]),
        pieces("a", true, &["ho", "hi"]),
        completed(9),
    ];
    story.happens(Event::Answered(Ok(task(&all))));
    assert_eq!(story.texts("a"), ["ha", "ho", "ho", "hi"]);
    assert_eq!(story.states().last(), Some(&TaskState::Completed));
    assert!(story.has_finished);
}

#[test]
fn what_an_agent_that_stamps_nothing_says_again_is_put_right_before_the_end() {
    let mut story = Story::begun();
    story.cut();
    let bare = |state| told(status(state, None, None));
    let missed = [
        pieces("a", false, &["x"]),
        bare(TaskState::Working),
        pieces("a", true, &["y"]),
        bare(TaskState::Submitted),
    ];
    story.came(StreamResponse::Task(task(&missed)));
    for event in &missed {
        story.came(event.clone());
    }
    assert_eq!(
        story.texts("a"),
        ["x", "y"],
        "nothing tells the second `x` from a new one, which replaces the artifact"
    );
    assert_eq!(story.happens(Event::Came(completed(9))), ["ask"]);
    let all = [&missed[..], &[completed(9)]].concat();
    story.happens(Event::Answered(Ok(task(&all))));
    assert_eq!(story.texts("a"), ["x", "y"]);
    assert!(story.has_finished);
}

#[test]
fn the_end_is_told_even_if_the_task_cannot_be_asked_for() {
    for answer in [Event::Answered(Err(below(Below::Connection))), Event::Silent] {
        let mut story = Story::begun();
        story.cut();
        story.came(StreamResponse::Task(task(&[pieces("a", false, &["x"])])));
        story.came(pieces("a", false, &["x"]));
        assert_eq!(story.happens(Event::Came(completed(9))), ["ask"]);
        story.happens(answer);
        assert!(story.has_finished);
        assert_eq!(story.states().last(), Some(&TaskState::Completed));
    }
}

#[test]
fn a_status_is_told_although_the_agent_s_clock_was_set_back() {
    let mut story = Story::begun();
    story.came(working(100));
    story.cut();
    story.came(StreamResponse::Task(task(&[working(100)])));
    let back = |at| told(status(TaskState::Working, Some(at), None));
    assert_eq!(story.came(back(3)), 1);
    assert_eq!(story.came(back(4)), 1);
    assert_eq!(story.came(completed(5)), 1);
}

#[test]
fn a_status_that_was_overtaken_while_nobody_listened_is_not_told_after_the_one_that_overtook_it() {
    let mut story = Story::begun();
    story.came(working(1));
    story.cut();
    story.came(StreamResponse::Task(task(&[working(1), working(5)])));
    // Neither kept nor with a message: its time alone tells.
    assert_eq!(story.came(told(status(TaskState::Working, Some(3), None))), 0);
    assert_eq!(story.came(told(status(TaskState::Working, Some(6), None))), 1);
}

#[test]
fn a_history_that_is_longer_than_what_is_remembered_is_not_told_twice() {
    let mut story = Story::begun();
    let mut long = submitted(&sent());
    long.history = Some((0..12_000).map(|n| message(&n.to_string())).collect());
    story.cut();
    story.came(StreamResponse::Task(long.clone()));
    assert_eq!(story.consumer.messages.len(), 12_000);
    story.cut();
    long.history.as_mut().unwrap().push(message("new"));
    story.came(StreamResponse::Task(long));
    assert_eq!(story.consumer.messages.len(), 12_001);
}

#[test]
fn a_message_that_is_both_the_status_s_and_in_the_history_is_told_once() {
    let mut story = Story::begun();
    story.cut();
    let mut eager = task(&[working(1)]);
    eager.history.as_mut().unwrap().push(message("m1"));
    story.came(StreamResponse::Task(eager));
    assert_eq!(story.consumer.messages, ["m1"]);
}

#[test]
fn a_task_that_ended_meanwhile_is_asked_for_and_told() {
    for error in [A2AError::unsupported_operation("ended"), A2AError::task_not_found(TASK)] {
        let mut story = Story::begun();
        story.cut();
        assert_eq!(story.happens(Event::Failed(error)), ["ask"]);
        story.happens(Event::Answered(Ok(task(&[working(1), completed(2)]))));
        assert!(story.has_finished);
        assert_eq!(story.consumer.messages, ["m1"]);
        assert_eq!(story.states(), [TaskState::Submitted, TaskState::Completed]);
    }
}

#[test]
fn a_task_that_waits_for_somebody_and_cannot_be_subscribed_to_has_ended_for_now() {
    let mut story = Story::begun();
    story.cut();
    story.happens(Event::Failed(A2AError::task_not_found(TASK)));
    let waiting = told(status(TaskState::InputRequired, Some(1), Some("what?")));
    story.happens(Event::Answered(Ok(task(&[waiting]))));
    assert!(story.has_finished);
    assert_eq!(story.states().last(), Some(&TaskState::InputRequired));
}

#[test]
fn a_task_that_cannot_be_subscribed_to_and_has_not_ended_is_told_as_it_is_and_then_an_error() {
    let mut story = Story::begun();
    story.cut();
    story.happens(Event::Failed(A2AError::unsupported_operation("no streaming")));
    story.happens(Event::Answered(Ok(task(&[working(1)]))));
    assert_eq!(story.consumer.messages, ["m1"]);
    let error = story.error.unwrap();
    assert_eq!(error.kind(), Kind::Refused);
    assert_eq!(error.task_id(), Some(TASK));
    assert!(error.to_string().contains("no streaming"), "{error}");
    assert!(error.to_string().contains("before that: cut"), "{error}");
}

#[test]
fn a_task_that_is_not_there_is_an_error() {
    let mut story = Story::subscribing();
    assert_eq!(story.happens(Event::Failed(A2AError::task_not_found(TASK))), ["ask"]);
    story.happens(Event::Answered(Err(A2AError::task_not_found(TASK))));
    assert_eq!(story.kind(), Some(Kind::Refused));
    assert!(!story.error.unwrap().may_have_been_processed(), "nothing was sent");
}

#[test]
fn a_stream_that_ends_where_the_agent_waits_for_somebody_is_the_end_and_one_that_is_cut_there_is_not() {
    for state in [TaskState::InputRequired, TaskState::AuthRequired] {
        let mut story = Story::begun();
        story.came(told(status(state, Some(1), None)));
        assert_eq!(story.cut(), ["stream_cut", "subscribe"]);
        story.came(StreamResponse::Task(task(&[
            working(1),
            told(status(TaskState::InputRequired, Some(2), None)),
        ])));
        assert!(!story.has_finished);
        story.happens(Event::Ended);
        assert!(story.has_finished);
    }
}

#[test]
fn nothing_is_told_after_a_terminal_state() {
    for state in [
        TaskState::Completed,
        TaskState::Failed,
        TaskState::Canceled,
        TaskState::Rejected,
    ] {
        let mut story = Story::begun();
        story.came(told(status(state, Some(1), None)));
        assert!(story.has_finished);
        assert_eq!(story.came(working(2)), 0);
        assert!(story.cut().is_empty());
        assert_eq!(story.kind(), None);
    }
}

#[test]
fn a_message_without_a_task_is_the_whole_answer() {
    let mut story = Story::sending();
    assert_eq!(story.came(StreamResponse::Message(message("hello"))), 1);
    assert!(story.has_finished);
}

#[test]
fn an_event_of_another_task_is_an_error_and_is_not_told() {
    let mut story = Story::begun();
    let mut other = task(&[working(1)]);
    other.id = "other".to_owned();
    assert_eq!(story.came(StreamResponse::Task(other)), 0);
    assert_eq!(story.kind(), Some(Kind::OtherTask));
}

#[test]
fn each_kind_of_failure_is_tried_again_or_is_not() {
    use Below::*;
    for (kind, cause) in [
        (Connection, Some("connection")),
        (MayHaveBeenProcessed, Some("connection_lost")),
        (StreamCut, Some("stream_cut")),
        (TimedOut, Some("timed_out")),
        (Token, Some("token")),
        (InvalidCall, None),
        (Configuration, None),
        (OtherOrigin, None),
        (Unauthorized, None),
        (Forbidden, None),
        (BindingRefused, None),
        (Redirect, None),
        (Status, None),
        (NotA2a, None),
        (TooLong, None),
        (NotHttp2, None),
    ] {
        let mut story = Story::begun();
        let wants = story.happens(Event::Failed(below(kind)));
        assert_eq!(wants.first().map(String::as_str), cause, "{kind:?}");
        assert_eq!(story.kind(), cause.is_none().then_some(Kind::Refused), "{kind:?}");
    }
    for (error, is_tried_again) in [
        (A2AError::internal("fell behind"), true),
        (A2AError::invalid_params("no"), false),
        (A2AError::method_not_found("SubscribeToTask"), false),
        (A2AError::version_not_supported("2.0"), false),
    ] {
        let mut story = Story::begun();
        assert_eq!(!story.happens(Event::Failed(error)).is_empty(), is_tried_again);
    }
}

/// What stands in front of an agent answers so, with `Retry-After` if it likes.
fn http(status: u16, retry_after: Option<u64>) -> A2AError {
    let mut answer = http::Response::builder().status(status);
    if let Some(seconds) = retry_after {
        answer = answer.header("retry-after", seconds);
    }
    let (head, ()) = answer.body(()).unwrap().into_parts();
    Failure::new(Below::Status, "not now").with_head(&head).into()
}

#[test]
fn statuses_that_pass_are_waited_out_as_long_as_the_agent_says() {
    for status in [408, 425, 429, 500, 502, 503, 504] {
        let mut story = Story::begun();
        let wants = story.happens(Event::Failed(http(status, Some(7))));
        assert_eq!(wants, ["unavailable", "7000", "subscribe"], "{status}");
    }
    for status in [400, 404, 501] {
        let mut story = Story::begun();
        assert!(
            story.happens(Event::Failed(http(status, Some(7)))).is_empty(),
            "{status}"
        );
    }
}

#[test]
fn fruitless_tries_wait_longer_and_longer_and_are_given_up() {
    let mut story = Story::begun();
    assert_eq!(story.cut(), ["stream_cut", "subscribe"], "the first waits for nothing");
    let mut pauses = Vec::new();
    while let [_, pause, _] = story.happens(Event::Failed(below(Below::Connection))) {
        pauses.push(pause.clone());
    }
    assert_eq!(
        pauses,
        [
            "500", "1000", "2000", "4000", "8000", "16000", "30000", "30000", "30000"
        ]
    );
    let error = story.error.as_ref().unwrap();
    assert_eq!(error.kind(), Kind::GaveUp);
    assert_eq!(
        error.to_string(),
        "gave up on task t after 10 tries in a row that brought nothing new: below"
    );
    assert_eq!(error.failure().unwrap().kind(), Below::Connection);
    let counts = story.machine.counts();
    assert_eq!(counts.reconnects[&Cause::StreamCut], 1);
    assert_eq!(counts.reconnects[&Cause::Connection], 9);
    assert_eq!(counts.reconnects(), 10);
}

#[test]
fn a_try_that_brought_only_what_was_known_is_fruitless_unless_it_was_listened_to_for_long() {
    let mut story = Story::begun();
    story.cut();
    for listened in [29, 29, 30, 29] {
        story.came(StreamResponse::Task(submitted(&sent())));
        story.now += Duration::from_secs(listened);
        let is_patient = story.cut().len() == 2;
        assert_eq!(is_patient, listened == 30);
    }
    story.came(StreamResponse::Task(task(&[working(1)])));
    assert_eq!(story.cut(), ["stream_cut", "subscribe"], "something new came");
}

#[test]
fn a_part_is_the_same_whatever_the_order_of_its_members() {
    let part = |of: &str| {
        let mut part = Part::data(serde_json::from_str(of).unwrap());
        part.metadata = Some([("n".to_owned(), json!([1, null, true]))].into());
        part
    };
    let digests = Digests::default();
    let of = |of: &str| digests.parts(&[part(of)]);
    assert_eq!(
        of(r#"{"a": 1, "b": {"c": 2, "d": 3}}"#),
        of(r#"{"b": {"d": 3, "c": 2}, "a": 1}"#)
    );
    assert_ne!(of(r#"{"a": 1}"#), of(r#"{"a": 2}"#));
    assert_ne!(of(r#"{"a": "1"}"#), of(r#"{"a": 1}"#));
    assert_ne!(of(r#"["a", "b"]"#), of(r#"["ab"]"#));
}
