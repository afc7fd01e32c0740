//! What the machine emits.

use a2a::{Part, StreamResponse, TaskState};
use serde_json::json;

use super::fixture::{completed, message, pieces, status, status_update, submitted, working};
use super::scenario::{Scenario, below, sent, task};
use crate::error::ErrorKind as Below;
use crate::long_task::digest::Digests;
use crate::long_task::machine::Event;

#[test]
fn the_caller_s_own_message_is_not_emitted() {
    let scenario = Scenario::started();
    assert_eq!(scenario.consumer.messages, Vec::<String>::new());
    assert_eq!(scenario.states(), [TaskState::Submitted]);
}

#[test]
fn subscribing_to_a_task_brings_all_of_it() {
    let mut scenario = Scenario::subscribing();
    scenario.receive(StreamResponse::Task(task(&[
        working(1),
        working(2),
        pieces("a", false, &["x"]),
    ])));
    assert_eq!(scenario.consumer.messages, ["sent", "m1", "m2"]);
    assert_eq!(scenario.states(), [TaskState::Working]);
    assert_eq!(scenario.texts("a"), ["x"]);
}

#[test]
fn missed_events_are_emitted_and_repeated_ones_are_not() {
    let mut scenario = Scenario::started();
    let events = [
        working(1),
        pieces("a", false, &["one"]),
        working(2),
        pieces("a", true, &["two", "three"]),
        working(3),
    ];
    scenario.receive(events[0].clone());
    scenario.receive(events[1].clone());
    assert_eq!(scenario.cut(), ["stream_cut", "subscribe"]);
    assert_eq!(scenario.receive(StreamResponse::Task(task(&events))), 1);
    for event in &events[2..] {
        assert_eq!(
            scenario.receive(event.clone()),
            0,
            "{event:?} was in the task"
        );
    }
    assert_eq!(scenario.receive(pieces("a", true, &["four"])), 1);
    assert_eq!(scenario.receive(completed(9)), 1);
    assert!(scenario.has_finished);
    assert_eq!(scenario.consumer.messages, ["m1", "m2", "m3"]);
    assert_eq!(scenario.texts("a"), ["one", "two", "three", "four"]);
    assert_eq!(scenario.consumer.parts, ["one", "two", "three", "four"]);
    assert_eq!(scenario.machine.counts().repeated, 3);
}

#[test]
fn an_update_that_the_agent_repeats_on_an_unbroken_stream_is_emitted() {
    let mut scenario = Scenario::started();
    let again = || status_update(status(TaskState::Working, None, None));
    assert_eq!(
        [scenario.receive(again()), scenario.receive(again())],
        [1, 1]
    );
    scenario.receive(pieces("a", false, &["ha"]));
    scenario.receive(pieces("a", true, &["ha"]));
    assert_eq!(scenario.texts("a"), ["ha", "ha"]);
}

#[test]
fn a_bare_status_is_not_repeated_after_a_reconnect_and_releases_nothing() {
    let mut scenario = Scenario::started();
    scenario.receive(status_update(status(TaskState::Working, None, None)));
    scenario.cut();
    let bare = || status_update(status(TaskState::Working, None, None));
    scenario.receive(StreamResponse::Task(task(&[
        bare(),
        pieces("a", false, &["x", "y"]),
    ])));
    assert_eq!(scenario.receive(pieces("a", false, &["x"])), 0);
    assert_eq!(scenario.receive(bare()), 0);
    assert_eq!(
        scenario.receive(working(1)),
        2,
        "the piece that was held back, and the status"
    );
}

#[test]
fn a_part_like_a_missed_one_is_held_back_until_the_next_update() {
    let mut scenario = Scenario::started();
    scenario.receive(pieces("a", false, &["the"]));
    scenario.cut();
    let missed = [
        pieces("a", false, &["the"]),
        pieces("a", true, &["cat", "and"]),
    ];
    scenario.receive(StreamResponse::Task(task(&missed)));
    assert_eq!(
        scenario.receive(pieces("a", true, &["cat"])),
        0,
        "it may have been missed"
    );
    assert_eq!(
        scenario.receive(pieces("a", true, &["sat"])),
        2,
        "it was not: `and` would have followed"
    );
    assert_eq!(scenario.texts("a"), ["the", "cat", "and", "cat", "sat"]);
}

#[test]
fn a_part_that_was_dropped_wrongly_is_emitted_before_the_end() {
    let mut scenario = Scenario::started();
    scenario.receive(pieces("a", false, &["ha"]));
    scenario.cut();
    let missed = [pieces("a", false, &["ha"]), pieces("a", true, &["ho"])];
    scenario.receive(StreamResponse::Task(task(&missed)));
    assert_eq!(
        scenario.receive(pieces("a", true, &["ho"])),
        0,
        "nothing tells it from the one that was missed"
    );
    assert_eq!(scenario.receive(pieces("a", true, &["hi"])), 1);
    assert_eq!(
        scenario.happens(Event::Received(completed(9))),
        ["get_task"],
        "so it is looked after"
    );
    let all = [
        pieces("a", false, &["ha", "ho"]),
        pieces("a", true, &["ho", "hi"]),
        completed(9),
    ];
    scenario.happens(Event::GotTask(Ok(task(&all))));
    assert_eq!(scenario.texts("a"), ["ha", "ho", "ho", "hi"]);
    assert_eq!(scenario.states().last(), Some(&TaskState::Completed));
    assert!(scenario.has_finished);
}

#[test]
fn repeated_statuses_without_timestamps_are_corrected_before_the_end() {
    let mut scenario = Scenario::started();
    scenario.cut();
    let bare = |state| status_update(status(state, None, None));
    let missed = [
        pieces("a", false, &["x"]),
        bare(TaskState::Working),
        pieces("a", true, &["y"]),
        bare(TaskState::Submitted),
    ];
    scenario.receive(StreamResponse::Task(task(&missed)));
    for event in &missed {
        scenario.receive(event.clone());
    }
    assert_eq!(
        scenario.texts("a"),
        ["x", "y"],
        "nothing tells the second `x` from a new one, which replaces the artifact"
    );
    assert_eq!(
        scenario.happens(Event::Received(completed(9))),
        ["get_task"]
    );
    let all = [&missed[..], &[completed(9)]].concat();
    scenario.happens(Event::GotTask(Ok(task(&all))));
    assert_eq!(scenario.texts("a"), ["x", "y"]);
    assert!(scenario.has_finished);
}

#[test]
fn the_end_is_emitted_even_if_get_task_fails() {
    for answer in [
        Event::GotTask(Err(below(Below::Connection))),
        Event::IdleTimeout,
    ] {
        let mut scenario = Scenario::started();
        scenario.cut();
        scenario.receive(StreamResponse::Task(task(&[pieces("a", false, &["x"])])));
        scenario.receive(pieces("a", false, &["x"]));
        assert_eq!(
            scenario.happens(Event::Received(completed(9))),
            ["get_task"]
        );
        scenario.happens(answer);
        assert!(scenario.has_finished);
        assert_eq!(scenario.states().last(), Some(&TaskState::Completed));
    }
}

#[test]
fn a_status_is_emitted_although_the_agent_s_clock_was_set_back() {
    let mut scenario = Scenario::started();
    scenario.receive(working(100));
    scenario.cut();
    scenario.receive(StreamResponse::Task(task(&[working(100)])));
    let back = |at| status_update(status(TaskState::Working, Some(at), None));
    assert_eq!(scenario.receive(back(3)), 1);
    assert_eq!(scenario.receive(back(4)), 1);
    assert_eq!(scenario.receive(completed(5)), 1);
}

#[test]
fn a_status_that_the_snapshot_superseded_is_not_emitted_after_it() {
    let mut scenario = Scenario::started();
    scenario.receive(working(1));
    scenario.cut();
    scenario.receive(StreamResponse::Task(task(&[working(1), working(5)])));
    // Only the timestamp identifies it.
    assert_eq!(
        scenario.receive(status_update(status(TaskState::Working, Some(3), None))),
        0
    );
    assert_eq!(
        scenario.receive(status_update(status(TaskState::Working, Some(6), None))),
        1
    );
}

#[test]
fn the_message_of_a_superseded_status_is_emitted_once_and_the_status_is_not() {
    let mut scenario = Scenario::started();
    let with_message = |at, id| status_update(status(TaskState::Working, Some(at), Some(id)));
    scenario.receive(with_message(1, "m1"));
    scenario.cut();
    // The agent keeps no history, and had newer messages when it took this snapshot.
    let mut snapshot = task(&[with_message(1, "m1"), with_message(5, "m5")]);
    snapshot.history = None;
    scenario.receive(StreamResponse::Task(snapshot));
    assert_eq!(scenario.consumer.messages, ["m1", "m5"]);
    let statuses = scenario.states().len();
    assert_eq!(scenario.receive(with_message(3, "m3")), 1);
    assert_eq!(scenario.receive(with_message(3, "m3")), 0);
    assert_eq!(scenario.receive(with_message(5, "m5")), 0);
    assert_eq!(
        scenario.states().len(),
        statuses,
        "the task stands where it stood"
    );
    assert_eq!(scenario.receive(with_message(6, "m6")), 1);
    assert_eq!(scenario.consumer.messages, ["m1", "m5", "m3", "m6"]);
}

#[test]
fn a_history_beyond_the_limit_is_not_emitted_twice() {
    let mut scenario = Scenario::started();
    let mut long = submitted(&sent());
    long.history = Some((0..12_000).map(|n| message(&n.to_string())).collect());
    scenario.cut();
    scenario.receive(StreamResponse::Task(long.clone()));
    assert_eq!(scenario.consumer.messages.len(), 12_000);
    scenario.cut();
    long.history.as_mut().unwrap().push(message("new"));
    scenario.receive(StreamResponse::Task(long));
    assert_eq!(scenario.consumer.messages.len(), 12_001);
}

#[test]
fn a_message_in_both_status_and_history_is_emitted_once() {
    let mut scenario = Scenario::started();
    scenario.cut();
    let mut eager = task(&[working(1)]);
    eager.history.as_mut().unwrap().push(message("m1"));
    scenario.receive(StreamResponse::Task(eager));
    assert_eq!(scenario.consumer.messages, ["m1"]);
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
