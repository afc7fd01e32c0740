//! Errors that an agent reports as A2A has it: error objects of JSON-RPC (A2A §9.5), and
//! `google.rpc.Status` (A2A §11.6).

use a2a::errordetails::{BAD_REQUEST_TYPE, ERROR_INFO_TYPE, PROTOCOL_DOMAIN};
use a2a::{A2AError, TypedDetail, error_code, reason_to_error_code};
use serde::Deserialize;
use serde_json::Value;

use crate::failure::foreign;

/// The error object of a JSON-RPC response.
#[derive(Deserialize)]
pub(crate) struct ErrorObject {
    code: i64,
    #[serde(default)]
    message: String,
    #[serde(default)]
    data: Option<Value>,
}

impl From<ErrorObject> for A2AError {
    fn from(object: ErrorObject) -> Self {
        // A2A wants a list of typed details; a single object is somebody's own, and still says
        // something.
        let details = match object.data {
            Some(Value::Array(details)) => typed(details),
            Some(detail @ Value::Object(_)) => typed(vec![detail]),
            _ => Vec::new(),
        };
        let code = i32::try_from(object.code).unwrap_or(error_code::INTERNAL_ERROR);
        judged(code, object.message, details)
    }
}

/// The body of an HTTP+JSON answer that is an error.
#[derive(Deserialize)]
pub(crate) struct StatusBody {
    error: Status,
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    message: String,
    #[serde(default)]
    details: Vec<Value>,
}

impl StatusBody {
    /// Whether it is an error of A2A's, which must say its reason. Gateways write errors of the
    /// same shape.
    pub(crate) fn is_a2a(&self) -> bool {
        let of = |detail: &Value| {
            let is =
                |name: &str, text: &str| detail.get(name).and_then(Value::as_str) == Some(text);
            is("@type", BAD_REQUEST_TYPE)
                || (is("@type", ERROR_INFO_TYPE) && is("domain", PROTOCOL_DOMAIN))
        };
        self.error.details.iter().any(of)
    }
}

impl From<StatusBody> for A2AError {
    fn from(StatusBody { error }: StatusBody) -> Self {
        judged(
            error_code::INTERNAL_ERROR,
            error.message,
            typed(error.details),
        )
    }
}

/// Those that are objects; none that would pass for one of ours.
fn typed(details: Vec<Value>) -> Vec<TypedDetail> {
    let details = details.into_iter();
    foreign(
        details
            .filter_map(|detail| serde_json::from_value(detail).ok())
            .collect(),
    )
}

/// An error as its details make it more precise: an A2A reason is the code, violations belong to
/// the message.
fn judged(mut code: i32, mut message: String, details: Vec<TypedDetail>) -> A2AError {
    for detail in &details {
        match &*detail.type_url {
            BAD_REQUEST_TYPE => {
                let violations = violations(detail);
                if !violations.is_empty() {
                    message = format!("{message}: {}", violations.join("; "));
                }
                if code == error_code::INTERNAL_ERROR {
                    code = error_code::INVALID_PARAMS;
                }
            }
            ERROR_INFO_TYPE => code = reason(detail).unwrap_or(code),
            _ => {}
        }
    }
    A2AError {
        code,
        message,
        details: (!details.is_empty()).then_some(details),
    }
}

fn reason(info: &TypedDetail) -> Option<i32> {
    let text = |name| info.value.get(name).and_then(Value::as_str);
    if text("domain") != Some(PROTOCOL_DOMAIN) {
        return None;
    }
    reason_to_error_code(text("reason")?)
}

fn violations(bad_request: &TypedDetail) -> Vec<String> {
    let listed = bad_request
        .value
        .get("fieldViolations")
        .and_then(Value::as_array);
    let violation = |violation: &Value| {
        let field = violation.get("field")?.as_str()?;
        let description = violation.get("description")?.as_str()?;
        Some(match field {
            "" => description.to_owned(),
            _ => format!("{field}: {description}"),
        })
    };
    listed.into_iter().flatten().filter_map(violation).collect()
}

#[cfg(test)]
mod tests {
    use a2a::error_code::{INTERNAL_ERROR, INVALID_PARAMS, PARSE_ERROR, TASK_NOT_FOUND};
    use serde_json::json;

    use super::*;
    use crate::failure::{ErrorKind, Failure};

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
                serde_json::from_value(json!({ "code": code, "message": "m", "data": data }))
                    .unwrap();
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
        let ours = A2AError::from(Failure::new(ErrorKind::Connection, "x"))
            .details
            .unwrap();
        let status = json!({ "error": { "message": "m", "details": ours } });
        let object = json!({ "code": 1, "message": "m", "data": ours });
        for error in [
            A2AError::from(serde_json::from_value::<StatusBody>(status).unwrap()),
            A2AError::from(serde_json::from_value::<ErrorObject>(object).unwrap()),
        ] {
            assert_eq!(Failure::of(&error), None);
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
}
