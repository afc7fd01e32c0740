//! What answers that are no results mean: refusals, pages, nonsense, and ends in the middle.

use a2a::errordetails::{ERROR_INFO_TYPE, PROTOCOL_DOMAIN};
use a2a::{A2AError, error_code};
use a2a_client::ServiceParams;
use bowline_a2a::{Error, ErrorKind};
use bowline_http_client::{AccessToken, Fault};
use serde_json::{Value, json};
use std::time::Duration;

use super::scripted::{Answer, HTML, JSON, Script, Scripted, SeenRequest, TEXT, Then};
use super::{BOTH, LIMIT, create, failure, get_task, plain};
use crate::binding::Binding;
use crate::soon;

/// What a call fails with on a peer that answers like this; each answer leaves its connection alive
/// if `alive`.
async fn refused(
    binding: Binding,
    answer: impl Fn(&SeenRequest) -> Answer + Send + Sync + 'static,
) -> A2AError {
    let peer = Scripted::start(answer).await;
    let transport = create(binding, &plain(peer.origin()), peer.origin()).await;
    get_task(&*transport, &ServiceParams::new())
        .await
        .unwrap_err()
}

fn task() -> Value {
    json!({ "id": "t", "contextId": "c", "status": { "state": "TASK_STATE_WORKING" } })
}

fn not_found() -> Value {
    json!([{ "@type": ERROR_INFO_TYPE, "reason": "TASK_NOT_FOUND", "domain": PROTOCOL_DOMAIN }])
}

#[tokio::test]
async fn an_error_status_without_an_a2a_error_is_told_as_what_it_is() {
    let page = "<html><body>log in, please</body></html>";
    let long = "x".repeat(100_000);
    for binding in BOTH {
        for (status, fields, body, kind, may_have_been, told) in [
            (
                401,
                vec![HTML],
                page,
                ErrorKind::Unauthorized,
                true,
                "401 Unauthorized with an HTML page",
            ),
            (
                401,
                vec![("www-authenticate", r#"Bearer error="invalid_token""#)],
                "",
                ErrorKind::Unauthorized,
                false,
                "no text",
            ),
            (
                401,
                vec![("www-authenticate", r#"Basic error="invalid_token""#)],
                "",
                ErrorKind::Unauthorized,
                true,
                "no text",
            ),
            (
                400,
                vec![TEXT],
                "what?",
                ErrorKind::Status,
                true,
                "400 Bad Request",
            ),
            (408, vec![], "", ErrorKind::Status, true, "408"),
            (409, vec![], "", ErrorKind::Status, true, "409"),
            (421, vec![], "", ErrorKind::Status, false, "421"),
            (425, vec![], "", ErrorKind::Status, false, "425"),
            (
                403,
                vec![TEXT],
                "not you",
                ErrorKind::Forbidden,
                false,
                "403 Forbidden with text/plain: not you",
            ),
            (
                404,
                vec![TEXT],
                "no such page",
                ErrorKind::Status,
                false,
                "is this the URL of the interface?",
            ),
            (
                405,
                vec![],
                "",
                ErrorKind::Status,
                false,
                "is this the URL of the interface?",
            ),
            (
                429,
                vec![TEXT, ("retry-after", "7")],
                "slowly",
                ErrorKind::Status,
                false,
                "429 Too Many Requests with text/plain: slowly",
            ),
            (
                500,
                vec![TEXT],
                "ouch\r\n at line 1",
                ErrorKind::Status,
                true,
                "ouch   at line 1",
            ),
            (
                502,
                vec![HTML],
                page,
                ErrorKind::Status,
                true,
                "502 Bad Gateway with an HTML page",
            ),
            (
                503,
                vec![JSON],
                r#"{"error":"overloaded"}"#,
                ErrorKind::Status,
                true,
                r#"{"error":"overloaded"}"#,
            ),
            (503, vec![JSON], &long, ErrorKind::Status, true, "503"),
            (500, vec![], &long, ErrorKind::Status, true, "…"),
        ] {
            let body = body.to_owned();
            let fields_given = fields.clone();
            let error = refused(binding, move |_| Answer::new(status, &fields_given, &body)).await;
            let failure = failure(&error);
            assert_eq!(
                (failure.kind(), error.code),
                (kind, error_code::INTERNAL_ERROR),
                "{binding:?} {status}"
            );
            assert_eq!(failure.status().map(|status| status.as_u16()), Some(status));
            assert_eq!(
                failure.may_have_been_processed(),
                may_have_been,
                "{binding:?} {status}"
            );
            assert!(
                error.message.contains(told),
                "{binding:?} {status}: {error}"
            );
            assert!(error.message.chars().count() < 400, "{error}");
            let pause = fields
                .contains(&("retry-after", "7"))
                .then(|| Duration::from_secs(7));
            assert_eq!(failure.retry_after(), pause);
        }
    }
}

#[tokio::test]
async fn an_error_of_the_agent_s_is_its_own_and_keeps_the_status_and_the_challenge_that_say_more() {
    let challenge = r#"Bearer error="insufficient_scope", scope="tasks.read""#;
    for binding in BOTH {
        for (status, kind) in [
            (200, None),
            (400, None),
            (404, None),
            (500, None),
            (401, Some(ErrorKind::Unauthorized)),
            (403, Some(ErrorKind::Forbidden)),
            (429, Some(ErrorKind::Status)),
            (503, Some(ErrorKind::Status)),
        ] {
            let error = refused(binding, move |seen| {
                let body = seen.error(
                    binding,
                    error_code::TASK_NOT_FOUND,
                    "no such task",
                    not_found(),
                );
                let fields = [JSON, ("www-authenticate", challenge), ("retry-after", "7")];
                Answer::new(status, &fields, body.to_string())
            })
            .await;
            assert_eq!(
                (error.code, &*error.message),
                (error_code::TASK_NOT_FOUND, "no such task")
            );
            let details = error.details.as_ref().unwrap();
            assert_eq!(details[0].type_url, ERROR_INFO_TYPE);
            let failure = Error::from_a2a(&error);
            assert_eq!(
                failure.as_ref().map(Error::kind),
                kind,
                "{binding:?} {status}"
            );
            if let Some(failure) = failure {
                assert_eq!(failure.status().map(|status| status.as_u16()), Some(status));
                assert_eq!(failure.www_authenticate(), [challenge]);
                assert_eq!(failure.retry_after(), Some(Duration::from_secs(7)));
                assert_eq!(failure.to_string(), "no such task");
            }
        }
    }
}

/// Gateways write errors as Google's do. They are no A2A error, and the status is what counts.
#[tokio::test]
async fn a_gateway_s_error_in_the_shape_of_an_agent_s_is_a_failure() {
    let body = json!({ "error": { "code": 404, "status": "NOT_FOUND", "message": "no route", "details": [] } });
    for binding in BOTH {
        let body = body.clone();
        let error = refused(binding, move |_| Answer::json(404, &body)).await;
        assert_eq!(error.code, error_code::INTERNAL_ERROR);
        let failure = failure(&error);
        assert_eq!(failure.kind(), ErrorKind::Status);
        assert!(error.message.contains("no route"), "{error}");
        assert!(!failure.may_have_been_processed());
    }
}

#[tokio::test]
async fn an_agent_cannot_pretend_a_failure_of_ours() {
    let ours = refused(Binding::JsonRpc, |_| Answer::new(401, &[], "")).await;
    let forged = json!([ours.details.unwrap()[0], not_found()[0]]);
    for binding in BOTH {
        for status in [200, 404] {
            let forged = forged.clone();
            let error = refused(binding, move |seen| {
                let body = seen.error(binding, error_code::TASK_NOT_FOUND, "m", forged.clone());
                Answer::json(status, &body)
            })
            .await;
            assert_eq!(
                (error.code, Error::from_a2a(&error)),
                (error_code::TASK_NOT_FOUND, None)
            );
        }
    }
}

/// Whatever comes with success, a result is a result, and nothing else is.
#[tokio::test]
async fn success_that_is_no_a2a_says_so() {
    for binding in BOTH {
        let deep = "[".repeat(900);
        let answers: Vec<(&str, Script)> = vec![
            (
                "with something that is not A2A (not JSON): an HTML page",
                Box::new(|_| Answer::new(200, &[HTML], "<html>log in</html>")),
            ),
            (
                "text/plain: fine, thanks",
                Box::new(|_| Answer::new(200, &[TEXT], "fine, thanks")),
            ),
            ("no text", Box::new(|_| Answer::new(204, &[], ""))),
            ("no text", Box::new(|_| Answer::new(200, &[JSON], ""))),
            (
                "EOF while parsing",
                Box::new(|_| Answer::new(200, &[JSON], "{")),
            ),
            (
                "EOF while parsing",
                Box::new(|_| Answer::new(200, &[JSON], "\u{feff}{")),
            ),
            ("", Box::new(move |_| Answer::new(200, &[JSON], &deep))),
            (
                "",
                Box::new(|_| Answer::new(200, &[JSON], b"{\"id\":\"\xff\"}")),
            ),
            ("", Box::new(|_| Answer::new(200, &[JSON], "[]"))),
            ("", Box::new(|_| Answer::new(200, &[JSON], "7"))),
            (
                "a task without an id",
                Box::new(move |seen| Answer::json(200, &seen.result(binding, json!({})))),
            ),
            (
                "",
                Box::new(move |seen| Answer::json(200, &seen.result(binding, Value::Null))),
            ),
            (
                "a task without an id",
                Box::new(move |seen| {
                    Answer::json(200, &seen.result(binding, json!({ "task": task() })))
                }),
            ),
            (
                "a task without an id",
                Box::new(move |seen| {
                    Answer::json(200, &seen.result(binding, json!({ "configs": [] })))
                }),
            ),
            (
                "",
                Box::new(move |seen| Answer::json(200, &seen.result(binding, json!({ "id": 7 })))),
            ),
        ];
        for (told, answer) in answers {
            let error = refused(binding, answer).await;
            let failure = failure(&error);
            assert_eq!(
                (failure.kind(), failure.fault()),
                (ErrorKind::NotA2a, Fault::Peer),
                "{binding:?} {told}: {error}"
            );
            assert!(error.message.contains(told), "{binding:?} {told}: {error}");
            assert!(failure.may_have_been_processed() && failure.status().is_some());
        }
    }
    let other = |seen: &SeenRequest| {
        let mut response = seen.result(Binding::JsonRpc, task());
        response["id"] = json!("another");
        Answer::json(200, &response)
    };
    let error = refused(Binding::JsonRpc, other).await;
    assert!(
        error.message.contains("it answers another request"),
        "{error}"
    );
}

#[tokio::test]
async fn a_result_counts_whatever_type_it_says_it_has() {
    for binding in BOTH {
        for content_type in [
            Some("application/json; charset=utf-8"),
            Some("application/a2a+json"),
            Some("text/plain"),
            None,
        ] {
            let peer = Scripted::start(move |seen| {
                let fields: Vec<_> = content_type
                    .iter()
                    .map(|value| ("content-type", *value))
                    .collect();
                Answer::new(200, &fields, seen.result(binding, task()).to_string())
            })
            .await;
            let transport = create(binding, &plain(peer.origin()), peer.origin()).await;
            let task = get_task(&*transport, &ServiceParams::new()).await.unwrap();
            assert_eq!(task.id, "t");
        }
    }
}

#[tokio::test]
async fn an_answer_may_be_as_long_as_the_limit_and_no_longer() {
    for binding in BOTH {
        for chunked in [false, true] {
            for (length, is_taken) in [(LIMIT, true), (LIMIT + 1, false)] {
                let peer = Scripted::start(move |seen| {
                    let body = format!("{:length$}", seen.result(binding, task()).to_string());
                    match chunked {
                        true => Answer::stream(Some("application/json"), body, Then::Keep),
                        false => Answer::new(200, &[JSON], body),
                    }
                })
                .await;
                let transport = create(binding, &plain(peer.origin()), peer.origin()).await;
                let got = get_task(&*transport, &ServiceParams::new()).await;
                assert_eq!(got.is_ok(), is_taken, "{binding:?} {chunked} {length}");
                if let Err(error) = got {
                    assert_eq!(failure(&error).kind(), ErrorKind::TooLong);
                    assert!(failure(&error).may_have_been_processed());
                    assert!(error.message.contains("1000 bytes"), "{error}");
                    assert_eq!(failure(&error).status(), Some(http::StatusCode::OK));
                }
            }
        }
    }
}

#[tokio::test]
async fn a_connection_that_ends_before_or_in_an_answer_leaves_the_call_in_doubt() {
    let half = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{";
    for binding in BOTH {
        for bytes in ["", "HTTP/1.1 200", half] {
            for then in [Then::Close, Then::Reset] {
                let error = refused(binding, move |_| Answer::raw(bytes, then)).await;
                let failure = failure(&error);
                assert_eq!(
                    failure.kind(),
                    ErrorKind::MayHaveBeenProcessed,
                    "{binding:?} {bytes:?} {then:?}: {error}"
                );
                assert!(failure.may_have_been_processed());
                assert_eq!(failure.fault(), Fault::Network);
            }
        }
    }
}

/// A message is sent once; what changes nothing may be sent again (CL-7).
#[tokio::test]
async fn only_calls_that_change_nothing_are_sent_again_after_a_connection_that_ended() {
    for binding in BOTH {
        let peer = Scripted::start(|_| Answer::raw("", Then::Close)).await;
        let transport = create(binding, &plain(peer.origin()), peer.origin()).await;
        let none = ServiceParams::new();
        get_task(&*transport, &none).await.unwrap_err();
        assert_eq!(peer.seen().len(), 2, "{binding:?}");
        soon(transport.send_message(&none, &crate::binding::message("once")))
            .await
            .unwrap_err();
        assert_eq!(peer.seen().len(), 3, "{binding:?}");
        let streamed =
            soon(transport.send_streaming_message(&none, &crate::binding::message("once"))).await;
        assert!(streamed.is_err());
        assert_eq!(peer.seen().len(), 4, "{binding:?}");
    }
}

/// An error with many details is longer than what a person reads of an answer.
#[tokio::test]
async fn a_long_error_of_the_agent_s_is_read_whole() {
    for binding in BOTH {
        for content_type in [
            "application/json",
            "application/a2a+json",
            "Application/Problem+JSON; charset=utf-8",
        ] {
            let peer = Scripted::start(move |seen| {
                let body = seen.error(
                    binding,
                    error_code::TASK_NOT_FOUND,
                    &"m".repeat(100_000),
                    not_found(),
                );
                Answer::new(404, &[("content-type", content_type)], body.to_string())
            })
            .await;
            let transports = plain(peer.origin()).max_response(1 << 20);
            let transport = create(binding, &transports, peer.origin()).await;
            let error = get_task(&*transport, &ServiceParams::new())
                .await
                .unwrap_err();
            let told = (error.code, error.message.len(), Error::from_a2a(&error));
            assert_eq!(
                told,
                (error_code::TASK_NOT_FOUND, 100_000, None),
                "{binding:?} {content_type}"
            );
        }
    }
}

/// What is deleted is answered with nothing, in whatever words; an error is an error.
#[tokio::test]
async fn a_deletion_is_done_unless_it_failed() {
    let request = a2a::DeleteTaskPushNotificationConfigRequest {
        task_id: "t".to_owned(),
        id: "c".to_owned(),
        tenant: None,
    };
    for (status, body, code) in [
        (200, "", None),
        (204, "", None),
        (200, "{}", None),
        (200, "deleted", None),
        (
            200,
            r#"{"error":{"message":"m"}}"#,
            Some(error_code::INTERNAL_ERROR),
        ),
        (
            404,
            r#"{"error":{"message":"m"}}"#,
            Some(error_code::INTERNAL_ERROR),
        ),
    ] {
        let peer = Scripted::start(move |_| Answer::new(status, &[], body)).await;
        let transport = create(Binding::HttpJson, &plain(peer.origin()), peer.origin()).await;
        let deleted = soon(transport.delete_push_config(&ServiceParams::new(), &request)).await;
        assert_eq!(
            deleted.err().map(|error| error.code),
            code,
            "{status} {body}"
        );
    }
}

/// The time is tokio's, and passes as the test wants.
#[tokio::test]
async fn an_answer_that_trickles_times_out() {
    let begun = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n{";
    for binding in BOTH {
        let peer = Scripted::start(move |_| Answer::raw(begun, Then::Hang)).await;
        let transport = create(binding, &plain(peer.origin()), peer.origin()).await;
        let params = ServiceParams::new();
        let request = a2a::GetTaskRequest {
            id: "t".to_owned(),
            history_length: None,
            tenant: None,
        };
        let mut call = transport.get_task(&params, &request);
        tokio::select! {
            _ = &mut call => panic!("there is no end to it"),
            () = peer.until_asked(1) => {}
        }
        tokio::time::pause();
        // Counted from the head, which may take a moment to be noticed.
        let mut seconds = 0;
        let error = loop {
            match futures_util::poll!(&mut call) {
                std::task::Poll::Ready(answer) => break answer.unwrap_err(),
                std::task::Poll::Pending => seconds += 1,
            }
            assert!(seconds < 120, "a minute is enough");
            tokio::time::advance(Duration::from_secs(1)).await;
        };
        assert!(seconds >= 59, "{seconds}");
        tokio::time::resume();
        assert_eq!(failure(&error).kind(), ErrorKind::TimedOut, "{error}");
        assert!(failure(&error).may_have_been_processed());
    }
}

#[tokio::test]
async fn redirects_are_followed_below_the_interface_and_nothing_goes_elsewhere() {
    let elsewhere = Scripted::start(|_| Answer::new(200, &[], "")).await;
    for binding in BOTH {
        let away = format!("{}/v2?secret=1", elsewhere.origin());
        // The path of the interface's URL, `/a2a` in the rows.
        let path = if binding == Binding::JsonRpc {
            "/jsonrpc"
        } else {
            "/rest"
        };
        for (status, location, is_followed) in [
            (307, "/a2a/v2/here", true),
            (308, "/a2a/v2/here", true),
            (302, "/a2a/v2/here", false),
            (303, "/a2a/v2/here", false),
            // Another path is another audience (CL-6).
            (307, "/other/v2/here", false),
            (307, "/a2a/../v2/here", false),
            (307, "/a2a/v2/here?x=1", false),
            (307, &away, false),
            (308, &away, false),
        ] {
            let location = location.replace("/a2a", path);
            let to = location.clone();
            let peer = Scripted::start(move |seen| match seen.line.ends_with("/v2/here") {
                true => Answer::json(200, &seen.result(binding, task())),
                // More than comes at once: hyper reads that of itself.
                false => Answer::new(status, &[("location", &to)], "x".repeat(60_000)),
            })
            .await;
            let transports = plain(peer.origin()).token(AccessToken::new("a-token").unwrap());
            let transport = create(binding, &transports, peer.origin()).await;
            let got = get_task(&*transport, &ServiceParams::new()).await;
            assert_eq!(
                got.is_ok(),
                is_followed,
                "{binding:?} {status} {location} {got:?}"
            );
            let seen = peer.seen();
            assert_eq!(seen.len(), 1 + usize::from(is_followed));
            assert!(seen.iter().all(|seen| seen.connection == 1));
            let is_same = |again: &SeenRequest| {
                (again.body == seen[0].body)
                    && again.line.split(' ').next() == seen[0].line.split(' ').next()
            };
            assert!(
                seen.iter()
                    .all(|seen| seen.field("authorization") == ["Bearer a-token"] && is_same(seen))
            );
            if let Err(error) = got {
                assert_eq!(failure(&error).kind(), ErrorKind::Redirect);
                // Only 307 and 308 say that nothing was done: 303, and often 302, is how a form
                // that was taken is answered.
                let is_promised = matches!(status, 307 | 308);
                assert_eq!(
                    failure(&error).may_have_been_processed(),
                    !is_promised,
                    "{status}"
                );
                assert!(
                    error.message.contains("/v2") && !error.message.contains("secret"),
                    "{error}"
                );
            }
        }
        let again = format!("{path}/again");
        let round = Scripted::start(move |_| Answer::new(307, &[("location", &again)], "")).await;
        let transport = create(binding, &plain(round.origin()), round.origin()).await;
        let error = get_task(&*transport, &ServiceParams::new())
            .await
            .unwrap_err();
        assert_eq!(
            (failure(&error).kind(), round.seen().len()),
            (ErrorKind::Redirect, 4)
        );
    }
    assert_eq!(elsewhere.seen().len(), 0);
}

/// A challenge that asks for a proof, to a client that can make none: another token would not help
/// (CL-5).
#[tokio::test]
async fn a_proof_that_cannot_be_made_is_no_matter_of_the_token() {
    for binding in BOTH {
        let error = refused(binding, |_| {
            let challenge = ("www-authenticate", r#"Bearer error="use_session_binding""#);
            Answer::new(401, &[challenge, JSON], "{}")
        })
        .await;
        assert_eq!(failure(&error).kind(), ErrorKind::BindingRefused, "{error}");
    }
}

/// A peer that repeats the credentials it was sent in whatever it says (EX-7).
#[tokio::test]
async fn a_peer_that_repeats_a_token_brings_nothing_of_it_into_a_message() {
    let token = "mF_9.B5f-4.1JqM.SlAV32hkKG8xLOBeZQQYbYS6WxSbIA4";
    for binding in BOTH {
        for (status, fields) in [
            (500, vec![TEXT]),
            (401, vec![TEXT]),
            (404, vec![JSON]),
            (200, vec![TEXT]),
            (200, vec![JSON]),
            (302, vec![]),
            (400, vec![("content-type", token)]),
        ] {
            for own in [true, false] {
                let fields = fields.clone();
                let peer = Scripted::start(move |seen| {
                    let sent = seen.field("authorization").join(" ");
                    let secret = sent.trim_start_matches("Bearer ").to_owned();
                    let location = format!("/{secret}?token={secret}#{secret}");
                    let mut fields = fields.clone();
                    if status == 302 {
                        fields.push(("location", &location));
                    }
                    let said = match fields.contains(&JSON) {
                        true => json!({ "error": { "message": sent, "code": 1 } }).to_string(),
                        false => format!(
                            "what is {sent:?}, or {} or {}?",
                            &secret[..20],
                            &secret[secret.len() - 20..]
                        ),
                    };
                    Answer::new(status, &fields, said)
                })
                .await;
                let mut transports = plain(peer.origin());
                let mut params = ServiceParams::new();
                match own {
                    true => transports = transports.token(AccessToken::new(token).unwrap()),
                    false => drop(
                        params.insert("Authorization".to_owned(), vec![format!("Bearer {token}")]),
                    ),
                }
                let transport = create(binding, &transports, peer.origin()).await;
                let error = get_task(&*transport, &params).await.unwrap_err();
                let is_agents = binding == Binding::HttpJson
                    && status == 200
                    && Error::from_a2a(&error).is_none();
                let shown = format!("{error} {error:?} {:?}", Error::from_a2a(&error));
                for piece in [token, &token[..20], &token[token.len() - 20..]] {
                    assert!(
                        is_agents || !shown.contains(piece),
                        "{binding:?} {status}: {shown}"
                    );
                }
            }
        }
    }
}
