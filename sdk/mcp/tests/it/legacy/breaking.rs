//! Broken streams: what happens to pending messages, what is sent again, and when the transport
//! ends.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use bowline_mcp::{CONNECTION_CLOSED, ErrorKind};
use bowline_testkit::peers::LegacySse;
use bowline_testkit::peers::legacy_sse::{echo as reply, event};
use rmcp::model::{ErrorData, ListRootsResult, Root};
use rmcp::service::RequestContext;
use rmcp::{ClientHandler, RoleClient};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::{
    Plain, agent, call_error, echoes, fast_retry, is_lost_call, refusal, serve, transport,
};
use crate::scripted::{respond, soon};

/// Answers everything but the call with the text "lost".
fn unanswering() -> LegacySse {
    LegacySse::with_greeting(
        |_, message| reply(message).filter(|_| !is_lost_call(message)),
        fast_retry,
    )
}

fn methods(server: &LegacySse, session: usize) -> Vec<String> {
    let received = server
        .received()
        .into_iter()
        .filter(|(number, _)| *number == session);
    received
        .map(|(_, message)| message["method"].as_str().unwrap_or("answer").to_owned())
        .collect()
}

#[tokio::test]
async fn a_call_under_way_fails_as_may_have_been_processed_and_is_not_sent_again() {
    let server = unanswering();
    let plain = Plain::serving(&server).await;
    let agent = agent(transport(), &plain.uri()).await;
    echoes(&agent, "ahoy").await;
    let (error, ()) = tokio::join!(call_error(&agent), async {
        soon(server.has_received_text(0, "lost")).await;
        server.cut();
    });
    assert_eq!(error.code, CONNECTION_CLOSED);
    assert_eq!(error.data, Some(json!({ "mayHaveBeenProcessed": true })));
    assert!(
        error.message.contains("the server ended the event stream"),
        "{error:?}"
    );

    echoes(&agent, "ahoy again").await;
    assert_eq!(server.sessions(), 2);
    assert_eq!(
        methods(&server, 1),
        ["initialize", "notifications/initialized", "tools/call"]
    );
    let lost = server
        .received()
        .iter()
        .filter(|(_, message)| is_lost_call(message))
        .count();
    assert_eq!(lost, 1);
    let began = |session| {
        server
            .received()
            .into_iter()
            .find(|(number, _)| *number == session)
            .unwrap()
            .1
    };
    assert_eq!(began(0), began(1), "the handshake is the same");
}

#[tokio::test]
async fn a_call_made_while_there_is_no_stream_goes_to_the_next_session() {
    let gate = Arc::new(Notify::new());
    let server = unanswering();
    let waiting = {
        let gate = gate.clone();
        let gets = Arc::new(AtomicUsize::new(0));
        from_fn(move |request: Request, next: Next| {
            let is_second = request.method() == "GET" && gets.fetch_add(1, Ordering::Relaxed) == 1;
            let gate = gate.clone();
            async move {
                if is_second {
                    gate.notified().await;
                }
                next.run(request).await
            }
        })
    };
    let plain = Plain::start(|_| server.router().layer(waiting)).await;
    let agent = agent(transport(), &plain.uri()).await;
    let (error, ()) = tokio::join!(call_error(&agent), async {
        soon(server.has_received_text(0, "lost")).await;
        server.cut();
    });
    assert_eq!(error.code, CONNECTION_CLOSED);
    tokio::join!(echoes(&agent, "later"), async { gate.notify_one() });
    assert_eq!(
        methods(&server, 1),
        ["initialize", "notifications/initialized", "tools/call"]
    );
}

/// Answers `roots/list` when the test says so, each time with another root.
#[derive(Clone, Default)]
struct SlowRoots {
    count: Arc<AtomicUsize>,
    requested: Arc<Notify>,
    released: Arc<Notify>,
}

impl ClientHandler for SlowRoots {
    async fn list_roots(
        &self,
        _: RequestContext<RoleClient>,
    ) -> Result<ListRootsResult, ErrorData> {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        self.requested.notify_one();
        self.released.notified().await;
        Ok(ListRootsResult::new(vec![Root::new(format!(
            "file:///{number}"
        ))]))
    }
}

#[tokio::test]
async fn a_response_to_the_old_session_is_not_sent_to_the_new_one() {
    let server = unanswering();
    let plain = Plain::serving(&server).await;
    let slow = SlowRoots::default();
    let agent = serve(slow.clone(), transport(), &plain.uri())
        .await
        .unwrap();
    let question = event(&json!({ "jsonrpc": "2.0", "id": "q", "method": "roots/list" }));
    server.send(0, question.clone());
    soon(slow.requested.notified()).await;
    server.cut();
    soon(server.has_received(1, "notifications/initialized")).await;
    server.send(1, question);
    soon(slow.requested.notified()).await;
    // Both answers are ready at once, and have the same id on the wire.
    slow.released.notify_waiters();
    soon(server.has_received_where(1, |message| message.get("result").is_some())).await;
    // Everything else was sent before this.
    echoes(&agent, "ahoy").await;
    let answers: Vec<_> = server
        .received()
        .into_iter()
        .filter(|(_, m)| m.get("result").is_some())
        .collect();
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(answers[0].0, 1);
    assert_eq!(
        (
            &answers[0].1["id"],
            &answers[0].1["result"]["roots"][0]["uri"]
        ),
        (&json!("q"), &json!("file:///1"))
    );
}

#[tokio::test]
async fn a_server_that_drops_every_stream_is_given_up() {
    type Drops = fn(&LegacySse, &Value);
    let kinds: [(&str, Drops); 2] = [
        ("before it answers", |server, message| {
            if message["method"] == "initialize" && server.sessions() > 1 {
                server.cut();
            }
        }),
        ("once it has begun", |server, message| {
            if message["method"] == "notifications/initialized" {
                server.cut();
            }
        }),
    ];
    for (when, drops) in kinds {
        let itself: Arc<Mutex<Option<LegacySse>>> = Arc::default();
        let known = itself.clone();
        let server = LegacySse::with_greeting(
            move |_, message| {
                drops(known.lock().unwrap().as_ref().unwrap(), message);
                reply(message)
            },
            fast_retry,
        );
        *itself.lock().unwrap() = Some(server.clone());
        let plain = Plain::serving(&server).await;
        let agent = agent(transport().max_reconnects(3), &plain.uri()).await;
        server.cut();
        soon(agent.waiting()).await.unwrap();
        assert_eq!(server.sessions(), 1 + 3, "{when}");
        *itself.lock().unwrap() = None;
    }
}

#[tokio::test]
async fn with_no_reconnects_the_first_break_is_the_end_and_says_so() {
    let server = unanswering();
    let plain = Plain::serving(&server).await;
    let agent = agent(transport().max_reconnects(0), &plain.uri()).await;
    let (error, ()) = tokio::join!(call_error(&agent), async {
        soon(server.has_received_text(0, "lost")).await;
        server.cut();
    });
    assert_eq!(error.code, CONNECTION_CLOSED);
    soon(agent.waiting()).await.unwrap();
    assert_eq!(server.sessions(), 1);
}

#[tokio::test]
async fn a_stream_that_is_cut_after_each_response_is_opened_for_every_call() {
    let server = unanswering();
    let plain = Plain::serving(&server).await;
    let agent = agent(transport().max_reconnects(2), &plain.uri()).await;
    for session in 0..20 {
        echoes(&agent, "ahoy").await;
        server.cut();
        soon(server.has_received(session + 1, "notifications/initialized")).await;
    }
    assert_eq!(server.sessions(), 21);
}

#[tokio::test]
async fn a_session_that_cannot_be_reinitialized_like_the_first_one_ends() {
    let versions = |session: usize, message: &Value| {
        let mut reply = reply(message)?;
        if session > 0 && message["method"] == "initialize" {
            reply["result"]["protocolVersion"] = json!("2025-03-26");
        }
        Some(reply)
    };
    let refuses = |session: usize, message: &Value| {
        if session > 0 && message["method"] == "initialize" {
            let error = json!({ "code": -7, "message": "no" });
            Some(json!({ "jsonrpc": "2.0", "id": message["id"], "error": error }))
        } else {
            reply(message)
        }
    };
    for answer in [versions, refuses as fn(usize, &Value) -> Option<Value>] {
        let server = LegacySse::with_greeting(answer, fast_retry);
        let plain = Plain::serving(&server).await;
        let agent = agent(transport(), &plain.uri()).await;
        server.cut();
        soon(agent.waiting()).await.unwrap();
        assert_eq!(server.sessions(), 2, "there is no further attempt");
    }
}

#[tokio::test]
async fn a_stream_that_breaks_before_initialize_is_answered_is_not_opened_again() {
    let itself: Arc<Mutex<Option<LegacySse>>> = Arc::default();
    let known = itself.clone();
    let server = LegacySse::with_greeting(
        move |_, _| {
            known.lock().unwrap().as_ref().unwrap().cut();
            None
        },
        fast_retry,
    );
    *itself.lock().unwrap() = Some(server.clone());
    let plain = Plain::serving(&server).await;
    let failed = serve((), transport(), &plain.uri())
        .await
        .map(drop)
        .unwrap_err();
    assert!(
        failed
            .to_string()
            .contains("the server ended the event stream"),
        "{failed}"
    );
    assert_eq!(server.sessions(), 1);
    *itself.lock().unwrap() = None;
}

#[tokio::test]
async fn an_unavailable_server_is_retried_and_one_that_refuses_is_not() {
    for (status, headers, sessions) in [
        (503, &[("retry-after", "0")][..], 2),
        (429, &[("retry-after", "0")][..], 2),
        (403, &[][..], 1),
        (404, &[][..], 1),
        (307, &[("location", "/elsewhere")][..], 1),
    ] {
        let gets = Arc::new(AtomicUsize::new(0));
        let counted = gets.clone();
        let failing = from_fn(move |request: Request, next: Next| {
            let fails = request.method() == "GET" && counted.fetch_add(1, Ordering::Relaxed) == 1;
            async move {
                if fails {
                    respond(status, headers, "")
                } else {
                    next.run(request).await
                }
            }
        });
        let server = unanswering();
        let plain = Plain::start(|_| server.router().layer(failing)).await;
        let agent = agent(transport(), &plain.uri()).await;
        server.cut();
        if sessions == 2 {
            soon(server.has_received(1, "notifications/initialized")).await;
            echoes(&agent, "ahoy").await;
        } else {
            soon(agent.waiting()).await.unwrap();
        }
        assert_eq!(server.sessions(), sessions, "{status}");
        assert_eq!(gets.load(Ordering::Relaxed), 1 + sessions, "{status}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_fails_at_once() {
    let gone = Plain::start(|_| Router::new()).await.uri();
    let error = refusal(transport(), &gone).await;
    assert!(
        matches!(error.kind(), ErrorKind::Client(_) | ErrorKind::Status(_)),
        "{error}"
    );
}
