//! Streams of events, proper and other.

use std::time::Duration;

use a2a::errordetails::{ERROR_INFO_TYPE, PROTOCOL_DOMAIN};
use a2a::{StreamResponse, error_code};
use a2a_client::ServiceParams;
use bowline_a2a::{Error, ErrorKind};
use bowline_http_client::Fault;
use futures_util::{StreamExt, poll};
use serde_json::{Value, json};

use super::scripted::{Answer, EVENTS, JSON, Scripted, SeenRequest, Then};
use super::{BOTH, LIMIT, create, failure, plain, subscribe, subscribed};
use crate::binding::{Binding, message};
use crate::soon;

type Rewriting = fn(String) -> String;
type Form = Box<dyn Fn(&SeenRequest) -> Value + Send + Sync>;

fn update(state: &str) -> Value {
    json!({ "statusUpdate": { "taskId": "t", "contextId": "c", "status": { "state": format!("TASK_STATE_{state}") } } })
}

/// An event as the binding writes it, `data: ` and all.
fn event(seen: &SeenRequest, binding: Binding, event: Value) -> String {
    format!("data: {}\n\n", seen.result(binding, event))
}

/// What came: the state of each event, and the kind, or the code, of the error at the end.
async fn heard(
    binding: Binding,
    answer: impl Fn(&SeenRequest) -> Answer + Send + Sync + 'static,
) -> Vec<String> {
    let peer = Scripted::start(answer).await;
    let transport = create(binding, &plain(peer.origin()), peer.origin()).await;
    let told = subscribed(&*transport)
        .await
        .into_iter()
        .map(|item| match item {
            Ok(StreamResponse::StatusUpdate(update)) => format!("{:?}", update.status.state),
            Ok(StreamResponse::Task(task)) => format!("task {:?}", task.status.state),
            Ok(StreamResponse::Message(_)) => "message".to_owned(),
            Ok(StreamResponse::ArtifactUpdate(_)) => "artifact".to_owned(),
            Err(error) => match Error::from_a2a(&error) {
                Some(failure) => failure.kind().name().to_owned(),
                None => error.code.to_string(),
            },
        });
    told.collect()
}

#[tokio::test]
async fn events_are_read_however_they_are_written() {
    for binding in BOTH {
        let writings: Vec<(&str, Rewriting)> = vec![
            ("as they are", |text| text),
            ("with CRLF", |text| text.replace('\n', "\r\n")),
            ("with CR", |text| text.replace('\n', "\r")),
            ("with a byte order mark", |text| format!("\u{feff}{text}")),
            ("with comments", |text| {
                format!(
                    ": hello\n\n{}: ping\n\n",
                    text.replace("data: ", ": x\ndata: ")
                )
            }),
            ("with blank lines", |text| format!("\n\n\n{text}\n\n")),
            ("without the blank", |text| text.replace("data: ", "data:")),
            ("with ids and types", |text| {
                text.replace("data: ", "id: 7\nevent: message\nretry: 10\ndata: ")
            }),
            ("with empty events", |text| {
                format!("data:\n\n{text}data\n\n")
            }),
            ("with fields of nobody's", |text| {
                text.replace("data: ", "weather: fine\nevent: x\ndata: ")
            }),
            ("in pieces", |text| text.replace("{\"", "{\ndata: \"")),
            ("with members that nobody knows", |text| {
                text.replace("\"taskId\"", "\"mood\":{\"good\":[1]},\"taskId\"")
            }),
        ];
        for (how, write) in writings {
            for content_type in [EVENTS, Some("Text/Event-Stream; charset=utf-8"), None] {
                let told = heard(binding, move |seen| {
                    let events = event(seen, binding, update("WORKING"))
                        + &event(seen, binding, update("COMPLETED"));
                    Answer::stream(content_type, write(events), Then::Keep)
                })
                .await;
                assert_eq!(
                    told,
                    ["Working", "Completed"],
                    "{binding:?} {how} {content_type:?}"
                );
            }
        }
    }
}

/// The claim is about the end: it is one only where the answer ends, and between events.
#[tokio::test]
async fn a_stream_that_is_cut_never_ends_quietly() {
    for binding in BOTH {
        let cases: Vec<(&str, Rewriting, Then, &[&str])> = vec![
            ("ends between events", |text| text, Then::Keep, &["Working"]),
            (
                "its connection ends between events",
                |text| text,
                Then::Close,
                &["Working", "stream_cut"],
            ),
            (
                "its connection is reset",
                |text| text + ": ping\n",
                Then::Close,
                &["Working", "stream_cut"],
            ),
            (
                "ends in an event",
                |text| text.clone() + text.trim_end(),
                Then::Keep,
                &["Working", "stream_cut"],
            ),
            (
                "ends after an event's line",
                |text| text.clone() + text.trim_end() + "\n",
                Then::Keep,
                &["Working", "stream_cut"],
            ),
            (
                "its connection ends in an event",
                |text| text.clone() + text.trim_end(),
                Then::Close,
                &["Working", "stream_cut"],
            ),
            (
                "ends before an event",
                |_| String::new(),
                Then::Keep,
                &["stream_cut"],
            ),
            (
                "says nothing but comments",
                |_| ": ping\n\n".to_owned(),
                Then::Keep,
                &["stream_cut"],
            ),
            (
                "says nothing but blanks",
                |_| " \n\n".to_owned(),
                Then::Keep,
                &["stream_cut"],
            ),
            (
                "its connection ends before an event",
                |_| String::new(),
                Then::Close,
                &["stream_cut"],
            ),
        ];
        for (how, cut, then, expected) in cases {
            let told = heard(binding, move |seen| {
                Answer::stream(EVENTS, cut(event(seen, binding, update("WORKING"))), then)
            })
            .await;
            assert_eq!(told, expected, "{binding:?} {how}");
        }
    }
}

/// A length is an end, too.
#[tokio::test]
async fn a_stream_with_a_length_is_over_where_its_length_is() {
    for binding in BOTH {
        let told = heard(binding, move |seen| {
            let events = event(seen, binding, update("WORKING"));
            Answer::new(200, &[("content-type", "text/event-stream")], events)
        });
        assert_eq!(told.await, ["Working"], "{binding:?}");
    }
}

#[tokio::test]
async fn a_reset_in_the_middle_is_a_cut_that_says_what_to_do() {
    for binding in BOTH {
        let peer = Scripted::start(move |seen| {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 1000\r\n\r\n";
            let text = event(seen, binding, update("WORKING"));
            // The reset must not overtake what was sent: the peer waits until it is asked for
            // something else.
            match seen.line.contains("subscribe") || seen.body["method"] == "SubscribeToTask" {
                true => Answer::raw(format!("{head}{text}"), Then::Close),
                false => Answer::raw("", Then::Reset),
            }
        })
        .await;
        let transport = create(binding, &plain(peer.origin()), peer.origin()).await;
        let mut events = subscribe(&*transport).await.unwrap();
        assert!(soon(events.next()).await.unwrap().is_ok());
        let error = soon(events.next()).await.unwrap().unwrap_err();
        let failure = failure(&error);
        assert_eq!(
            (failure.kind(), failure.fault()),
            (ErrorKind::StreamCut, Fault::Network)
        );
        assert!(failure.may_have_been_processed());
        assert!(error.message.contains("subscribe to it"), "{error}");
        assert!(soon(events.next()).await.is_none() && soon(events.next()).await.is_none());
    }
}

/// Without a length and without chunks, the connection's end is all the end there is (RFC 9112
/// §6.3).
#[tokio::test]
async fn a_stream_that_only_its_connection_ends_is_over_when_its_task_is() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
    for binding in BOTH {
        for (states, expected) in [
            (&["WORKING"][..], &["Working", "stream_cut"][..]),
            (&["WORKING", "COMPLETED"], &["Working", "Completed"]),
            (&["INPUT_REQUIRED"], &["InputRequired"]),
            (
                &["COMPLETED", "WORKING"],
                &["Completed", "Working", "stream_cut"],
            ),
        ] {
            let told = heard(binding, move |seen| {
                let events = states
                    .iter()
                    .map(|state| event(seen, binding, update(state)));
                Answer::raw(format!("{head}{}", events.collect::<String>()), Then::Close)
            })
            .await;
            assert_eq!(told, expected, "{binding:?}");
        }
    }
}

/// Once the task has ended there is nothing to be cut; while it only waits, there is.
#[tokio::test]
async fn a_connection_that_ends_after_the_last_event_cuts_nothing() {
    for binding in BOTH {
        let answer = json!({ "message": { "messageId": "m", "role": "ROLE_AGENT", "parts": [{ "text": "x" }] } });
        let task = json!({ "task": { "id": "t", "status": { "state": "TASK_STATE_REJECTED" } } });
        for (last, expected) in [
            (update("COMPLETED"), &["Completed"][..]),
            (update("FAILED"), &["Failed"]),
            (task, &["task Rejected"]),
            (answer, &["message"]),
            (update("AUTH_REQUIRED"), &["AuthRequired", "stream_cut"]),
            (update("SUBMITTED"), &["Submitted", "stream_cut"]),
        ] {
            let told = heard(binding, move |seen| {
                Answer::stream(EVENTS, event(seen, binding, last.clone()), Then::Close)
            })
            .await;
            assert_eq!(told, expected, "{binding:?}");
        }
    }
}

#[tokio::test]
async fn an_event_that_is_an_error_ends_its_stream() {
    let details = json!([{ "@type": ERROR_INFO_TYPE, "reason": "TASK_NOT_FOUND", "domain": PROTOCOL_DOMAIN }]);
    let bare = json!({ "code": error_code::TASK_NOT_FOUND, "message": "gone" });
    for binding in BOTH {
        let (details, bare) = (details.clone(), bare.clone());
        let mut forms: Vec<Form> = vec![Box::new(move |seen| {
            seen.error(binding, error_code::TASK_NOT_FOUND, "gone", details.clone())
        })];
        if binding == Binding::HttpJson {
            // As the official Rust server writes it.
            forms.push(Box::new(move |_| bare.clone()));
        }
        for form in forms {
            let told = heard(binding, move |seen| {
                let error = format!("event: error\ndata: {}\n\n", form(seen));
                let events = event(seen, binding, update("WORKING"))
                    + &error
                    + &event(seen, binding, update("COMPLETED"));
                Answer::stream(EVENTS, events, Then::Keep)
            })
            .await;
            assert_eq!(told, ["Working", "-32001"], "{binding:?}");
        }
    }
}

#[tokio::test]
async fn events_that_are_none_end_their_stream() {
    let long = "x".repeat(LIMIT);
    for binding in BOTH {
        let junk: Vec<(Vec<u8>, &str)> = vec![
            (b"data: nonsense\n\n".to_vec(), "not_a2a"),
            (b"data: {\"foo\":1}\n\n".to_vec(), "not_a2a"),
            (b"data: []\n\n".to_vec(), "not_a2a"),
            (b"data: \xff\n\n".to_vec(), "not_a2a"),
            (
                format!("data: {{{}\n\n", "[".repeat(500)).into_bytes(),
                "not_a2a",
            ),
            (format!("data: {long}\n\n").into_bytes(), "too_long"),
            (long.clone().into_bytes().repeat(2), "too_long"),
            ("data: x\n".repeat(LIMIT / 4).into_bytes(), "too_long"),
            (format!(":{long}").into_bytes(), "too_long"),
        ];
        for (bytes, expected) in junk {
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(20)]).into_owned();
            // Endless, so that only the error ends it.
            let told = heard(binding, move |seen| {
                let mut events = event(seen, binding, update("WORKING")).into_bytes();
                events.extend_from_slice(&bytes);
                events.extend_from_slice(event(seen, binding, update("COMPLETED")).as_bytes());
                Answer::stream(EVENTS, events, Then::Hang)
            })
            .await;
            assert_eq!(told, ["Working", expected], "{binding:?} {shown}");
        }
    }
    let told = heard(Binding::JsonRpc, |seen| {
        let mut response = seen.result(Binding::JsonRpc, update("WORKING"));
        response["id"] = json!("another");
        Answer::stream(EVENTS, format!("data: {response}\n\n"), Then::Hang)
    });
    assert_eq!(told.await, ["not_a2a"]);
}

/// A server may answer a call for a stream with one answer, and may even say that it is a stream.
#[tokio::test]
async fn an_answer_in_place_of_events_is_understood() {
    for binding in BOTH {
        for content_type in [
            Some("application/json"),
            Some("application/a2a+json"),
            EVENTS,
            None,
        ] {
            for (result, expected) in [
                (Some(update("COMPLETED")), "Completed"),
                (Some(json!({ "foo": 1 })), "not_a2a"),
                (None, "-32004"),
            ] {
                let told = heard(binding, move |seen| {
                    let reason = json!([{ "@type": ERROR_INFO_TYPE, "reason": "UNSUPPORTED_OPERATION", "domain": PROTOCOL_DOMAIN }]);
                    let body = match &result {
                        Some(result) => seen.result(binding, result.clone()),
                        None => seen.error(binding, error_code::UNSUPPORTED_OPERATION, "no streams", reason),
                    };
                    Answer::stream(content_type, format!("\r\n {body:#}\n"), Then::Keep)
                })
                .await;
                assert_eq!(told, [expected], "{binding:?} {content_type:?}");
            }
            let told = heard(binding, move |_| {
                Answer::stream(content_type, "{\"half\": ", Then::Keep)
            })
            .await;
            assert_eq!(told, ["not_a2a"], "{binding:?} {content_type:?}");
            let told = heard(binding, move |_| {
                Answer::stream(content_type, "{\"half\": ", Then::Close)
            })
            .await;
            assert_eq!(
                told,
                ["may_have_been_processed"],
                "{binding:?} {content_type:?}"
            );
            let long = format!("{{{}", " ".repeat(LIMIT));
            let told = heard(binding, move |_| {
                Answer::stream(content_type, &long, Then::Hang)
            })
            .await;
            assert_eq!(told, ["too_long"], "{binding:?} {content_type:?}");
        }
        let page = heard(binding, |_| {
            Answer::new(200, &[("content-type", "text/html")], "<html></html>")
        });
        assert_eq!(page.await, ["not_a2a"]);
        let refused = heard(binding, |_| Answer::new(401, &[JSON], "{}"));
        assert_eq!(refused.await, ["unauthorized"]);
    }
}

/// The time is tokio's: an agent may say nothing for as long as its task takes.
#[tokio::test]
async fn a_stream_may_take_its_time() {
    for binding in BOTH {
        let peer = Scripted::start(move |seen| {
            Answer::stream(EVENTS, event(seen, binding, update("WORKING")), Then::Hang)
        })
        .await;
        let transport = create(binding, &plain(peer.origin()), peer.origin()).await;
        let events =
            soon(transport.send_streaming_message(&ServiceParams::new(), &message("x"))).await;
        let mut events = events.unwrap();
        assert!(soon(events.next()).await.unwrap().is_ok());
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert!(poll!(events.next()).is_pending());
        tokio::time::resume();
    }
}
