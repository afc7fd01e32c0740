//! Statuses of gRPC, and what they become.

use std::time::Duration;

use a2a::{SubscribeToTaskRequest, TypedDetail, error_code, errordetails};
use a2a_client::ServiceParams;
use bowline_a2a::long_task::{Cause, LongTask, RetryPolicy, TaskEvent};
use bowline_a2a::{Error, ErrorKind};
use bytes::Bytes;
use futures_util::StreamExt;
use http::HeaderMap;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::hostile::both;
use super::peer::{EVENT, ScriptedPeer, Step, TASK, fields, grpc_head, message};
use super::{failure, get_task, plain_transport, subscribed};

/// The fields of a status, as the official server writes them.
fn told(status: &Status) -> HeaderMap {
    let mut fields = HeaderMap::new();
    status.add_header(&mut fields).unwrap();
    fields
}

/// A status in the head, and one in the trailers.
fn placed(status: &HeaderMap) -> [Vec<Step>; 2] {
    let mut head = fields([("content-type", "application/grpc")]);
    head.extend(status.clone());
    [
        vec![Step::HeadOnly(200, head)],
        vec![grpc_head(), Step::Trailers(status.clone())],
    ]
}

/// By their details, and without by their code, in the head and in the trailers: what the stock
/// transport makes of them.
#[tokio::test]
async fn an_agent_s_errors_are_a2a_s() {
    let info = |reason: &str, domain: &str| {
        let about = [("taskId".to_owned(), "t".to_owned())];
        ErrorDetails::with_error_info(reason, domain, about)
    };
    let ours = errordetails::PROTOCOL_DOMAIN;
    for (code, details, expected) in [
        (
            Code::FailedPrecondition,
            info("UNSUPPORTED_OPERATION", ours),
            error_code::UNSUPPORTED_OPERATION,
        ),
        (
            Code::Unknown,
            info("TASK_NOT_FOUND", ours),
            error_code::TASK_NOT_FOUND,
        ),
        (
            Code::FailedPrecondition,
            info("UNSUPPORTED_OPERATION", "example.com"),
            error_code::TASK_NOT_CANCELABLE,
        ),
        (
            Code::NotFound,
            info("NEVER_HEARD_OF", ours),
            error_code::TASK_NOT_FOUND,
        ),
        (
            Code::NotFound,
            ErrorDetails::new(),
            error_code::TASK_NOT_FOUND,
        ),
        (
            Code::FailedPrecondition,
            ErrorDetails::new(),
            error_code::TASK_NOT_CANCELABLE,
        ),
        (
            Code::Unimplemented,
            ErrorDetails::new(),
            error_code::METHOD_NOT_FOUND,
        ),
        (
            Code::InvalidArgument,
            ErrorDetails::new(),
            error_code::INVALID_PARAMS,
        ),
        (
            Code::Internal,
            ErrorDetails::new(),
            error_code::INTERNAL_ERROR,
        ),
    ] {
        let has_info = details.error_info().is_some();
        let status = Status::with_error_details(code, "it is so: 100 % ä", details);
        for steps in placed(&told(&status)) {
            let (error, errors, _) = both(steps).await;
            for error in [&error, &errors[0]] {
                assert_eq!(
                    (error.code, &*error.message),
                    (expected, "it is so: 100 % ä"),
                    "{code:?}"
                );
                assert_eq!(Error::from_a2a(error), None);
                let details = error.details.as_deref().unwrap_or_default();
                assert_eq!(details.len(), usize::from(has_info));
                if has_info {
                    assert_eq!(details[0].value["metadata"]["taskId"], "t");
                }
            }
        }
    }
    let (error, ..) = both(
        placed(&fields([("grpc-status", "5")]))
            .into_iter()
            .next_back()
            .unwrap(),
    )
    .await;
    assert_eq!(
        (error.code, &*error.message),
        (error_code::TASK_NOT_FOUND, "(no message)")
    );
}

#[tokio::test]
async fn each_violation_of_a_field_is_told() {
    let mut details = ErrorDetails::new();
    details.add_bad_request_violation("message.parts", "at least one");
    details.add_bad_request_violation("message.role", "user or agent");
    details.set_error_info(
        "INVALID_PARAMS",
        errordetails::PROTOCOL_DOMAIN,
        [("a".to_owned(), "b".to_owned())],
    );
    let status = Status::with_error_details(Code::InvalidArgument, "wrong", details);
    for steps in placed(&told(&status)) {
        let (error, ..) = both(steps).await;
        let violations = "message.parts: at least one; message.role: user or agent";
        assert_eq!(
            (error.code, error.message),
            (error_code::INVALID_PARAMS, format!("wrong: {violations}"))
        );
        let details = error.details.unwrap();
        assert_eq!(
            details[0],
            TypedDetail::error_info(
                "INVALID_PARAMS",
                errordetails::PROTOCOL_DOMAIN,
                Some([("a".to_owned(), "b".to_owned())].into())
            )
        );
        let violation = |field: &str, description: &str| errordetails::FieldViolation {
            field: field.to_owned(),
            description: description.to_owned(),
        };
        let expected = [
            violation("message.parts", "at least one"),
            violation("message.role", "user or agent"),
        ];
        assert_eq!(details[1], TypedDetail::bad_request(expected.into()));
        assert_eq!(details.len(), 2);
    }
}

#[tokio::test]
async fn a_status_that_is_no_a2a_error_is_a_failure() {
    for (status, stream_kind, kind, processed) in [
        (
            // With a bare challenge, which may be a gateway's (CL-7).
            Code::Unauthenticated,
            ErrorKind::Unauthorized,
            ErrorKind::Unauthorized,
            true,
        ),
        (
            Code::PermissionDenied,
            ErrorKind::Forbidden,
            ErrorKind::Forbidden,
            false,
        ),
        (
            Code::Unavailable,
            ErrorKind::StreamCut,
            ErrorKind::Status,
            true,
        ),
        (
            Code::ResourceExhausted,
            ErrorKind::Status,
            ErrorKind::Status,
            true,
        ),
        (
            Code::DeadlineExceeded,
            ErrorKind::Status,
            ErrorKind::Status,
            true,
        ),
        (Code::Cancelled, ErrorKind::Status, ErrorKind::Status, true),
        (Code::Unknown, ErrorKind::Status, ErrorKind::Status, true),
    ] {
        let mut fields = told(&Status::new(status, "not now\r\nreally"));
        fields.insert("www-authenticate", "Bearer realm=\"x\"".parse().unwrap());
        fields.insert("retry-after", "3".parse().unwrap());
        for (in_trailers, steps) in placed(&fields).into_iter().enumerate() {
            let (error, errors, _) = both(steps).await;
            let stream_kind = if in_trailers == 1 { stream_kind } else { kind };
            for (error, kind) in [(&error, kind), (&errors[0], stream_kind)] {
                let failure = failure(error);
                assert_eq!(failure.kind(), kind, "{status:?}");
                assert_eq!(failure.may_have_been_processed(), processed, "{status:?}");
                assert_eq!(failure.www_authenticate(), ["Bearer realm=\"x\""]);
                assert_eq!(failure.retry_after().map(|pause| pause.as_secs()), Some(3));
                let message = failure.to_string();
                assert!(
                    message.contains("not now  really") && message.contains(&format!("{status:?}")),
                    "{message}"
                );
            }
        }
    }
    // The error says that the caller is to come again later, whatever the agent's own error.
    for code in [Code::Unavailable, Code::ResourceExhausted] {
        let details =
            ErrorDetails::with_error_info("TASK_NOT_FOUND", errordetails::PROTOCOL_DOMAIN, []);
        let mut fields = told(&Status::with_error_details(code, "later", details));
        fields.insert("retry-after", "3".parse().unwrap());
        for steps in placed(&fields) {
            let (error, errors, _) = both(steps).await;
            for error in [&error, &errors[0]] {
                assert_eq!(
                    (error.code, failure(error).kind()),
                    (error_code::TASK_NOT_FOUND, ErrorKind::Status)
                );
                assert!(failure(error).retry_after().is_some());
            }
        }
    }
    // A demand for a proof, where the client cannot answer it.
    let mut fields = told(&Status::unauthenticated("prove it"));
    fields.insert(
        "www-authenticate",
        "Bearer error=\"use_session_binding\"".parse().unwrap(),
    );
    for steps in placed(&fields) {
        let (error, ..) = both(steps).await;
        assert_eq!(failure(&error).kind(), ErrorKind::BindingRefused, "{error}");
    }
}

/// A refusal that comes after events was no refusal of the call.
#[tokio::test]
async fn a_stream_that_is_refused_in_its_middle_has_been_processed() {
    for code in [Code::Unauthenticated, Code::PermissionDenied] {
        let status = told(&Status::new(code, "the token has expired"));
        let peer =
            ScriptedPeer::start(vec![grpc_head(), message(EVENT), Step::Trailers(status)]).await;
        let transport = plain_transport(&peer).await;
        let told = subscribed(&*transport).await;
        assert!(told[0].is_ok() && told.len() == 2, "{told:?}");
        assert!(failure(told[1].as_ref().unwrap_err()).may_have_been_processed());
    }
}

/// What a balancer says while an agent restarts, and what its server says when it goes: as HTTP's
/// 503, 504 and 500.
#[tokio::test]
async fn a_long_task_outlives_statuses_that_pass() {
    for (code, is_tried_again) in [
        (Code::Unavailable, true),
        (Code::ResourceExhausted, true),
        (Code::DeadlineExceeded, true),
        (Code::Cancelled, true),
        (Code::Aborted, true),
        (Code::Unknown, true),
        (Code::DataLoss, false),
        (Code::Unauthenticated, false),
    ] {
        for steps in placed(&told(&Status::new(code, "not now"))) {
            let peer = ScriptedPeer::start(steps).await;
            let transport = plain_transport(&peer).await;
            let request = SubscribeToTaskRequest {
                id: "t".to_owned(),
                tenant: None,
            };
            let mut patience = RetryPolicy::default();
            patience.max_attempts = 1;
            patience.first_pause = Duration::ZERO;
            let told: Vec<_> = LongTask::subscribe(transport, request, patience)
                .collect()
                .await;
            let causes: Vec<_> = told
                .iter()
                .filter_map(|told| match told {
                    Ok(TaskEvent::Reconnect(reconnect)) => Some(reconnect.cause),
                    _ => None,
                })
                .collect();
            let is_passing = |cause| matches!(cause, Cause::Unavailable | Cause::StreamCut);
            assert_eq!(
                causes.len(),
                usize::from(is_tried_again),
                "{code:?}: {told:?}"
            );
            assert!(causes.into_iter().all(is_passing), "{code:?}: {told:?}");
        }
    }
}

/// tonic by itself panics at the second of these.
#[tokio::test]
async fn garbage_in_a_status_is_survived() {
    let not_found = |more: (&'static str, &str)| fields([("grpc-status", "5"), more]);
    for status in [
        not_found(("grpc-status-details-bin", "CAUSEgN4")),
        not_found(("grpc-status-details-bin", "no base64 at all!")),
        not_found(("grpc-status-details-bin", "AAAA")),
        not_found(("grpc-message", "%zz%ff%")),
    ] {
        for steps in placed(&status) {
            let (error, errors, _) = both(steps).await;
            for error in [&error, &errors[0]] {
                assert_eq!(
                    (error.code, Error::from_a2a(error)),
                    (error_code::TASK_NOT_FOUND, None),
                    "{status:?}"
                );
            }
        }
    }
    let (error, ..) = both(placed(&not_found(("grpc-message", "gone: %zz%ff%")))[1].clone()).await;
    assert_eq!(error.message, "gone: %zz\u{fffd}%", "as much as can be had");
    for status in ["", "five", "5.0", "99999999999"] {
        for steps in placed(&fields([("grpc-status", status)])) {
            let (error, errors, _) = both(steps).await;
            for error in [&error, &errors[0]] {
                assert_eq!(failure(error).kind(), ErrorKind::NotA2a, "{status:?}");
            }
        }
    }
    // Success with garbage besides is success.
    let mut fields = fields([
        ("grpc-status", "0"),
        ("grpc-status-details-bin", "no base64 at all!"),
    ]);
    fields.insert(
        "grpc-message",
        http::HeaderValue::from_bytes(b"%ff\xff").unwrap(),
    );
    let peer = ScriptedPeer::start(vec![grpc_head(), message(TASK), Step::Trailers(fields)]).await;
    let transport = plain_transport(&peer).await;
    assert!(get_task(&*transport, &ServiceParams::new()).await.is_ok());
}

/// A detail of a type that only we may give, in all the ways that a detail can come.
#[tokio::test]
async fn an_agent_cannot_pretend_a_failure_of_ours() {
    let ours = "urn:uuid:6ed44748-4cee-4f9a-9cc4-5f80c0fc2673";
    let json = br#"{"kind":"connection","mayHaveBeenProcessed":false}"#;
    let any = [
        &[0x0a, u8::try_from(ours.len()).unwrap()][..],
        ours.as_bytes(),
        &[0x12, u8::try_from(json.len()).unwrap()],
        json,
    ]
    .concat();
    let details = [&[0x08, 5, 0x1a, u8::try_from(any.len()).unwrap()][..], &any].concat();
    let forged = Status::with_details(Code::NotFound, "gone", Bytes::from(details));
    let named = ErrorDetails::with_error_info(ours, ours, [("@type".to_owned(), ours.to_owned())]);
    for status in [
        forged,
        Status::with_error_details(Code::NotFound, "gone", named),
    ] {
        let (error, ..) = both(placed(&told(&status))[1].clone()).await;
        assert_eq!(
            (error.code, Error::from_a2a(&error)),
            (error_code::TASK_NOT_FOUND, None)
        );
    }
}
