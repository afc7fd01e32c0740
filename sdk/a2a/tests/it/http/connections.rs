//! What becomes of connections: kept where a call has ended, given up where one is dropped.

use a2a::StreamResponse;
use a2a_client::ServiceParams;
use bowline_a2a::Transports;
use bowline_http_client::{Client, HttpVersions, Limits};
use futures_util::StreamExt;
use serde_json::json;

use super::scripted::{Answer, EVENTS, HTML, JSON, Scripted, SeenRequest, TEXT, Then};
use super::{BOTH, create, get_task, plain, subscribe, subscribed};
use crate::binding::Binding;
use crate::grpc::peer::{ScriptedPeer, Step, fields};
use crate::soon;

fn event(seen: &SeenRequest, binding: Binding, state: &str) -> String {
    let status = json!({ "state": format!("TASK_STATE_{state}") });
    let event = json!({ "statusUpdate": { "taskId": "t", "contextId": "c", "status": status } });
    format!("data: {}\n\n", seen.result(binding, event))
}

fn is_stream(seen: &SeenRequest) -> bool {
    seen.field("accept") == ["text/event-stream"]
}

#[tokio::test]
async fn whatever_a_call_is_answered_with_its_connection_is_kept() {
    for binding in BOTH {
        for (status, fields) in [
            (200, vec![HTML]),
            (200, vec![TEXT]),
            (200, vec![JSON]),
            (204, vec![]),
            (302, vec![("location", "/elsewhere")]),
            (401, vec![HTML]),
            (404, vec![JSON]),
            (500, vec![TEXT]),
        ] {
            let fields_given = fields.clone();
            let body = match status {
                204 => String::new(),
                // More than comes at once: hyper reads that of itself.
                302 => "x".repeat(60_000),
                _ => "no A2A".to_owned(),
            };
            let peer = Scripted::start(move |_| Answer::new(status, &fields_given, &body)).await;
            // One connection at a time: a call that finds it not back yet waits for it.
            let transport = create(binding, &one_at_a_time(peer.origin()), peer.origin()).await;
            for _ in 0..3 {
                get_task(&*transport, &ServiceParams::new())
                    .await
                    .unwrap_err();
                assert!(
                    soon(subscribe(&*transport)).await.is_err(),
                    "{binding:?} {status} {fields:?}"
                );
            }
            let connections: Vec<_> = peer.seen().iter().map(|seen| seen.connection).collect();
            assert_eq!(connections, [1; 6], "{binding:?} {status} {fields:?}");
        }
    }
}

fn one_at_a_time(origin: &str) -> Transports {
    let mut limits = Limits::default();
    limits.per_origin = 1;
    let client = Client::builder()
        .allow_plaintext_on_loopback()
        .limits(limits);
    Transports::new(client.build().unwrap(), origin).unwrap()
}

#[tokio::test]
async fn a_stream_that_has_ended_gives_its_connection_back() {
    for binding in BOTH {
        let peer = Scripted::start(move |seen| match is_stream(seen) {
            true => Answer::stream(
                EVENTS,
                event(seen, binding, "WORKING") + &event(seen, binding, "COMPLETED"),
                Then::Keep,
            ),
            false => Answer::json(200, &seen.result(binding, json!({ "id": "t" }))),
        })
        .await;
        // At once, without waiting for it.
        let transport = create(binding, &plain(peer.origin()), peer.origin()).await;
        for _ in 0..10 {
            assert_eq!(subscribed(&*transport).await.len(), 2);
            get_task(&*transport, &ServiceParams::new()).await.unwrap();
            // And one that is left at its last event.
            let mut events = subscribe(&*transport).await.unwrap();
            for _ in 0..2 {
                soon(events.next()).await.unwrap().unwrap();
            }
            drop(events);
            get_task(&*transport, &ServiceParams::new()).await.unwrap();
        }
        assert!(
            peer.seen().iter().all(|seen| seen.connection == 1),
            "{binding:?}"
        );
    }
}

/// The end comes after the event, and later than anybody holds it.
#[tokio::test]
async fn a_stream_left_at_its_last_event_is_read_to_its_end_and_one_left_earlier_is_not() {
    for binding in BOTH {
        for (state, kept) in [
            ("COMPLETED", true),
            ("INPUT_REQUIRED", true),
            ("WORKING", false),
        ] {
            let end = std::sync::Arc::new(tokio::sync::Notify::new());
            let (listener, told) = (
                tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap(),
                end.clone(),
            );
            let origin = format!("http://{}", listener.local_addr().unwrap());
            let serving = tokio::spawn(async move {
                use tokio::io::{AsyncReadExt, AsyncWriteExt};
                let mut connections = 0;
                loop {
                    let (mut tcp, _) = listener.accept().await.unwrap();
                    connections += 1;
                    loop {
                        let mut read = vec![0; 4096];
                        let bytes = tcp.read(&mut read).await.unwrap_or_default();
                        if bytes == 0 {
                            break;
                        }
                        let text = String::from_utf8_lossy(&read[..bytes]).into_owned();
                        let id = text
                            .split("\"id\":\"")
                            .nth(1)
                            .and_then(|rest| rest.split('"').next())
                            .unwrap_or_default();
                        let wrap = |result: serde_json::Value| match binding {
                            Binding::JsonRpc => {
                                json!({ "jsonrpc": "2.0", "id": id, "result": result })
                            }
                            _ => result,
                        };
                        if text.contains("text/event-stream") {
                            let status = json!({ "state": format!("TASK_STATE_{state}") });
                            let event = wrap(
                                json!({ "statusUpdate": { "taskId": "t", "status": status } }),
                            );
                            let event = format!("data: {event}\n\n");
                            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
                            let chunk = format!("{head}{:x}\r\n{event}\r\n", event.len());
                            tcp.write_all(chunk.as_bytes()).await.unwrap();
                            told.notified().await;
                            let _ = tcp.write_all(b"0\r\n\r\n").await;
                        } else {
                            let task =
                                wrap(json!({ "id": "t", "contextId": connections.to_string() }))
                                    .to_string();
                            let head = format!(
                                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                                task.len()
                            );
                            tcp.write_all(format!("{head}{task}").as_bytes())
                                .await
                                .unwrap();
                        }
                    }
                }
            });
            let transport = create(binding, &one_at_a_time(&origin), &origin).await;
            let mut events = subscribe(&*transport).await.unwrap();
            soon(events.next()).await.unwrap().unwrap();
            drop(events);
            // The only connection: it is back when the stream's end is there, or gone.
            let none = ServiceParams::new();
            let next = get_task(&*transport, &none);
            end.notify_one();
            let task = next.await.unwrap();
            assert_eq!(
                task.context_id,
                if kept { "1" } else { "2" },
                "{binding:?} {state}"
            );
            serving.abort();
        }
    }
}

/// On HTTP/2 a stream that nobody reads is reset at once, and its connection lives on.
#[tokio::test]
async fn a_stream_that_is_dropped_is_cancelled_at_once_on_h2() {
    // The id of a JSON-RPC request is not known here; no event is needed for this.
    let head = Step::Head(200, fields([("content-type", "text/event-stream")]));
    let peer = ScriptedPeer::start(vec![
        head,
        Step::Data(b": ping\n\n".to_vec()),
        Step::UntilReset,
    ])
    .await;
    let client = Client::builder()
        .http_versions(HttpVersions::Http2)
        .allow_plaintext_on_loopback();
    let transports = Transports::new(client.build().unwrap(), peer.origin()).unwrap();
    for (n, binding) in [(1, Binding::JsonRpc), (2, Binding::HttpJson)] {
        let transport = create(binding, &transports, peer.origin()).await;
        let events = subscribe(&*transport).await.unwrap();
        drop(events);
        let seen = peer.until(|seen| seen.resets.len() == n).await;
        assert_eq!(
            (seen.resets, seen.connections),
            (vec![h2::Reason::CANCEL; n], 1)
        );
    }
}

/// And on HTTP/2 a reset, GOAWAY or the connection's end in the middle is a cut.
#[tokio::test]
async fn what_ends_a_stream_on_h2_before_its_end_cuts_it() {
    let data =
        json!({ "statusUpdate": { "taskId": "t", "status": { "state": "TASK_STATE_WORKING" } } });
    let data = Step::Data(format!("data: {data}\n\n").into_bytes());
    for (end, expected) in [
        (vec![Step::End], None),
        (
            vec![Step::End, Step::Settle, Step::Reset(h2::Reason::NO_ERROR)],
            None,
        ),
        (
            vec![Step::Settle, Step::Reset(h2::Reason::NO_ERROR)],
            Some("stream_cut"),
        ),
        (
            vec![Step::Settle, Step::Reset(h2::Reason::INTERNAL_ERROR)],
            Some("stream_cut"),
        ),
        (vec![Step::Settle, Step::Cut], Some("stream_cut")),
    ] {
        let head = Step::Head(200, fields([("content-type", "text/event-stream")]));
        let steps: Vec<_> = [head, data.clone()]
            .into_iter()
            .chain(end.clone())
            .collect();
        let peer = ScriptedPeer::start(steps).await;
        let client = Client::builder()
            .http_versions(HttpVersions::Http2)
            .allow_plaintext_on_loopback();
        let transports = Transports::new(client.build().unwrap(), peer.origin()).unwrap();
        let transport = create(Binding::HttpJson, &transports, peer.origin()).await;
        let told = subscribed(&*transport).await;
        assert!(
            matches!(told[0], Ok(StreamResponse::StatusUpdate(_))),
            "{end:?}"
        );
        let error = told
            .get(1)
            .map(|told| super::failure(told.as_ref().unwrap_err()).kind().name());
        assert_eq!(
            (error, told.len()),
            (expected, 1 + usize::from(expected.is_some())),
            "{end:?}"
        );
    }
}

/// An answer that is cut by a reset is none, whatever the reset gives as its reason.
#[tokio::test]
async fn an_answer_on_h2_that_is_reset_in_the_middle_is_not_taken_for_whole() {
    for reason in [
        h2::Reason::NO_ERROR,
        h2::Reason::CANCEL,
        h2::Reason::INTERNAL_ERROR,
    ] {
        let head = Step::Head(200, fields([("content-type", "application/json")]));
        // All of the JSON, and not all of the answer.
        let data = Step::Data(br#"{"id":"t"}"#.to_vec());
        let peer = ScriptedPeer::start(vec![head, data, Step::Settle, Step::Reset(reason)]).await;
        let client = Client::builder()
            .http_versions(HttpVersions::Http2)
            .allow_plaintext_on_loopback();
        let transports = Transports::new(client.build().unwrap(), peer.origin()).unwrap();
        let transport = create(Binding::HttpJson, &transports, peer.origin()).await;
        let error = get_task(&*transport, &ServiceParams::new())
            .await
            .unwrap_err();
        assert_eq!(
            super::failure(&error).kind().name(),
            "may_have_been_processed",
            "{reason:?}"
        );
        assert_eq!(peer.seen().connections, 1);
    }
}
