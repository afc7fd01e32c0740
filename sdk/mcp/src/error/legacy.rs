//! What can go wrong with legacy HTTP+SSE alone.

use std::time::Duration;

use bowline_http_client::Fault;
use http::StatusCode;

use super::{Error, ErrorKind};

#[derive(Debug, thiserror::Error)]
pub(crate) enum LegacyCause {
    #[error("the endpoint of the event stream cannot be used: {0}")]
    UnusableEndpoint(&'static str),
    #[error(
        "the event stream of {here} wants messages sent to {there}; no token or proof goes to \
         another origin"
    )]
    EndpointOnOtherOrigin { here: String, there: String },
    #[error("{}", unauthorized(challenge.as_deref()))]
    Unauthorized {
        challenge: Option<String>,
        may_have_been_processed: bool,
    },
    #[error("{}", error_status(*status))]
    Status {
        status: StatusCode,
        retry_after: Option<Duration>,
        may_have_been_processed: bool,
    },
    #[error(
        "the response to the GET is not an event stream but {0:?}: is this the URL of a server's \
         legacy HTTP+SSE transport?"
    )]
    NotAnEventStream(String),
    #[error("the server ended the event stream")]
    StreamEnded,
    #[error("the event stream said nothing for {0:?}")]
    StreamIdle(Duration),
    #[error(
        "the event stream, its endpoint event, or the response to a repeated initialize did not \
         come within {0:?}"
    )]
    StreamTimeout(Duration),
    #[error("the server did not accept the message within {0:?}; it may act on it")]
    PostTimeout(Duration),
    #[error(
        "the event stream broke while the message was sent, and the server may have acted on it: \
         {0}"
    )]
    StreamBroken(#[source] Error),
    #[error("the server sends too many {0}")]
    TooMany(&'static str),
    #[error(
        "the event stream broke, and the server refused initialize for the new session with \
         JSON-RPC error {0}"
    )]
    InitializeRefused(i32),
    #[error(
        "the event stream broke, and for the new session the server chose another protocol version"
    )]
    OtherVersion,
    #[error(
        "gave up: {attempts} event streams in a row ended before a request was answered; the last \
         one: {last}"
    )]
    GaveUp {
        attempts: u32,
        #[source]
        last: Error,
    },
    #[error("the message cannot be written as JSON")]
    Serialize(#[source] serde_json::Error),
    #[error("the transport has ended")]
    Closed,
    #[error("the transport's task has failed: {0}")]
    Panicked(String),
}

impl LegacyCause {
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::UnusableEndpoint(_) => ErrorKind::InvalidEndpoint,
            Self::EndpointOnOtherOrigin { .. } => ErrorKind::EndpointOnOtherOrigin,
            Self::Unauthorized { .. } => ErrorKind::Unauthorized,
            Self::Status { status, .. } => ErrorKind::Status(*status),
            Self::NotAnEventStream(_) => ErrorKind::NotAnEventStream,
            Self::StreamEnded | Self::StreamIdle(_) | Self::StreamTimeout(_) => ErrorKind::Stream,
            Self::PostTimeout(_) => ErrorKind::Timeout,
            Self::StreamBroken(_) => ErrorKind::StreamBroken,
            Self::TooMany(_) => ErrorKind::TooManyMessages,
            Self::InitializeRefused(_) | Self::OtherVersion => ErrorKind::ReinitializeFailed,
            Self::GaveUp { .. } => ErrorKind::GaveUp,
            Self::Serialize(_) => ErrorKind::Serialize,
            Self::Closed | Self::Panicked(_) => ErrorKind::Closed,
        }
    }

    pub(crate) fn fault(&self) -> Fault {
        match self {
            Self::StreamBroken(e) | Self::GaveUp { last: e, .. } => e.fault(),
            Self::Unauthorized { .. } | Self::NotAnEventStream(_) => Fault::Configuration,
            Self::StreamEnded
            | Self::StreamIdle(_)
            | Self::StreamTimeout(_)
            | Self::PostTimeout(_) => Fault::Network,
            Self::Serialize(_) | Self::Closed | Self::Panicked(_) => Fault::Caller,
            Self::UnusableEndpoint(_)
            | Self::EndpointOnOtherOrigin { .. }
            | Self::Status { .. }
            | Self::TooMany(_)
            | Self::InitializeRefused(_)
            | Self::OtherVersion => Fault::Peer,
        }
    }

    /// Whether opening the event stream again could succeed.
    pub(crate) fn is_retryable(&self) -> bool {
        match self {
            Self::Status { status, .. } => {
                status.is_server_error()
                    || matches!(
                        *status,
                        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
                    )
            }
            Self::StreamEnded
            | Self::StreamIdle(_)
            | Self::StreamTimeout(_)
            | Self::PostTimeout(_)
            | Self::TooMany(_) => true,
            _ => false,
        }
    }

    /// The server's `Retry-After`.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    pub(crate) fn may_have_been_processed(&self) -> bool {
        match self {
            Self::PostTimeout(_) | Self::StreamBroken(_) => true,
            Self::Unauthorized {
                may_have_been_processed,
                ..
            }
            | Self::Status {
                may_have_been_processed,
                ..
            } => *may_have_been_processed,
            _ => false,
        }
    }
}

fn unauthorized(challenge: Option<&str>) -> String {
    let challenge = challenge
        .map(|challenge| format!(" ({challenge})"))
        .unwrap_or_default();
    format!(
        "the server does not accept the access token{challenge}: get another one, for this resource"
    )
}

fn error_status(status: StatusCode) -> String {
    let hint = match status {
        StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_FOUND => {
            ": is this the URL of a server's legacy HTTP+SSE transport, and does the session still \
             exist?"
        }
        _ => "",
    };
    format!("the server answered HTTP {status}{hint}")
}
