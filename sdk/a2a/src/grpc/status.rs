//! The status of a gRPC call, from the trailers or the head of its response, and the error that it
//! stands for.

use a2a::errordetails::{FieldViolation, PROTOCOL_DOMAIN, TypedDetail};
use a2a::{A2AError, error_code, reason_to_error_code};
use bowline_transport::head::{binding_error, is_unprocessed};
use bowline_transport::redact::SentTokens;
use bytes::Bytes;
use http::HeaderMap;
use percent_encoding::percent_decode;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use tonic_types::{BadRequest, ErrorInfo, StatusExt};

use crate::error::{Error, ErrorKind};
use crate::text::{printable, redacted};

/// The response of a method (gRPC: unary, or server streaming).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResponseShape {
    /// One message.
    Unary,
    /// Any number of messages, for as long as the stream is open.
    Streaming,
}

/// `grpc-status` in a response's head or trailers (gRPC over HTTP/2, "Responses").
pub(super) enum GrpcStatus {
    /// There is no `grpc-status`.
    Absent,
    Ok,
    Error(GrpcError),
    /// `grpc-status` is present but not a number.
    Invalid(Error),
}

/// A status other than OK.
pub(super) struct GrpcError(Status);

/// Where a status was found.
#[derive(Clone, Copy)]
pub(super) enum StatusLocation {
    /// In the head: the response has nothing else.
    Head,
    /// In the trailers.
    Trailers {
        shape: ResponseShape,
        /// Whether a message came first.
        after_messages: bool,
    },
}

impl GrpcStatus {
    pub(super) fn from_fields(fields: &HeaderMap, sent: &SentTokens) -> Self {
        let Some(value) = fields.get("grpc-status") else {
            return Self::Absent;
        };
        let code = value.to_str().ok().and_then(|digits| digits.parse().ok());
        match code.map(Code::from_i32) {
            None => {
                let value = sent.printable(&String::from_utf8_lossy(value.as_bytes()));
                let message =
                    format!("the agent ended its response with an invalid gRPC status: {value:?}");
                Self::Invalid(Error::new(ErrorKind::NotA2a, message))
            }
            Some(Code::Ok) => Self::Ok,
            Some(code) => {
                let message = fields
                    .get("grpc-message")
                    .map_or(&[][..], |value| value.as_bytes());
                // gRPC demands that a message which cannot be decoded is shown as far as possible.
                let message = percent_decode(message).decode_utf8_lossy();
                Self::Error(GrpcError(Status::with_details(
                    code,
                    message,
                    details(fields),
                )))
            }
        }
    }
}

/// `grpc-status-details-bin`; empty if it is not base64.
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

impl GrpcError {
    /// Whether the status refuses the access token itself, so that another might pass: a call that
    /// is UNAUTHENTICATED had no valid credentials, and was not acted on. Challenges beside it
    /// decide as under HTTP 401: one may be about the proof (CL-5).
    pub(super) fn refuses_token(&self, fields: &HeaderMap) -> bool {
        let challenges = bowline_proof::challenges(fields);
        let mut for_tokens = challenges.iter().filter(|c| c.is_for_tokens()).peekable();
        self.0.code() == Code::Unauthenticated
            && (for_tokens.peek().is_none()
                || for_tokens.any(|c| c.error() == Some("invalid_token")))
    }

    /// The A2A error for this status. `fields` are those that it came with, `sent` the tokens that
    /// the call was sent with.
    pub(super) fn into_error(
        self,
        fields: &HeaderMap,
        location: StatusLocation,
        sent: &SentTokens,
    ) -> A2AError {
        let status = self.0;
        let info = status.get_details_error_info();
        let violations = status.get_details_bad_request();
        let known = info.as_ref().and_then(known_code);
        let text = error_text(&status, violations.as_ref());
        let mut error = A2AError::new(known.unwrap_or_else(|| default_code(status.code())), text);
        let details: Vec<_> = info
            .map(error_info)
            .into_iter()
            .chain(violations.map(bad_request))
            .collect();
        error.details = (!details.is_empty()).then_some(details);
        error = redacted(sent, error);
        let Some(kind) = kind(status.code(), known.is_some(), fields, location) else {
            return error;
        };
        error.message = format!(
            "the agent, or a proxy in front of it, answered with gRPC status {:?}: {}",
            status.code(),
            printable(&error.message)
        );
        let mut failure = Error::new(kind, error.message.clone())
            .with_fields(fields, sent)
            .with_transient(is_transient(status.code()));
        if status.code() == Code::Unauthenticated || kind == ErrorKind::BindingRefused {
            // As over HTTP: only a challenge that refuses the token or the proof says it (CL-7).
            let is_refused = is_unprocessed(http::StatusCode::UNAUTHORIZED, fields);
            failure = failure.with_processed(!is_refused);
        }
        if let StatusLocation::Trailers {
            after_messages: true,
            ..
        } = location
        {
            // Once the agent has sent a message, the call counts as processed.
            failure = failure.with_processed(true);
        }
        failure.attach_to(error)
    }
}

/// The kind of a status that says more than an A2A error does; `None` if it is just an A2A error.
fn kind(
    code: Code,
    is_known: bool,
    fields: &HeaderMap,
    location: StatusLocation,
) -> Option<ErrorKind> {
    Some(match code {
        Code::Unauthenticated | Code::PermissionDenied if binding_error(fields).is_some() => {
            ErrorKind::BindingRefused
        }
        Code::Unauthenticated => ErrorKind::Unauthorized,
        Code::PermissionDenied => ErrorKind::Forbidden,
        // A proxy in front of the agent lost its connection to it.
        Code::Unavailable if !is_known && is_stream(location) => ErrorKind::StreamCut,
        // The agent asks to be called again later.
        Code::Unavailable | Code::ResourceExhausted => ErrorKind::Status,
        _ if is_known => return None,
        // A2A's errors (§5.4), from an agent that sends no details.
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

/// Whether another attempt may succeed: a proxy answers with these codes while the agent restarts,
/// and the agent's server does while it shuts down. They match HTTP's 429, 500, 502, 503 and 504.
fn is_transient(code: Code) -> bool {
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

fn is_stream(location: StatusLocation) -> bool {
    matches!(
        location,
        StatusLocation::Trailers {
            shape: ResponseShape::Streaming,
            ..
        }
    )
}

/// The agent's message, followed by its field violations, as in the other bindings.
fn error_text(status: &Status, violations: Option<&BadRequest>) -> String {
    let message = match status.message() {
        "" => "(no message)",
        message => message,
    };
    let violations = violations
        .iter()
        .flat_map(|violations| &violations.field_violations);
    let violations: Vec<_> = violations
        .map(|v| format!("{}: {}", v.field, v.description))
        .collect();
    if violations.is_empty() {
        message.to_owned()
    } else {
        format!("{message}: {}", violations.join("; "))
    }
}

/// The A2A error that an `ErrorInfo` names (A2A §10.6).
fn known_code(info: &ErrorInfo) -> Option<i32> {
    if info.domain == PROTOCOL_DOMAIN {
        reason_to_error_code(&info.reason)
    } else {
        None
    }
}

/// The error code for a status without details, as in the official transport.
fn default_code(code: Code) -> i32 {
    match code {
        Code::NotFound => error_code::TASK_NOT_FOUND,
        Code::FailedPrecondition => error_code::TASK_NOT_CANCELABLE,
        Code::Unimplemented => error_code::METHOD_NOT_FOUND,
        Code::InvalidArgument => error_code::INVALID_PARAMS,
        _ => error_code::INTERNAL_ERROR,
    }
}

// Only the details that A2A defines are kept, as ProtoJSON, like in the other bindings. An agent
// can therefore not forge the detail that carries an `Error` of this crate.

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
