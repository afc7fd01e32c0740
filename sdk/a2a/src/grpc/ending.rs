//! How a gRPC answer ended: its status, in the trailers or in the head, and the error that it is.

use a2a::errordetails::{FieldViolation, PROTOCOL_DOMAIN, TypedDetail};
use a2a::{A2AError, error_code, reason_to_error_code};
use bowline_transport::head::binding_error;
use bytes::Bytes;
use http::HeaderMap;
use percent_encoding::percent_decode;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use tonic_types::{BadRequest, ErrorInfo, StatusExt};

use super::answer::Shape;
use crate::failure::{ErrorKind, Failure, shown};

/// What fields say about how an answer ended (gRPC over HTTP/2, "Responses").
pub(super) enum Ending {
    /// Nothing.
    None,
    Ok,
    Error(Told),
    /// There is a status, and it is none.
    Unreadable(Failure),
}

/// A status that is an error.
pub(super) struct Told(Status);

/// Where a status stood.
#[derive(Clone, Copy)]
pub(super) enum Place {
    /// In the head: nothing else came.
    Head,
    /// In the trailers of such an answer.
    Trailers {
        shape: Shape,
        /// Whether the agent had begun to answer.
        after_messages: bool,
    },
}

impl Ending {
    pub(super) fn of(fields: &HeaderMap) -> Self {
        let Some(value) = fields.get("grpc-status") else {
            return Self::None;
        };
        let code = value.to_str().ok().and_then(|digits| digits.parse().ok());
        match code.map(Code::from_i32) {
            None => {
                let value = shown(&String::from_utf8_lossy(value.as_bytes()));
                let message = format!(
                    "the agent ended its answer with a gRPC status that is none: {value:?}"
                );
                Self::Unreadable(Failure::new(ErrorKind::NotA2a, message))
            }
            Some(Code::Ok) => Self::Ok,
            Some(code) => {
                let message = fields
                    .get("grpc-message")
                    .map_or(&[][..], |value| value.as_bytes());
                // One that cannot be decoded is as good as it can be had: the protocol wants it so.
                let message = percent_decode(message).decode_utf8_lossy();
                Self::Error(Told(Status::with_details(code, message, details(fields))))
            }
        }
    }
}

/// `grpc-status-details-bin`; nothing if it is no base64.
fn details(fields: &HeaderMap) -> Bytes {
    let fields = fields.get("grpc-status-details-bin").map(|value| {
        let name = http::HeaderName::from_static("grpc-status-details-bin");
        MetadataMap::from_headers(HeaderMap::from_iter([(name, value.clone())]))
    });
    let value = fields
        .as_ref()
        .and_then(|fields| fields.get_bin("grpc-status-details-bin"));
    value
        .and_then(|value| value.to_bytes().ok())
        .unwrap_or_default()
}

impl Told {
    /// The error, with what `fields` tell besides.
    pub(super) fn into_error(self, fields: &HeaderMap, place: Place) -> A2AError {
        let status = self.0;
        let info = status.get_details_error_info();
        let violations = status.get_details_bad_request();
        let known = info.as_ref().and_then(known_code);
        let text = said(&status, violations.as_ref());
        let mut error = A2AError::new(known.unwrap_or_else(|| usual_code(status.code())), text);
        let details: Vec<_> = info
            .map(error_info)
            .into_iter()
            .chain(violations.map(bad_request))
            .collect();
        error.details = (!details.is_empty()).then_some(details);
        let Some(kind) = kind(status.code(), known.is_some(), fields, place) else {
            return error;
        };
        error.message = format!(
            "the agent, or what is in front of it, answered with gRPC status {:?}: {}",
            status.code(),
            shown(&error.message)
        );
        let mut failure = Failure::new(kind, error.message.clone())
            .with_fields(fields)
            .passing(passes(status.code()));
        if let Place::Trailers {
            after_messages: true,
            ..
        } = place
        {
            // Who answers has taken the call, whatever is refused then.
            failure = failure.processed(true);
        }
        failure.within(error)
    }
}

/// What a status says that A2A's error does not; nothing if it is an A2A error and no more.
fn kind(code: Code, is_known: bool, fields: &HeaderMap, place: Place) -> Option<ErrorKind> {
    Some(match code {
        Code::Unauthenticated | Code::PermissionDenied if binding_error(fields).is_some() => {
            ErrorKind::BindingRefused
        }
        Code::Unauthenticated => ErrorKind::Unauthorized,
        Code::PermissionDenied => ErrorKind::Forbidden,
        // What is in front of the agent has lost it.
        Code::Unavailable if !is_known && is_stream(place) => ErrorKind::StreamCut,
        // Come again later.
        Code::Unavailable | Code::ResourceExhausted => ErrorKind::Status,
        _ if is_known => return None,
        // As A2A's errors are mapped (§5.4), by an agent that gives no details.
        Code::NotFound
        | Code::FailedPrecondition
        | Code::Unimplemented
        | Code::InvalidArgument
        | Code::Internal => {
            return None;
        }
        _ => ErrorKind::Status,
    })
}

/// Whether another try may fare better: what is in front of an agent says so while the agent
/// restarts, and what the agent's server says when it goes. As HTTP's 429, 500, 502, 503 and 504.
fn passes(code: Code) -> bool {
    matches!(
        code,
        Code::Unavailable
            | Code::ResourceExhausted
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Aborted
            | Code::Unknown
    )
}

fn is_stream(place: Place) -> bool {
    matches!(
        place,
        Place::Trailers {
            shape: Shape::Stream,
            ..
        }
    )
}

/// What the agent says, with what it says of single fields: as in the other bindings.
fn said(status: &Status, violations: Option<&BadRequest>) -> String {
    let message = match status.message() {
        "" => "(it does not say why)",
        message => message,
    };
    let violations = violations
        .iter()
        .flat_map(|violations| &violations.field_violations);
    let violations: Vec<_> = violations
        .map(|v| format!("{}: {}", v.field, v.description))
        .collect();
    match violations.is_empty() {
        true => message.to_owned(),
        false => format!("{message}: {}", violations.join("; ")),
    }
}

/// The A2A error that an `ErrorInfo` names (A2A §10.6).
fn known_code(info: &ErrorInfo) -> Option<i32> {
    match info.domain == PROTOCOL_DOMAIN {
        true => reason_to_error_code(&info.reason),
        false => None,
    }
}

/// The error that a status is without details, as the stock transport has it.
fn usual_code(code: Code) -> i32 {
    match code {
        Code::NotFound => error_code::TASK_NOT_FOUND,
        Code::FailedPrecondition => error_code::TASK_NOT_CANCELABLE,
        Code::Unimplemented => error_code::METHOD_NOT_FOUND,
        Code::InvalidArgument => error_code::INVALID_PARAMS,
        _ => error_code::INTERNAL_ERROR,
    }
}

// The details that say something of an A2A error, as the other bindings have them: in ProtoJSON. No
// other passes, and so none that would be taken for ours.

fn error_info(info: ErrorInfo) -> TypedDetail {
    TypedDetail::error_info(info.reason, info.domain, Some(info.metadata))
}

fn bad_request(request: BadRequest) -> TypedDetail {
    let violations = request
        .field_violations
        .into_iter()
        .map(|violation| FieldViolation {
            field: violation.field,
            description: violation.description,
        });
    TypedDetail::bad_request(violations.collect())
}
