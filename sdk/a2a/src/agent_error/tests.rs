use a2a::error_code::{INTERNAL_ERROR, INVALID_PARAMS, PARSE_ERROR, TASK_NOT_FOUND};
use serde_json::json;

use super::*;
use crate::error::{Error, ErrorKind};

fn info(reason: &str, domain: &str) -> Value {
    json!({ "@type": ERROR_INFO_TYPE, "reason": reason, "domain": domain })
}

fn bad_request() -> Value {
    let violations = json!([
        { "field": "message.parts", "description": "required" },
        { "field": "", "description": "empty" },
        { "field": "role" },
        "x",
    ]);
    json!({ "@type": BAD_REQUEST_TYPE, "fieldViolations": violations })
}

#[test]
fn details_make_an_error_more_precise() {
    let violations = "m: message.parts: required; empty";
    for (code, data, expected) in [
        (
            -32603,
            json!([info("TASK_NOT_FOUND", PROTOCOL_DOMAIN)]),
            (TASK_NOT_FOUND, "m"),
        ),
        (
            -32603,
            json!([info("TASK_NOT_FOUND", "example.com")]),
            (INTERNAL_ERROR, "m"),
        ),
        (
            -32603,
            json!([info("NO_SUCH_REASON", PROTOCOL_DOMAIN)]),
            (INTERNAL_ERROR, "m"),
        ),
        (-32603, json!([bad_request()]), (INVALID_PARAMS, violations)),
        (-32700, json!([bad_request()]), (PARSE_ERROR, violations)),
        (
            -32603,
            json!([bad_request(), info("TASK_NOT_FOUND", PROTOCOL_DOMAIN)]),
            (TASK_NOT_FOUND, violations),
        ),
        (
            -32603,
            json!([{ "@type": BAD_REQUEST_TYPE }]),
            (INVALID_PARAMS, "m"),
        ),
        (-32042, json!("text"), (-32042, "m")),
        (-32042, json!(null), (-32042, "m")),
        (1_i64 << 40, json!([1, null, "x"]), (INTERNAL_ERROR, "m")),
    ] {
        let object: ErrorObject =
            serde_json::from_value(json!({ "code": code, "message": "m", "data": data })).unwrap();
        let error = A2AError::from(object);
        assert_eq!((error.code, &*error.message), expected, "{data}");
    }
}

#[test]
fn details_that_are_no_list_or_have_no_type_are_kept() {
    let object: ErrorObject =
        serde_json::from_value(json!({ "code": 1, "data": { "parseError": "at 7" } })).unwrap();
    let error = A2AError::from(object);
    assert_eq!(error.message, "");
    assert_eq!(error.details.unwrap()[0].value["parseError"], "at 7");
}

#[test]
fn a_failure_of_ours_cannot_come_from_outside() {
    let ours = A2AError::from(Error::new(ErrorKind::Connection, "x"))
        .details
        .unwrap();
    let status = json!({ "error": { "message": "m", "details": ours } });
    let object = json!({ "code": 1, "message": "m", "data": ours });
    for error in [
        A2AError::from(serde_json::from_value::<StatusBody>(status).unwrap()),
        A2AError::from(serde_json::from_value::<ErrorObject>(object).unwrap()),
    ] {
        assert_eq!(Error::from_a2a(&error), None);
        assert!(error.details.is_none());
    }
}

#[test]
fn an_error_of_a2a_s_says_its_reason() {
    for (details, is_a2a) in [
        (json!([info("TASK_NOT_FOUND", PROTOCOL_DOMAIN)]), true),
        (json!([info("API_KEY_INVALID", "googleapis.com")]), false),
        (json!([{ "reason": "x", "domain": PROTOCOL_DOMAIN }]), false),
        (json!([bad_request()]), true),
        (json!([]), false),
        (json!([1]), false),
    ] {
        let body: StatusBody =
            serde_json::from_value(json!({ "error": { "details": details } })).unwrap();
        assert_eq!(body.is_a2a(), is_a2a, "{details}");
    }
}

/// An agent's error is not lost for a member that is not needed, or is written otherwise.
#[test]
fn members_of_another_kind_do_not_spoil_an_error() {
    for (object, expected) in [
        (
            json!({ "code": -32001, "message": null }),
            (TASK_NOT_FOUND, ""),
        ),
        (
            json!({ "code": -32001.0, "message": "m" }),
            (TASK_NOT_FOUND, "m"),
        ),
        (
            json!({ "code": -32001, "message": 7 }),
            (TASK_NOT_FOUND, ""),
        ),
        (
            json!({ "code": "x", "message": "m" }),
            (INTERNAL_ERROR, "m"),
        ),
        (json!({ "message": "m" }), (INTERNAL_ERROR, "m")),
        (
            json!({ "code": 1e30, "message": "m", "data": "x" }),
            (INTERNAL_ERROR, "m"),
        ),
    ] {
        let error: ErrorObject = serde_json::from_value(object.clone()).unwrap();
        let error = A2AError::from(error);
        assert_eq!((error.code, &*error.message), expected, "{object}");
    }
    let info = info("TASK_NOT_FOUND", PROTOCOL_DOMAIN);
    for (status, expected) in [
        (
            json!({ "message": null, "details": [info] }),
            (TASK_NOT_FOUND, ""),
        ),
        (
            json!({ "message": "m", "details": null }),
            (INTERNAL_ERROR, "m"),
        ),
        (
            json!({ "message": "m", "details": info }),
            (TASK_NOT_FOUND, "m"),
        ),
        (
            json!({ "code": "x", "status": 7, "message": "m", "details": [7, info] }),
            (TASK_NOT_FOUND, "m"),
        ),
    ] {
        let status: StatusBody = serde_json::from_value(json!({ "error": status })).unwrap();
        let error = A2AError::from(status);
        assert_eq!((error.code, &*error.message), expected);
    }
}
