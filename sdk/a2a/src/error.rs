//! The crate's error, and how it travels inside the SDK's own error type.
//!
//! Upstream: no issue; request 20 in `docs/src/upstream.md`.

use std::time::Duration;

use a2a::{A2AError, TypedDetail};
use bowline_http_client::Fault;
use bowline_transport::redact::SentTokens;
use bowline_transport::retry_after::retry_after;
use http::header::WWW_AUTHENTICATE;
use http::response::Parts;
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::text::{sent_tokens, shortened};

/// The `@type` of the detail that carries an [`Error`] in an [`A2AError`].
const DETAIL_TYPE: &str = "urn:uuid:6ed44748-4cee-4f9a-9cc4-5f80c0fc2673";

/// Maximum number of challenges that are kept, and maximum length of each, in characters.
const MAX_CHALLENGES: usize = 8;
const MAX_CHALLENGE: usize = 2048;

/// Why a call failed below A2A: before it reached the agent, on the way, or at a proxy in front of
/// the agent.
///
/// The transports return the SDK's [`A2AError`], which can carry an HTTP status or a challenge only
/// in its details. [`Error::from_a2a`] reads them back, also after interceptors and clones. It
/// returns `None` for an A2A error that the agent itself reported, unless that came with an HTTP
/// status that says more than A2A can: 401, 403, 429, 503.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    message: String,
    details: ErrorDetails,
}

/// The part of an [`Error`] that travels in the details of an [`A2AError`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ErrorDetails {
    kind: ErrorKind,
    may_have_been_processed: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    http_status: Option<u16>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    www_authenticate: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry_after_seconds: Option<u64>,
    /// Whether it was a gRPC status after which another attempt may succeed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_transient: bool,
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// The call cannot be sent as it is: a service parameter that cannot be a header field, an
    /// invalid URL, two access tokens.
    InvalidCall,
    /// The client cannot make the call: no certificate, an access token bound to another
    /// certificate (CL-8), a plaintext URL (CL-6), an agent that asks for no certificate (CL-9), a
    /// key that cannot sign, or a card that requires what is not configured.
    Configuration,
    /// The agent's interface is at an origin that the caller has not allowed (CL-6).
    OtherOrigin,
    /// The token source has no access token to send.
    Token,
    /// No connection could be opened, or it ended before the call was sent. The call was not
    /// processed.
    Connection,
    /// The connection ended after the call was sent and before a response came (CL-7).
    MayHaveBeenProcessed,
    /// A step took longer than its limit.
    TimedOut,
    /// The agent, or a proxy in front of it, does not accept the access token (HTTP 401).
    Unauthorized,
    /// The access token does not allow this (HTTP 403).
    Forbidden,
    /// A fresh proof was refused, or a proof is required that this client cannot make. Another
    /// access token would not help (CL-5).
    BindingRefused,
    /// The agent redirects to another origin, or otherwise than by 307 and 308 (CL-6).
    Redirect,
    /// Any other HTTP or gRPC status than success, without an A2A error.
    Status,
    /// A successful response does not follow A2A: another media type, JSON that does not parse, no
    /// result.
    NotA2a,
    /// A stream was cut: its connection ended, or the stream ended in the middle of an event. The
    /// task goes on.
    StreamCut,
    /// A response or an event is longer than the limit.
    TooLong,
    /// gRPC over a connection that is not HTTP/2.
    NotHttp2,
}

impl ErrorKind {
    /// The kind's name, for labels and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::InvalidCall => "invalid_call",
            Self::Configuration => "configuration",
            Self::OtherOrigin => "other_origin",
            Self::Token => "token",
            Self::Connection => "connection",
            Self::MayHaveBeenProcessed => "may_have_been_processed",
            Self::TimedOut => "timed_out",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::BindingRefused => "binding_refused",
            Self::Redirect => "redirect",
            Self::Status => "status",
            Self::NotA2a => "not_a2a",
            Self::StreamCut => "stream_cut",
            Self::TooLong => "too_long",
            Self::NotHttp2 => "not_http2",
        }
    }
}

impl Error {
    /// The error that the transport put into `error`; `None` if the agent itself reported it.
    pub fn from_a2a(error: &A2AError) -> Option<Self> {
        let mut details = error.details.iter().flatten();
        let ours = details.find(|detail| detail.type_url == DETAIL_TYPE)?;
        let value = Value::Object(ours.value.clone().into_iter().collect());
        Some(Self {
            message: error.message.clone(),
            details: serde_json::from_value(value).ok()?,
        })
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.details.kind
    }

    /// The side that can fix it.
    pub fn fault(&self) -> Fault {
        match self.details.kind {
            ErrorKind::InvalidCall => Fault::Caller,
            ErrorKind::Configuration
            | ErrorKind::OtherOrigin
            | ErrorKind::Token
            | ErrorKind::Unauthorized
            | ErrorKind::Forbidden
            | ErrorKind::BindingRefused
            | ErrorKind::Redirect => Fault::Configuration,
            ErrorKind::Connection
            | ErrorKind::MayHaveBeenProcessed
            | ErrorKind::TimedOut
            | ErrorKind::StreamCut => Fault::Network,
            ErrorKind::Status | ErrorKind::NotA2a | ErrorKind::TooLong | ErrorKind::NotHttp2 => {
                Fault::Peer
            }
        }
    }

    /// The HTTP status, if there was a response.
    pub fn status(&self) -> Option<StatusCode> {
        StatusCode::from_u16(self.details.http_status?).ok()
    }

    /// The `WWW-Authenticate` fields of the response (RFC 9110 §11.6.1), without the access token if
    /// the agent repeats it (EX-7).
    pub fn www_authenticate(&self) -> &[String] {
        &self.details.www_authenticate
    }

    /// How long the agent asked the client to wait (RFC 9110 §10.2.3; given in seconds).
    pub fn retry_after(&self) -> Option<Duration> {
        self.details.retry_after_seconds.map(Duration::from_secs)
    }

    /// Whether the agent may have acted on the call (CL-7). If not, any call can be made again.
    pub fn may_have_been_processed(&self) -> bool {
        self.details.may_have_been_processed
    }

    /// Whether another attempt may succeed, judged by the HTTP or gRPC status.
    pub(crate) fn is_transient(&self) -> bool {
        self.details.is_transient
            || matches!(
                self.details.http_status,
                Some(408 | 425 | 429 | 500 | 502 | 503 | 504)
            )
    }

    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let details = ErrorDetails {
            kind,
            // A refusal means that nothing was done. Any other response does not.
            may_have_been_processed: matches!(
                kind,
                ErrorKind::MayHaveBeenProcessed
                    | ErrorKind::StreamCut
                    | ErrorKind::NotA2a
                    | ErrorKind::TooLong
                    | ErrorKind::Status
            ),
            http_status: None,
            www_authenticate: Vec::new(),
            retry_after_seconds: None,
            is_transient: false,
        };
        Self {
            message: message.into(),
            details,
        }
    }

    /// With the status, challenges and `Retry-After` of a response.
    pub(crate) fn with_head(mut self, head: &Parts) -> Self {
        self.details.http_status = Some(head.status.as_u16());
        self.with_fields(&head.headers, &sent_tokens(head))
    }

    /// With the challenges and `Retry-After` of a response's fields or of gRPC metadata.
    pub(crate) fn with_fields(mut self, fields: &HeaderMap, sent: &SentTokens) -> Self {
        let challenges = fields.get_all(WWW_AUTHENTICATE).iter().take(MAX_CHALLENGES);
        self.details.www_authenticate = challenges
            // A challenge may hold `obs-text` (RFC 9110 §5.5).
            .map(|value| String::from_utf8_lossy(value.as_bytes()))
            .map(|text| shortened(&sent.redact(&text), MAX_CHALLENGE))
            .collect();
        self.details.retry_after_seconds = retry_after(fields).map(|pause| pause.as_secs());
        self
    }

    /// Overrides whether the agent may have acted on the call.
    pub(crate) fn with_processed(mut self, may_have_been: bool) -> Self {
        self.details.may_have_been_processed = may_have_been;
        self
    }

    /// Says whether it came with a gRPC status after which another attempt may succeed.
    #[cfg(feature = "grpc")]
    pub(crate) fn with_transient(mut self, is_transient: bool) -> Self {
        self.details.is_transient = is_transient;
        self
    }

    /// Adds this error to one that the agent reported.
    pub(crate) fn attach_to(self, mut error: A2AError) -> A2AError {
        let mut details = without_ours(error.details.take().unwrap_or_default());
        details.push(self.detail());
        error.details = Some(details);
        error
    }

    fn detail(&self) -> TypedDetail {
        let value = match serde_json::to_value(&self.details) {
            Ok(Value::Object(members)) => members.into_iter().collect(),
            // Plain data under string keys is always an object.
            _ => Default::default(),
        };
        TypedDetail::new(DETAIL_TYPE, value)
    }
}

/// The details of an agent's error, without any that pretends to be an [`Error`] of this crate.
pub(crate) fn without_ours(mut details: Vec<TypedDetail>) -> Vec<TypedDetail> {
    details.retain(|detail| detail.type_url != DETAIL_TYPE);
    details
}

impl From<Error> for A2AError {
    fn from(failure: Error) -> Self {
        let detail = failure.detail();
        A2AError::internal(failure.message).with_details(vec![detail])
    }
}

impl From<bowline_http_client::Error> for Error {
    fn from(error: bowline_http_client::Error) -> Self {
        use bowline_http_client::{ErrorKind as ClientKind, Step};
        let kind = match error.kind() {
            ClientKind::InvalidRequest => ErrorKind::InvalidCall,
            ClientKind::Configuration
            | ClientKind::PlaintextRefused
            | ClientKind::InvalidToken
            | ClientKind::TokenBoundToOtherCertificate
            | ClientKind::TokenBoundToOtherKey
            | ClientKind::UnsupportedBinding
            | ClientKind::NoIdentity
            | ClientKind::ClientCertificateNotRequested
            | ClientKind::Signing
            | ClientKind::Timeout(Step::Sign) => ErrorKind::Configuration,
            ClientKind::Timeout(_) => ErrorKind::TimedOut,
            ClientKind::HttpVersion => ErrorKind::NotHttp2,
            ClientKind::Connect | ClientKind::TlsHandshake | ClientKind::ConnectionLost => {
                ErrorKind::Connection
            }
            _ => ErrorKind::MayHaveBeenProcessed,
        };
        Self::new(kind, error.to_string()).with_processed(error.may_have_been_processed())
    }
}

impl From<bowline_token::Error> for Error {
    fn from(error: bowline_token::Error) -> Self {
        // The request itself failed, after a token was added to it: report the client's error.
        match error
            .client()
            .filter(|_| error.kind() == bowline_token::ErrorKind::Request)
        {
            Some(e) => e.clone().into(),
            None => {
                let kind = match error.kind() {
                    bowline_token::ErrorKind::OtherOrigin => ErrorKind::OtherOrigin,
                    _ => ErrorKind::Token,
                };
                let mut failure = Self::new(kind, error.to_string());
                failure.details.retry_after_seconds =
                    error.retry_after().map(|pause| pause.as_secs());
                failure
            }
        }
    }
}

#[cfg(test)]
mod tests;
