//! Errors that an agent reports in A2A's own forms: the error object of JSON-RPC (A2A §9.5) and
//! `google.rpc.Status` (A2A §11.6).

use a2a::errordetails::{BAD_REQUEST_TYPE, ERROR_INFO_TYPE, PROTOCOL_DOMAIN};
use a2a::{A2AError, TypedDetail, error_code, reason_to_error_code};
use serde::Deserialize;
use serde_json::Value;

use crate::error::without_ours;

/// The error object of a JSON-RPC response.
///
/// A member of another type than A2A's counts as absent: the rest says more than no error does.
#[derive(Deserialize)]
pub(crate) struct ErrorObject {
    #[serde(default)]
    code: Value,
    #[serde(default)]
    message: Value,
    #[serde(default)]
    data: Value,
}

impl From<ErrorObject> for A2AError {
    fn from(object: ErrorObject) -> Self {
        // A2A demands a list of typed details. Some agents send a single object of their own, which
        // is kept.
        let code = code(&object.code).unwrap_or(error_code::INTERNAL_ERROR);
        refined(code, text(object.message), typed(object.data))
    }
}

/// The body of an HTTP+JSON error response.
#[derive(Deserialize)]
pub(crate) struct StatusBody {
    error: Status,
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    message: Value,
    #[serde(default)]
    details: Value,
}

impl StatusBody {
    /// Whether it is an A2A error, which must name its reason. Gateways write errors of the same
    /// shape.
    pub(crate) fn is_a2a(&self) -> bool {
        let is_a2a = |detail: &Value| {
            let has =
                |name: &str, text: &str| detail.get(name).and_then(Value::as_str) == Some(text);
            has("@type", BAD_REQUEST_TYPE)
                || (has("@type", ERROR_INFO_TYPE) && has("domain", PROTOCOL_DOMAIN))
        };
        match &self.error.details {
            Value::Array(details) => details.iter().any(is_a2a),
            detail => is_a2a(detail),
        }
    }
}

impl From<StatusBody> for A2AError {
    fn from(StatusBody { error }: StatusBody) -> Self {
        refined(
            error_code::INTERNAL_ERROR,
            text(error.message),
            typed(error.details),
        )
    }
}

/// A code, which may be written with a fraction of nothing (RFC 8259 §6).
fn code(value: &Value) -> Option<i32> {
    if let Some(code) = value.as_i64() {
        return i32::try_from(code).ok();
    }
    let code = value.as_f64().filter(|code| code.fract() == 0.0)?;
    (f64::from(i32::MIN)..=f64::from(i32::MAX))
        .contains(&code)
        .then_some(code as i32)
}

fn text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        _ => String::new(),
    }
}

/// The details that are objects, without any that pretends to be an `Error` of this crate.
fn typed(details: Value) -> Vec<TypedDetail> {
    let details = match details {
        Value::Array(details) => details,
        detail => vec![detail],
    };
    let details = details.into_iter();
    without_ours(
        details
            .filter_map(|detail| serde_json::from_value(detail).ok())
            .collect(),
    )
}

/// Applies the details to an error: an A2A reason determines the code, and field violations are
/// added to the message.
fn refined(mut code: i32, mut message: String, details: Vec<TypedDetail>) -> A2AError {
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
mod tests;
