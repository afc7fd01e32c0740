//! What went wrong below A2A, kept through the SDK's own error type.

use std::time::Duration;

use a2a::{A2AError, TypedDetail};
use bowline_client::Fault;
use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use http::response::Parts;
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The `@type` of the detail that carries a [`Failure`] in an [`A2AError`].
const TYPE: &str = "https://github.com/bowline-dev/bowline/a2a/failure/v1";

/// As much of what an agent says as a message repeats, in characters.
const MAX_TEXT: usize = 200;
/// As many challenges, and as many bytes of each, as are kept.
const MAX_CHALLENGES: usize = 8;
const MAX_CHALLENGE: usize = 2048;

/// Why a call failed below A2A: before it reached the agent, on the way, or at something in front
/// of it.
///
/// The transports' error is the SDK's [`A2AError`], which has nowhere to put an HTTP status or a
/// challenge but its details: [`Failure::of`] has them back, through interceptors and clones. An
/// error that the agent itself reported, as A2A has it, is none, unless it came with an HTTP status
/// that says more than A2A can: 401, 403, 429, 503.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    message: String,
    told: Told,
}

/// What travels in the error's details.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    kind: ErrorKind,
    may_have_been_processed: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    http_status: Option<u16>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    www_authenticate: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry_after_seconds: Option<u64>,
    /// A gRPC status that passes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    passes: bool,
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// The call cannot be sent as it is: a service parameter that is no header field, a URL that is
    /// none, two access tokens.
    InvalidCall,
    /// The client cannot make it: no certificate, an access token bound to another one (CL-8), a
    /// plaintext URL (CL-6), an agent that asks for no certificate (CL-9), a key that does not
    /// sign, or a card that demands what is not configured.
    Configuration,
    /// The agent's interface is at an origin that no access token of ours is for (CL-6).
    OtherOrigin,
    /// The token source has no access token to send.
    Token,
    /// No connection could be had, or it ended before the call left. The call was not processed.
    Connection,
    /// The connection ended after the call left, and before an answer came (CL-7).
    MayHaveBeenProcessed,
    /// A step took longer than its limit.
    TimedOut,
    /// The agent, or something in front of it, does not take the access token (HTTP 401).
    Unauthorized,
    /// The access token does not allow this (HTTP 403).
    Forbidden,
    /// A fresh proof was refused, or one is demanded that this client cannot make: another access
    /// token would not help (CL-5).
    BindingRefused,
    /// The agent redirects to another origin, or otherwise than by 307 and 308 (CL-6).
    Redirect,
    /// Any other HTTP or gRPC status that is no success, without an A2A error.
    Status,
    /// What came with a success is not what A2A says: another media type, JSON that does not parse,
    /// a result that is missing.
    NotA2a,
    /// A stream was cut: its connection ended, or it ended in the middle of an event. The task goes
    /// on.
    StreamCut,
    /// An answer or an event is longer than the limit.
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

impl Failure {
    /// The failure that an error carries; `None` if the agent itself reported the error.
    pub fn of(error: &A2AError) -> Option<Self> {
        let mut details = error.details.iter().flatten();
        let ours = details.find(|detail| detail.type_url == TYPE)?;
        let value = Value::Object(ours.value.clone().into_iter().collect());
        Some(Self {
            message: error.message.clone(),
            told: serde_json::from_value(value).ok()?,
        })
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.told.kind
    }

    /// Who has to act.
    pub fn fault(&self) -> Fault {
        match self.told.kind {
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

    /// The HTTP status, if there was an answer.
    pub fn status(&self) -> Option<StatusCode> {
        StatusCode::from_u16(self.told.http_status?).ok()
    }

    /// The `WWW-Authenticate` fields of the answer, as they came (RFC 9110 §11.6.1).
    pub fn www_authenticate(&self) -> &[String] {
        &self.told.www_authenticate
    }

    /// How long the agent asked to be left alone (RFC 9110 §10.2.3; given in seconds).
    pub fn retry_after(&self) -> Option<Duration> {
        self.told.retry_after_seconds.map(Duration::from_secs)
    }

    /// Whether the agent may have acted on the call (CL-7): if not, it can be made again whatever
    /// it does.
    pub fn may_have_been_processed(&self) -> bool {
        self.told.may_have_been_processed
    }

    /// Whether the status that came is one that passes: another try may fare better.
    pub(crate) fn passes(&self) -> bool {
        self.told.passes
            || matches!(
                self.told.http_status,
                Some(408 | 425 | 429 | 500 | 502 | 503 | 504)
            )
    }

    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let told = Told {
            kind,
            // An answer is no promise that nothing was done, but for a refusal it is.
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
            passes: false,
        };
        Self {
            message: message.into(),
            told,
        }
    }

    /// A failure that an answer's head tells more of.
    pub(crate) fn with_head(mut self, head: &Parts) -> Self {
        self.told.http_status = Some(head.status.as_u16());
        self.with_fields(&head.headers)
    }

    /// A failure that fields tell more of: those of an answer, or gRPC metadata.
    pub(crate) fn with_fields(mut self, fields: &HeaderMap) -> Self {
        let challenges = fields.get_all(WWW_AUTHENTICATE).iter().take(MAX_CHALLENGES);
        self.told.www_authenticate = challenges
            .filter_map(|value| value.to_str().ok())
            .map(|text| shortened(text, MAX_CHALLENGE))
            .collect();
        self.told.retry_after_seconds = fields
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        self
    }

    /// What the agent may have done is known better here.
    pub(crate) fn processed(mut self, may_have_been: bool) -> Self {
        self.told.may_have_been_processed = may_have_been;
        self
    }

    /// It came as a gRPC status that passes.
    pub(crate) fn passing(mut self, passes: bool) -> Self {
        self.told.passes = passes;
        self
    }

    /// Puts this failure into an error that the agent reported.
    pub(crate) fn within(self, mut error: A2AError) -> A2AError {
        let mut details = foreign(error.details.take().unwrap_or_default());
        details.push(self.detail());
        error.details = Some(details);
        error
    }

    fn detail(&self) -> TypedDetail {
        let value = match serde_json::to_value(&self.told) {
            Ok(Value::Object(members)) => members.into_iter().collect(),
            // Plain data under string keys is always an object.
            _ => Default::default(),
        };
        TypedDetail::new(TYPE, value)
    }
}

/// The details of an error that came from outside, without any that would pass for ours.
pub(crate) fn foreign(mut details: Vec<TypedDetail>) -> Vec<TypedDetail> {
    details.retain(|detail| detail.type_url != TYPE);
    details
}

/// What somebody else wrote, as far as a message may repeat it: one line, not too long, and nothing
/// in it that could be a token, a proof or a key. Servers repeat what they were sent, and messages
/// end in logs (EX-7).
pub(crate) fn shown(text: &str) -> String {
    let line: String = text
        .trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    shortened(&without_secrets(&line), MAX_TEXT)
}

/// Fewer characters than this in a row tell nothing of a secret.
const PIECE: usize = 16;
/// So many in a row are no word, even without a digit.
const LONG: usize = 40;

/// The text with an ellipsis for each run of characters that could be a piece of a token (RFC 6750
/// §2.1: `b64token`). Words, host names and UUIDs, which name tasks, are left.
fn without_secrets(text: &str) -> String {
    let is_of_token = |c: char| c.is_ascii_alphanumeric() || "-._~+/=".contains(c);
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let run = &rest[..rest.find(|c| !is_of_token(c)).unwrap_or(rest.len())];
        kept.push_str(if could_be_secret(run) { "…" } else { run });
        rest = &rest[run.len()..];
        let other = rest.find(is_of_token).unwrap_or(rest.len());
        kept.push_str(&rest[..other]);
        rest = &rest[other..];
    }
    kept
}

fn could_be_secret(run: &str) -> bool {
    let is_uuid = run.len() == 36
        && run.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    let has = |kind: fn(&u8) -> bool| run.as_bytes().iter().any(kind);
    let is_mixed = has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic);
    !is_uuid && (run.len() >= LONG || (run.len() >= PIECE && is_mixed))
}

fn shortened(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

impl From<Failure> for A2AError {
    fn from(failure: Failure) -> Self {
        let detail = failure.detail();
        A2AError::internal(failure.message).with_details(vec![detail])
    }
}

impl From<bowline_client::Error> for Failure {
    fn from(error: bowline_client::Error) -> Self {
        use bowline_client::{ErrorKind as Of, Step};
        let kind = match error.kind() {
            Of::InvalidRequest => ErrorKind::InvalidCall,
            Of::Configuration
            | Of::PlaintextRefused
            | Of::InvalidToken
            | Of::TokenBoundToOtherCertificate
            | Of::TokenBoundToOtherKey
            | Of::UnsupportedBinding
            | Of::NoIdentity
            | Of::ClientCertificateNotRequested
            | Of::Signing
            | Of::Timeout(Step::Sign) => ErrorKind::Configuration,
            Of::Timeout(_) => ErrorKind::TimedOut,
            Of::HttpVersion => ErrorKind::NotHttp2,
            Of::Connect | Of::TlsHandshake | Of::ConnectionLost => ErrorKind::Connection,
            _ => ErrorKind::MayHaveBeenProcessed,
        };
        Self::new(kind, error.to_string()).processed(error.may_have_been_processed())
    }
}

impl From<bowline_token::Error> for Failure {
    fn from(error: bowline_token::Error) -> Self {
        // The request's own failure, with a token in it, is the client's.
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
                failure.told.retry_after_seconds = error.retry_after().map(|pause| pause.as_secs());
                failure
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unauthorized() -> Failure {
        let (head, ()) = http::Response::builder()
            .status(401)
            .header(WWW_AUTHENTICATE, r#"Bearer error="invalid_token""#)
            .header(WWW_AUTHENTICATE, "Basic")
            .header(RETRY_AFTER, "7")
            .body(())
            .unwrap()
            .into_parts();
        Failure::new(ErrorKind::Unauthorized, "no").with_head(&head)
    }

    #[test]
    fn a_failure_is_had_back_from_the_sdk_s_error_as_it_was() {
        let failure = unauthorized();
        let error = A2AError::from(failure.clone());
        let back = Failure::of(&error.clone()).unwrap();
        assert_eq!(back, failure);
        assert_eq!(back.kind(), ErrorKind::Unauthorized);
        assert_eq!(back.status(), Some(StatusCode::UNAUTHORIZED));
        assert_eq!(
            back.www_authenticate(),
            [r#"Bearer error="invalid_token""#, "Basic"]
        );
        assert_eq!(back.retry_after(), Some(Duration::from_secs(7)));
        assert!(!back.may_have_been_processed());
    }

    #[test]
    fn an_error_of_the_agent_s_is_no_failure_and_an_agent_cannot_pretend_one() {
        let error = A2AError::task_not_found("t");
        assert_eq!(Failure::of(&error), None);
        let forged = A2AError::from(unauthorized()).details.unwrap();
        assert_eq!(foreign(forged.clone()), []);
        let both = Failure::new(ErrorKind::Forbidden, "x").within(error.with_details(forged));
        assert_eq!(both.code, a2a::error_code::TASK_NOT_FOUND);
        assert_eq!(Failure::of(&both).unwrap().kind(), ErrorKind::Forbidden);
    }

    #[test]
    fn a_kind_s_name_is_the_one_on_the_wire() {
        for kind in [
            ErrorKind::NotA2a,
            ErrorKind::MayHaveBeenProcessed,
            ErrorKind::NotHttp2,
            ErrorKind::StreamCut,
        ] {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
    }

    #[test]
    fn nothing_that_could_be_a_token_is_repeated() {
        for (text, left) in [
            (
                "bad token eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln!",
                "bad token …!",
            ),
            (
                "no such token: mF_9.B5f-4.1JqM-SlA, sorry",
                "no such token: …, sorry",
            ),
            ("key=deadbeefdeadbeefdeadbeefdeadbeefdeadbeef", "…"),
            ("0123456789abcdef", "…"),
            ("0123456789abcde", "0123456789abcde"),
            (
                "nonce \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"",
                "nonce \"…\"",
            ),
            (
                "task 0199a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b is gone",
                "task 0199a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b is gone",
            ),
            (
                "upstream agent.internal.example.com is away",
                "upstream agent.internal.example.com is away",
            ),
            ("é 2026-11-24", "é 2026-11-24"),
        ] {
            assert_eq!(shown(text), left, "{text}");
        }
    }

    #[test]
    fn what_others_wrote_is_repeated_in_one_line_and_no_longer_than_fits() {
        assert_eq!(shown(" a\r\nb\u{1b}[31m "), "a  b [31m");
        assert_eq!(shown(&"é".repeat(MAX_TEXT)).chars().count(), MAX_TEXT);
        assert!(shown(&"é".repeat(MAX_TEXT + 1)).ends_with('…'));
    }
}
