//! How the machine ends, and what it attempts before.

use std::time::Duration;

use a2a::{A2AError, StreamResponse, TaskState};

use super::fixture::{TASK, completed, message, status, status_update, submitted, working};
use super::scenario::{Scenario, below, sent, task};
use crate::error::{Error, ErrorKind as Below};
use crate::long_task::machine::Event;
use crate::long_task::{Cause, LongTaskErrorKind};

#[test]
fn a_message_whose_stream_broke_before_its_first_event_is_not_sent_again() {
    for (event, may_have_been_processed) in [
        (Event::Failed(below(Below::Connection)), false),
        (Event::Failed(below(Below::Token)), false),
        (Event::Failed(below(Below::MayHaveBeenProcessed)), true),
        (Event::Failed(below(Below::StreamCut)), true),
        (Event::Ended, true),
        (Event::IdleTimeout, true),
    ] {
        let mut scenario = Scenario::sending();
        assert!(scenario.happens(event).is_empty());
        let error = scenario.error.unwrap();
        assert_eq!(error.kind(), LongTaskErrorKind::Unanswered, "{error}");
        assert_eq!(
            error.may_have_been_processed(),
            may_have_been_processed,
            "{error}"
        );
        assert_eq!(error.task_id(), None);
    }
}

#[test]
fn a_refused_message_is_an_error() {
    for (error, may_have_been_processed) in [
        (A2AError::invalid_params("no"), false),
        (below(Below::Unauthorized), false),
        (A2AError::internal("the agent fell over"), true),
    ] {
        let mut scenario = Scenario::sending();
        scenario.happens(Event::Failed(error));
        assert_eq!(scenario.kind(), Some(LongTaskErrorKind::Refused));
        assert_eq!(
            scenario.error.unwrap().may_have_been_processed(),
            may_have_been_processed
        );
    }
}

#[test]
fn a_task_that_ended_meanwhile_is_fetched() {
    for error in [
        A2AError::unsupported_operation("ended"),
        A2AError::task_not_found(TASK),
    ] {
        let mut scenario = Scenario::started();
        scenario.cut();
        assert_eq!(scenario.happens(Event::Failed(error)), ["get_task"]);
        scenario.happens(Event::GotTask(Ok(task(&[working(1), completed(2)]))));
        assert!(scenario.has_finished);
        assert_eq!(scenario.consumer.messages, ["m1"]);
        assert_eq!(
            scenario.states(),
            [TaskState::Submitted, TaskState::Completed]
        );
    }
}

#[test]
fn a_task_that_waits_for_input_and_cannot_be_subscribed_to_ends_the_stream() {
    let mut scenario = Scenario::started();
    scenario.cut();
    scenario.happens(Event::Failed(A2AError::task_not_found(TASK)));
    let waiting = status_update(status(TaskState::InputRequired, Some(1), Some("what?")));
    scenario.happens(Event::GotTask(Ok(task(&[waiting]))));
    assert!(scenario.has_finished);
    assert_eq!(scenario.states().last(), Some(&TaskState::InputRequired));
}

#[test]
fn a_running_task_that_cannot_be_subscribed_to_is_emitted_once_and_then_an_error() {
    let mut scenario = Scenario::started();
    scenario.cut();
    scenario.happens(Event::Failed(A2AError::unsupported_operation(
        "no streaming",
    )));
    scenario.happens(Event::GotTask(Ok(task(&[working(1)]))));
    assert_eq!(scenario.consumer.messages, ["m1"]);
    let error = scenario.error.unwrap();
    assert_eq!(error.kind(), LongTaskErrorKind::Refused);
    assert_eq!(error.task_id(), Some(TASK));
    assert!(error.to_string().contains("no streaming"), "{error}");
    assert!(error.to_string().contains("before that: cut"), "{error}");
}

#[test]
fn an_unknown_task_is_an_error() {
    let mut scenario = Scenario::subscribing();
    assert_eq!(
        scenario.happens(Event::Failed(A2AError::task_not_found(TASK))),
        ["get_task"]
    );
    scenario.happens(Event::GotTask(Err(A2AError::task_not_found(TASK))));
    assert_eq!(scenario.kind(), Some(LongTaskErrorKind::Refused));
    assert!(
        !scenario.error.unwrap().may_have_been_processed(),
        "nothing was sent"
    );
}

#[test]
fn a_stream_may_end_while_the_task_waits_for_input_but_not_be_cut() {
    for state in [TaskState::InputRequired, TaskState::AuthRequired] {
        let mut scenario = Scenario::started();
        scenario.receive(status_update(status(state, Some(1), None)));
        assert_eq!(scenario.cut(), ["stream_cut", "subscribe"]);
        scenario.receive(StreamResponse::Task(task(&[
            working(1),
            status_update(status(TaskState::InputRequired, Some(2), None)),
        ])));
        assert!(!scenario.has_finished);
        scenario.happens(Event::Ended);
        assert!(scenario.has_finished);
    }
}

#[test]
fn nothing_is_emitted_after_a_terminal_state() {
    for state in [
        TaskState::Completed,
        TaskState::Failed,
        TaskState::Canceled,
        TaskState::Rejected,
    ] {
        let mut scenario = Scenario::started();
        scenario.receive(status_update(status(state, Some(1), None)));
        assert!(scenario.has_finished);
        assert_eq!(scenario.receive(working(2)), 0);
        assert!(scenario.cut().is_empty());
        assert_eq!(scenario.kind(), None);
    }
}

#[test]
fn a_message_without_a_task_is_the_whole_answer() {
    let mut scenario = Scenario::sending();
    assert_eq!(
        scenario.receive(StreamResponse::Message(message("hello"))),
        1
    );
    assert!(scenario.has_finished);
}

#[test]
fn an_event_of_another_task_is_an_error_and_is_not_emitted() {
    let mut scenario = Scenario::started();
    let mut other = task(&[working(1)]);
    other.id = "other".to_owned();
    assert_eq!(scenario.receive(StreamResponse::Task(other)), 0);
    assert_eq!(scenario.kind(), Some(LongTaskErrorKind::OtherTask));
}

#[test]
fn each_kind_of_error_is_retried_or_final() {
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
        let mut scenario = Scenario::started();
        let wants = scenario.happens(Event::Failed(below(kind)));
        assert_eq!(wants.first().map(String::as_str), cause, "{kind:?}");
        assert_eq!(
            scenario.kind(),
            cause.is_none().then_some(LongTaskErrorKind::Refused),
            "{kind:?}"
        );
    }
    for (error, is_tried_again) in [
        (A2AError::internal("fell behind"), true),
        (A2AError::invalid_params("no"), false),
        (A2AError::method_not_found("SubscribeToTask"), false),
        (A2AError::version_not_supported("2.0"), false),
    ] {
        let mut scenario = Scenario::started();
        assert_eq!(
            !scenario.happens(Event::Failed(error)).is_empty(),
            is_tried_again
        );
    }
}

/// The response of a proxy in front of an agent.
fn http(status: u16, retry_after: Option<u64>) -> A2AError {
    let mut answer = http::Response::builder().status(status);
    if let Some(seconds) = retry_after {
        answer = answer.header("retry-after", seconds);
    }
    let (head, ()) = answer.body(()).unwrap().into_parts();
    Error::new(Below::Status, "not now").with_head(&head).into()
}

#[test]
fn transient_statuses_are_retried_after_retry_after() {
    for status in [408, 425, 429, 500, 502, 503, 504] {
        let mut scenario = Scenario::started();
        let wants = scenario.happens(Event::Failed(http(status, Some(7))));
        assert_eq!(wants, ["unavailable", "7000", "subscribe"], "{status}");
    }
    for status in [400, 404, 501] {
        let mut scenario = Scenario::started();
        assert!(
            scenario
                .happens(Event::Failed(http(status, Some(7))))
                .is_empty(),
            "{status}"
        );
    }
}

#[test]
fn attempts_without_news_have_growing_pauses_and_a_limit() {
    let mut scenario = Scenario::started();
    assert_eq!(
        scenario.cut(),
        ["stream_cut", "subscribe"],
        "the first waits for nothing"
    );
    let mut pauses = Vec::new();
    while let [_, pause, _] = scenario.happens(Event::Failed(below(Below::Connection))) {
        pauses.push(pause.clone());
    }
    assert_eq!(
        pauses,
        [
            "500", "1000", "2000", "4000", "8000", "16000", "30000", "30000", "30000"
        ]
    );
    let error = scenario.error.as_ref().unwrap();
    assert_eq!(error.kind(), LongTaskErrorKind::GaveUp);
    assert_eq!(
        error.to_string(),
        "gave up on task t after 10 attempts in a row that brought nothing new: below"
    );
    assert_eq!(error.transport_error().unwrap().kind(), Below::Connection);
    let counts = scenario.machine.counts();
    assert_eq!(counts.reconnects[&Cause::StreamCut], 1);
    assert_eq!(counts.reconnects[&Cause::Connection], 9);
    assert_eq!(counts.reconnects(), 10);
}

#[test]
fn an_attempt_that_brought_nothing_new_counts_as_empty_unless_its_stream_lasted_long() {
    let mut scenario = Scenario::started();
    scenario.cut();
    for listened in [29, 29, 30, 29] {
        scenario.receive(StreamResponse::Task(submitted(&sent())));
        scenario.now += Duration::from_secs(listened);
        let is_patient = scenario.cut().len() == 2;
        assert_eq!(is_patient, listened == 30);
    }
    scenario.receive(StreamResponse::Task(task(&[working(1)])));
    assert_eq!(
        scenario.cut(),
        ["stream_cut", "subscribe"],
        "something new came"
    );
}
