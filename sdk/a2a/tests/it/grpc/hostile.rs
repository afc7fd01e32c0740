//! Agents, and things in front of them, that answer otherwise than gRPC wants.

use std::time::Duration;

use a2a::{A2AError, GetTaskRequest};
use a2a_client::{ServiceParams, Transport};
use bowline_a2a::ErrorKind;
use futures_util::{StreamExt, poll};
use h2::Reason;

use super::peer::{EVENT, ScriptedPeer, Step, TASK, fields, grpc_head, message, ok};
use super::{
    failure, get_task, plain_transport, plain_transports, subscribe, subscribed, transport,
};

/// What a call, and what a subscription, get.
pub(super) async fn both(steps: Vec<Step>) -> (A2AError, Vec<A2AError>, usize) {
    let peer = ScriptedPeer::start(steps).await;
    let transport = plain_transport(&peer).await;
    let error = get_task(&*transport, &ServiceParams::new())
        .await
        .unwrap_err();
    let told = subscribed(&*transport).await;
    let events = told.iter().filter(|told| told.is_ok()).count();
    assert!(
        told[..events].iter().all(Result::is_ok),
        "an error is the last item: {told:?}"
    );
    let errors = told.into_iter().filter_map(Result::err).collect();
    (error, errors, events)
}

/// Of a call, and of a subscription, which yields nothing else.
async fn error_kinds(transport: &dyn Transport) -> [ErrorKind; 2] {
    let error = get_task(transport, &ServiceParams::new())
        .await
        .unwrap_err();
    let events = subscribed(transport).await;
    assert_eq!(events.len(), 1, "{events:?}");
    let of_stream = events[0].as_ref().unwrap_err();
    [&error, of_stream].map(|error| failure(error).kind())
}

#[tokio::test]
async fn what_is_no_grpc_is_told_as_what_it_is() {
    let html = "<html>no</html>";
    for (status, content_type, body, kind, says) in [
        (
            401,
            "text/html",
            html,
            ErrorKind::Unauthorized,
            "an HTML page",
        ),
        (
            403,
            "text/plain",
            "not you",
            ErrorKind::Forbidden,
            "not you",
        ),
        (500, "text/plain", "oh dear", ErrorKind::Status, "oh dear"),
        (503, "application/grpc", "", ErrorKind::Status, "no text"),
        (200, "text/html", html, ErrorKind::NotA2a, "an HTML page"),
        (
            200,
            "application/grpc-web+proto",
            html,
            ErrorKind::NotA2a,
            "grpc-web",
        ),
        (
            200,
            "application/grpc+json",
            html,
            ErrorKind::NotA2a,
            "grpc+json",
        ),
    ] {
        let head = fields([
            ("content-type", content_type),
            ("www-authenticate", r#"Bearer realm="agents""#),
            ("retry-after", "7"),
        ]);
        let mut steps = vec![Step::Head(status, head)];
        if !body.is_empty() {
            steps.push(Step::Data(body.as_bytes().to_vec()));
        }
        steps.push(Step::End);
        let shown = format!("{steps:?}");
        let (error, errors, events) = both(steps).await;
        assert_eq!((errors.len(), events), (1, 0), "{shown}");
        for error in [&error, &errors[0]] {
            let failure = failure(error);
            assert_eq!(failure.kind(), kind, "{shown}");
            assert_eq!(
                failure.status().map(|status| status.as_u16()),
                Some(status),
                "{shown}"
            );
            assert_eq!(
                failure.www_authenticate(),
                [r#"Bearer realm="agents""#],
                "{shown}"
            );
            assert_eq!(
                failure.retry_after().map(|pause| pause.as_secs()),
                Some(7),
                "{shown}"
            );
            assert!(failure.to_string().contains(says), "{failure}");
            assert!(!failure.to_string().contains("grpc-status"), "{failure}");
            // A 401 with a bare challenge may be one that a gateway passes on (CL-7).
            let denied = kind == ErrorKind::Forbidden;
            assert_eq!(failure.may_have_been_processed(), !denied, "{shown}");
        }
    }
}

/// However an answer is cut: a call may have been processed, and a stream is no stream that ended.
#[tokio::test]
async fn an_answer_that_is_cut_never_ends_quietly() {
    let half = |bytes: &[u8]| {
        let Step::Data(mut message) = message(bytes) else {
            unreachable!()
        };
        message.truncate(message.len() - 1);
        Step::Data(message)
    };
    let ends = [
        vec![Step::End],
        vec![Step::Trailers(fields([("x-request-id", "7")]))],
        vec![Step::Reset(Reason::CANCEL)],
        vec![Step::Reset(Reason::NO_ERROR)],
        vec![Step::Reset(Reason::INTERNAL_ERROR)],
        vec![Step::Reset(Reason::REFUSED_STREAM)],
        vec![Step::Goaway],
        vec![Step::Cut],
        vec![half(b"xx"), Step::End],
        vec![half(b"xx"), ok()],
        vec![Step::Data(vec![0, 0]), ok()],
        vec![half(b"xx"), Step::Cut],
    ];
    for end in ends {
        for bytes in [None, Some(TASK), Some(EVENT)] {
            let mut steps = vec![grpc_head()];
            steps.extend(bytes.map(message));
            steps.push(Step::Settle);
            steps.extend(end.clone());
            let shown = format!("{steps:?}");
            let (error, errors, events) = both(steps).await;
            let failed = failure(&error);
            // Half a message after a whole one is a second one begun, too.
            let kinds = [ErrorKind::MayHaveBeenProcessed, ErrorKind::NotA2a];
            assert!(kinds.contains(&failed.kind()), "{shown}: {failed}");
            assert!(failed.may_have_been_processed(), "{shown}");
            if bytes != Some(TASK) {
                assert_eq!(errors.len(), 1, "{shown}: {errors:?}");
                let failed = failure(&errors[0]);
                assert_eq!(failed.kind(), ErrorKind::StreamCut, "{shown}: {failed}");
                assert_eq!(events, usize::from(bytes.is_some()), "{shown}");
            }
        }
    }
}

/// A status that comes whole is what ends an answer, whatever else does not.
#[tokio::test]
async fn an_answer_that_ends_with_success_has_ended() {
    for (steps, events) in [
        (vec![grpc_head(), ok()], 0),
        (vec![grpc_head(), message(EVENT), ok()], 1),
        (
            vec![
                grpc_head(),
                message(EVENT),
                message(EVENT),
                ok(),
                Step::Goaway,
            ],
            2,
        ),
        (
            vec![Step::HeadOnly(
                200,
                fields([("content-type", "application/grpc"), ("grpc-status", "0")]),
            )],
            0,
        ),
    ] {
        let shown = format!("{steps:?}");
        let peer = ScriptedPeer::start(steps).await;
        let transport = plain_transport(&peer).await;
        let told = subscribed(&*transport).await;
        assert!(
            told.len() == events && told.iter().all(Result::is_ok),
            "{shown}: {told:?}"
        );
    }
    let identity = [
        ("content-type", "application/grpc+proto;x=y"),
        ("grpc-encoding", "identity"),
    ];
    for head in [grpc_head(), Step::Head(200, fields(identity))] {
        let peer = ScriptedPeer::start(vec![head, message(TASK), ok()]).await;
        let transport = plain_transport(&peer).await;
        assert_eq!(
            get_task(&*transport, &ServiceParams::new())
                .await
                .unwrap()
                .id,
            "t"
        );
    }
}

#[tokio::test]
async fn messages_that_are_none_are_not_a2a() {
    let compressed = || Step::Data(vec![1, 0, 0, 0, 1, 7]);
    let encoded = Step::Head(
        200,
        fields([
            ("content-type", "application/grpc"),
            ("grpc-encoding", "gzip"),
        ]),
    );
    for (steps, says) in [
        (
            vec![grpc_head(), message(&[0xff; 9]), ok()],
            "not an A2A message",
        ),
        (vec![grpc_head(), compressed(), ok()], "compress"),
        (vec![encoded, compressed(), ok()], "gzip"),
        (
            vec![grpc_head(), Step::Data(vec![9, 0, 0, 0, 0]), ok()],
            "not an A2A message",
        ),
    ] {
        let shown = format!("{steps:?}");
        let (error, errors, events) = both(steps).await;
        assert_eq!((errors.len(), events), (1, 0), "{shown}");
        for error in [&error, &errors[0]] {
            let failure = failure(error);
            assert_eq!(failure.kind(), ErrorKind::NotA2a, "{shown}");
            assert!(
                failure.to_string().contains(says) && failure.may_have_been_processed(),
                "{failure}"
            );
        }
    }
    // One answer is one message, and a stream's event is of some kind.
    for steps in [
        vec![grpc_head(), ok()],
        vec![grpc_head(), message(TASK), message(TASK), ok()],
        vec![Step::HeadOnly(
            200,
            fields([("content-type", "application/grpc"), ("grpc-status", "0")]),
        )],
    ] {
        let (error, ..) = both(steps).await;
        assert_eq!(failure(&error).kind(), ErrorKind::NotA2a, "{error}");
    }
    let (_, errors, events) = both(vec![
        grpc_head(),
        message(EVENT),
        message(&[]),
        message(EVENT),
        Step::End,
    ])
    .await;
    assert_eq!(
        (failure(&errors[0]).kind(), errors.len(), events),
        (ErrorKind::NotA2a, 1, 1)
    );
}

#[tokio::test]
async fn what_is_too_long_is_said_to_be_before_it_comes() {
    let announced = |bytes: u32| Step::Data([&[0][..], &bytes.to_be_bytes()].concat());
    for (bytes, then, kinds) in [
        (
            1 << 20,
            Step::End,
            [ErrorKind::MayHaveBeenProcessed, ErrorKind::StreamCut],
        ),
        ((1 << 20) + 1, Step::UntilReset, [ErrorKind::TooLong; 2]),
        (u32::MAX, Step::UntilReset, [ErrorKind::TooLong; 2]),
    ] {
        let peer = ScriptedPeer::start(vec![grpc_head(), announced(bytes), then]).await;
        let transports = plain_transports(peer.origin())
            .max_response(1 << 20)
            .max_event(1 << 20);
        let transport = transport(&*transports.grpc(), peer.origin()).await.unwrap();
        let told = error_kinds(&*transport).await;
        assert_eq!(told, kinds, "{bytes}");
        if kinds == [ErrorKind::TooLong; 2] {
            let seen = peer.until(|seen| seen.resets.len() == 2).await;
            assert_eq!(
                (seen.resets, seen.connections),
                (vec![Reason::CANCEL; 2], 1)
            );
        }
    }
    // To each its own limit.
    let peer = ScriptedPeer::start(vec![grpc_head(), announced(50), Step::End]).await;
    for (answer, event, kinds) in [
        (
            50,
            49,
            [ErrorKind::MayHaveBeenProcessed, ErrorKind::TooLong],
        ),
        (49, 50, [ErrorKind::TooLong, ErrorKind::StreamCut]),
    ] {
        let transports = plain_transports(peer.origin())
            .max_response(answer)
            .max_event(event);
        let transport = transport(&*transports.grpc(), peer.origin()).await.unwrap();
        let told = error_kinds(&*transport).await;
        assert_eq!(told, kinds);
    }
    // More than tonic takes of itself, and less than we do.
    let text = vec![b'x'; 5 << 20];
    let length = [0x80, 0x80, 0xc0, 2];
    let task = [&[0x0a][..], &length, &text].concat();
    let peer = ScriptedPeer::start(vec![grpc_head(), message(&task), ok()]).await;
    let transport = plain_transport(&peer).await;
    assert_eq!(
        get_task(&*transport, &ServiceParams::new())
            .await
            .unwrap()
            .id
            .len(),
        5 << 20
    );
}

/// The time is tokio's, and passes as the test wants.
#[tokio::test]
async fn an_answer_that_does_not_end_times_out_and_a_stream_may_take_its_time() {
    // An event's bytes are those of a task, too.
    let peer = ScriptedPeer::start(vec![grpc_head(), message(EVENT), Step::UntilReset]).await;
    let transport = plain_transport(&peer).await;
    let mut events = subscribe(&*transport).await.unwrap();
    assert!(matches!(crate::soon(events.next()).await, Some(Ok(_))));
    let request = GetTaskRequest {
        id: "t".to_owned(),
        history_length: None,
        tenant: None,
    };
    let params = ServiceParams::new();
    let mut call = transport.get_task(&params, &request);
    tokio::select! {
        _ = &mut call => panic!("there is no end to it"),
        _ = peer.until(|seen| seen.requests.len() == 2) => {}
    }
    tokio::time::pause();
    let error = tokio::select! {
        answer = call => answer.unwrap_err(),
        () = async { loop { tokio::time::advance(Duration::from_secs(60)).await } } => unreachable!(),
    };
    let failed = failure(&error);
    assert_eq!(failed.kind(), ErrorKind::TimedOut, "{error}");
    assert!(failed.may_have_been_processed());
    tokio::time::advance(Duration::from_secs(3600)).await;
    assert!(poll!(events.next()).is_pending());
}

/// protobuf takes an empty message for any; JSON would not pass either.
#[tokio::test]
async fn an_empty_message_is_no_result_and_no_event() {
    let empty = |bytes: &[u8]| vec![grpc_head(), message(bytes), ok()];
    let (error, ..) = both(empty(&[])).await;
    assert_eq!(failure(&error).kind(), ErrorKind::NotA2a, "{error}");
    assert!(error.message.contains("a task without an id"), "{error}");
    // A task, a status update and an artifact update.
    for kind in [0x0a, 0x1a, 0x22] {
        let (_, errors, events) = both(empty(&[kind, 0])).await;
        assert_eq!(events, 0);
        assert_eq!(
            failure(&errors[0]).kind(),
            ErrorKind::NotA2a,
            "{kind}: {errors:?}"
        );
        assert!(
            errors[0].message.contains("without a task's id"),
            "{errors:?}"
        );
    }
}
