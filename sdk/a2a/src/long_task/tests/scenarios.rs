//! What the machine tells, scenario by scenario.

use a2a::{Part, StreamResponse, TaskState};
use serde_json::json;

use super::fixture::{completed, message, pieces, status, submitted, told, working};
use super::scenario::{Scenario, below, sent, task};
use crate::error::ErrorKind as Below;
use crate::long_task::digest::Digests;
use crate::long_task::machine::Event;

#[test]
fn the_caller_s_own_message_is_no_news() {
    let scenario = Scenario::begun();
    assert_eq!(scenario.consumer.messages, Vec::<String>::new());
    assert_eq!(scenario.states(), [TaskState::Submitted]);
}

#[test]
fn who_takes_a_task_up_hears_all_of_it() {
    let mut scenario = Scenario::subscribing();
    scenario.came(StreamResponse::Task(task(&[
        working(1),
        working(2),
        pieces("a", false, &["x"]),
    ])));
    assert_eq!(scenario.consumer.messages, ["sent", "m1", "m2"]);
    assert_eq!(scenario.states(), [TaskState::Working]);
    assert_eq!(scenario.texts("a"), ["x"]);
}

#[test]
fn what_was_missed_is_told_and_what_comes_again_is_not() {
    let mut scenario = Scenario::begun();
    let events = [
        working(1),
        pieces("a", false, &["one"]),
        working(2),
        pieces("a", true, &["two", "three"]),
        working(3),
    ];
    scenario.came(events[0].clone());
    scenario.came(events[1].clone());
    assert_eq!(scenario.cut(), ["stream_cut", "subscribe"]);
    assert_eq!(scenario.came(StreamResponse::Task(task(&events))), 1);
    for event in &events[2..] {
        assert_eq!(scenario.came(event.clone()), 0, "{event:?} was in the task");
    }
    assert_eq!(scenario.came(pieces("a", true, &["four"])), 1);
    assert_eq!(scenario.came(completed(9)), 1);
    assert!(scenario.has_finished);
    assert_eq!(scenario.consumer.messages, ["m1", "m2", "m3"]);
    assert_eq!(scenario.texts("a"), ["one", "two", "three", "four"]);
    assert_eq!(scenario.consumer.parts, ["one", "two", "three", "four"]);
    assert_eq!(scenario.machine.counts().repeated, 3);
}

#[test]
fn an_update_that_comes_twice_while_nothing_broke_is_the_agent_s_word_and_is_told() {
    let mut scenario = Scenario::begun();
    let again = || told(status(TaskState::Working, None, None));
    assert_eq!([scenario.came(again()), scenario.came(again())], [1, 1]);
    scenario.came(pieces("a", false, &["ha"]));
    scenario.came(pieces("a", true, &["ha"]));
    assert_eq!(scenario.texts("a"), ["ha", "ha"]);
}

#[test]
fn a_status_without_time_or_message_is_not_told_again_after_a_reconnect_and_says_nothing_of_what_is_held_back()
 {
    let mut scenario = Scenario::begun();
    scenario.came(told(status(TaskState::Working, None, None)));
    scenario.cut();
    let bare = || told(status(TaskState::Working, None, None));
    scenario.came(StreamResponse::Task(task(&[
        bare(),
        pieces("a", false, &["x", "y"]),
    ])));
    assert_eq!(scenario.came(pieces("a", false, &["x"])), 0);
    assert_eq!(scenario.came(bare()), 0);
    assert_eq!(
        scenario.came(working(1)),
        2,
        "the piece that was held back, and the status"
    );
}

#[test]
fn a_part_like_one_that_was_missed_waits_for_the_next_update_and_is_told() {
    let mut scenario = Scenario::begun();
    scenario.came(pieces("a", false, &["the"]));
    scenario.cut();
    let missed = [
        pieces("a", false, &["the"]),
        pieces("a", true, &["cat", "and"]),
    ];
    scenario.came(StreamResponse::Task(task(&missed)));
    assert_eq!(
        scenario.came(pieces("a", true, &["cat"])),
        0,
        "it may have been missed"
    );
    assert_eq!(
        scenario.came(pieces("a", true, &["sat"])),
        2,
        "it was not: `and` would have followed"
    );
    assert_eq!(scenario.texts("a"), ["the", "cat", "and", "cat", "sat"]);
}

#[test]
fn a_part_that_was_dropped_wrongly_is_told_before_the_end() {
    let mut scenario = Scenario::begun();
    scenario.came(pieces("a", false, &["ha"]));
    scenario.cut();
    let missed = [pieces("a", false, &["ha"]), pieces("a", true, &["ho"])];
    scenario.came(StreamResponse::Task(task(&missed)));
    assert_eq!(
        scenario.came(pieces("a", true, &["ho"])),
        0,
        "nothing tells it from the one that was missed"
    );
    assert_eq!(scenario.came(pieces("a", true, &["hi"])), 1);
    assert_eq!(
        scenario.happens(Event::Received(completed(9))),
        ["ask"],
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
fn what_an_agent_that_stamps_nothing_says_again_is_put_right_before_the_end() {
    let mut scenario = Scenario::begun();
    scenario.cut();
    let bare = |state| told(status(state, None, None));
    let missed = [
        pieces("a", false, &["x"]),
        bare(TaskState::Working),
        pieces("a", true, &["y"]),
        bare(TaskState::Submitted),
    ];
    scenario.came(StreamResponse::Task(task(&missed)));
    for event in &missed {
        scenario.came(event.clone());
    }
    assert_eq!(
        scenario.texts("a"),
        ["x", "y"],
        "nothing tells the second `x` from a new one, which replaces the artifact"
    );
    assert_eq!(scenario.happens(Event::Received(completed(9))), ["ask"]);
    let all = [&missed[..], &[completed(9)]].concat();
    scenario.happens(Event::GotTask(Ok(task(&all))));
    assert_eq!(scenario.texts("a"), ["x", "y"]);
    assert!(scenario.has_finished);
}

#[test]
fn the_end_is_told_even_if_the_task_cannot_be_asked_for() {
    for answer in [
        Event::GotTask(Err(below(Below::Connection))),
        Event::IdleTimeout,
    ] {
        let mut scenario = Scenario::begun();
        scenario.cut();
        scenario.came(StreamResponse::Task(task(&[pieces("a", false, &["x"])])));
        scenario.came(pieces("a", false, &["x"]));
        assert_eq!(scenario.happens(Event::Received(completed(9))), ["ask"]);
        scenario.happens(answer);
        assert!(scenario.has_finished);
        assert_eq!(scenario.states().last(), Some(&TaskState::Completed));
    }
}

#[test]
fn a_status_is_told_although_the_agent_s_clock_was_set_back() {
    let mut scenario = Scenario::begun();
    scenario.came(working(100));
    scenario.cut();
    scenario.came(StreamResponse::Task(task(&[working(100)])));
    let back = |at| told(status(TaskState::Working, Some(at), None));
    assert_eq!(scenario.came(back(3)), 1);
    assert_eq!(scenario.came(back(4)), 1);
    assert_eq!(scenario.came(completed(5)), 1);
}

#[test]
fn a_status_that_was_overtaken_while_nobody_listened_is_not_told_after_the_one_that_overtook_it() {
    let mut scenario = Scenario::begun();
    scenario.came(working(1));
    scenario.cut();
    scenario.came(StreamResponse::Task(task(&[working(1), working(5)])));
    // Neither kept nor with a message: its time alone tells.
    assert_eq!(
        scenario.came(told(status(TaskState::Working, Some(3), None))),
        0
    );
    assert_eq!(
        scenario.came(told(status(TaskState::Working, Some(6), None))),
        1
    );
}

#[test]
fn what_the_agent_said_with_a_status_that_was_overtaken_is_told_once_and_the_status_is_not() {
    let mut scenario = Scenario::begun();
    let with_message = |at, id| told(status(TaskState::Working, Some(at), Some(id)));
    scenario.came(with_message(1, "m1"));
    scenario.cut();
    // The agent keeps no history, and had more to say when it took this picture.
    let mut picture = task(&[with_message(1, "m1"), with_message(5, "m5")]);
    picture.history = None;
    scenario.came(StreamResponse::Task(picture));
    assert_eq!(scenario.consumer.messages, ["m1", "m5"]);
    let statuses = scenario.states().len();
    assert_eq!(scenario.came(with_message(3, "m3")), 1);
    assert_eq!(scenario.came(with_message(3, "m3")), 0);
    assert_eq!(scenario.came(with_message(5, "m5")), 0);
    assert_eq!(
        scenario.states().len(),
        statuses,
        "the task stands where it stood"
    );
    assert_eq!(scenario.came(with_message(6, "m6")), 1);
    assert_eq!(scenario.consumer.messages, ["m1", "m5", "m3", "m6"]);
}

#[test]
fn a_history_that_is_longer_than_what_is_remembered_is_not_told_twice() {
    let mut scenario = Scenario::begun();
    let mut long = submitted(&sent());
    long.history = Some((0..12_000).map(|n| message(&n.to_string())).collect());
    scenario.cut();
    scenario.came(StreamResponse::Task(long.clone()));
    assert_eq!(scenario.consumer.messages.len(), 12_000);
    scenario.cut();
    long.history.as_mut().unwrap().push(message("new"));
    scenario.came(StreamResponse::Task(long));
    assert_eq!(scenario.consumer.messages.len(), 12_001);
}

#[test]
fn a_message_that_is_both_the_status_s_and_in_the_history_is_told_once() {
    let mut scenario = Scenario::begun();
    scenario.cut();
    let mut eager = task(&[working(1)]);
    eager.history.as_mut().unwrap().push(message("m1"));
    scenario.came(StreamResponse::Task(eager));
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
