//! What can go wrong below JSON-RPC.

use std::sync::Arc;
use std::time::Duration;

use bowline_client::bind::BindingRefusal;
use bowline_client::{Fault, InvalidAccessToken};
use bowline_transport::lines::LinesError;
use http::StatusCode;
use http::uri::InvalidUri;

/// Why an exchange failed below JSON-RPC, where rmcp has no variant of its own for it.
///
/// rmcp hands it on as `StreamableHttpError::Client`, and from an event stream as the source of
/// `SseError::Body`; it is the error of [`LegacySse`](crate::LegacySse) itself. Cloning is cheap.
#[derive(Clone, Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(Arc<Cause>);

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The HTTP client could not carry the exchange out: see [`Error::client`].
    Client(bowline_client::ErrorKind),
    /// The endpoint's URI cannot be parsed.
    InvalidEndpoint,
    /// rmcp's `auth_header` is no access token.
    InvalidToken,
    /// Both rmcp's configuration and the transport give an access token.
    TwoTokens,
    /// The token source has no access token to send: see [`Error::token`].
    Token(bowline_token::ErrorKind),
    /// A session id or event id, both of which the server chose, cannot stand in a header field: it
    /// has control characters, or more than 8 KiB.
    InvalidId,
    /// The server refused a fresh proof, or demands one that this client cannot make: another
    /// access token would not help (CL-5).
    BindingRefused,
    /// The server redirects to another origin, with another status than 307 or 308, to nowhere, or
    /// too often: nothing of that is followed (CL-6).
    Redirect,
    /// The server answered with an error status to which neither MCP nor rmcp give a meaning.
    Status(StatusCode),
    /// An event of the server is longer than the limit.
    EventTooLong,
    /// Legacy HTTP+SSE: the server's `endpoint` is on another origin. Nothing is sent there (CL-6).
    EndpointElsewhere,
    /// Legacy HTTP+SSE: the server does not take the access token (HTTP 401).
    Unauthorized,
    /// Legacy HTTP+SSE: the answer to the GET is no event stream.
    NoEventStream,
    /// Legacy HTTP+SSE: the event stream holds bytes that are not UTF-8.
    InvalidUtf8,
    /// Legacy HTTP+SSE: the event stream ended, said nothing for too long, or did not begin in
    /// time.
    Stream,
    /// Legacy HTTP+SSE: the server did not accept a POST in time.
    Timeout,
    /// Legacy HTTP+SSE: the event stream broke while a POST was under way.
    StreamBroke,
    /// Legacy HTTP+SSE: the server sends more than anybody can take in.
    Flood,
    /// Legacy HTTP+SSE: after the event stream broke, the server did not begin a session like the
    /// first one.
    NotBegunAgain,
    /// Legacy HTTP+SSE: too many event streams in a row were good for nothing.
    GaveUp,
    /// A message cannot be written as JSON.
    Unwritable,
    /// The transport has ended before.
    Closed,
    /// An answer to a request of rmcp's authorization manager is longer than the limit.
    #[cfg(feature = "auth")]
    AnswerTooLong,
    /// A request of rmcp's authorization manager was not answered in time.
    #[cfg(feature = "auth")]
    TimedOut,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Cause {
    #[error(transparent)]
    Client(bowline_client::Error),
    #[error(transparent)]
    Token(bowline_token::Error),
    #[error("the MCP endpoint is no URI; give one such as https://mcp.example.com/mcp")]
    InvalidEndpoint(#[source] InvalidUri),
    #[error("rmcp's auth_header is no access token; give the bare token, without \"Bearer\"")]
    InvalidToken(#[source] InvalidAccessToken),
    #[error(
        "two access tokens: give one, in rmcp's auth_header, to StreamableHttp::token or to StreamableHttp::source"
    )]
    TwoTokens,
    #[error(
        "the server's {0} cannot stand in a header field: it has control characters, or is very long"
    )]
    InvalidId(&'static str),
    #[error("{}", binding_refused(.0))]
    BindingRefused(BindingRefusal),
    #[error(
        "the server answers {0}, and no proof that it takes could be made: check that the client has a certificate and \
         key, and that nothing on the way terminates TLS"
    )]
    BindingUnmet(&'static str),
    #[error("{}", redirect(*status, location.as_deref()))]
    Redirect {
        status: StatusCode,
        location: Option<String>,
    },
    #[error("the server redirects for more than {0} times; ask whoever runs it")]
    Redirects(usize),
    #[error("the server answered HTTP {0}")]
    Status(StatusCode),
    #[error(
        "the server sent an event of more than {limit} bytes; raise rmcp's max_sse_event_size if it may"
    )]
    EventTooLong { limit: usize },
    #[error("the endpoint of the event stream cannot be used: {0}")]
    UnusableEndpoint(&'static str),
    #[error(
        "the event stream of {here} wants messages sent to {there}; no token or proof goes to another origin"
    )]
    EndpointElsewhere { here: String, there: String },
    #[error("{}", unauthorized(.0.as_deref()))]
    Unauthorized(Option<String>),
    #[error("{}", refused(*status))]
    Refused {
        status: StatusCode,
        retry_after: Option<Duration>,
    },
    #[error(
        "the answer to the GET is no event stream but {0:?}: is this the URL of a server's legacy HTTP+SSE transport?"
    )]
    NoEventStream(String),
    #[error("the event stream holds bytes that are not UTF-8")]
    InvalidUtf8,
    #[error("the server ended the event stream")]
    StreamEnded,
    #[error("the event stream said nothing for {0:?}")]
    SilentStream(Duration),
    #[error(
        "the event stream, its endpoint event, or the answer to a repeated initialize did not come within {0:?}"
    )]
    SlowStream(Duration),
    #[error("the server did not accept the message within {0:?}; it may act on it")]
    SlowAnswer(Duration),
    #[error(
        "the event stream broke while the message was sent, and the server may have acted on it: {0}"
    )]
    StreamBroke(#[source] Error),
    #[error("the server sends too many {0}")]
    Flood(&'static str),
    #[error(
        "the event stream broke, and the server refused initialize for the new session with JSON-RPC error {0}"
    )]
    InitializeRefused(i32),
    #[error(
        "the event stream broke, and for the new session the server chose another protocol version"
    )]
    AnotherVersion,
    #[error("gave up: {tries} event streams in a row were good for nothing; the last one: {last}")]
    GaveUp {
        tries: u32,
        #[source]
        last: Error,
    },
    #[error("the message cannot be written as JSON")]
    Unwritable(#[source] serde_json::Error),
    #[error("the transport has ended")]
    Closed,
    #[error("the transport's task has failed: {0}")]
    Panicked(String),
    #[cfg(feature = "auth")]
    #[error("the answer to an OAuth request has more than {limit} bytes; no honest one has")]
    AnswerTooLong { limit: usize },
    #[cfg(feature = "auth")]
    #[error("an OAuth request was not answered within {0:?}")]
    TimedOut(std::time::Duration),
}

impl Error {
    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        match &*self.0 {
            Cause::Client(e) => ErrorKind::Client(e.kind()),
            Cause::Token(e) => ErrorKind::Token(e.kind()),
            Cause::InvalidEndpoint(_) => ErrorKind::InvalidEndpoint,
            Cause::InvalidToken(_) => ErrorKind::InvalidToken,
            Cause::TwoTokens => ErrorKind::TwoTokens,
            Cause::InvalidId(_) => ErrorKind::InvalidId,
            Cause::BindingRefused(_) | Cause::BindingUnmet(_) => ErrorKind::BindingRefused,
            Cause::Redirect { .. } | Cause::Redirects(_) => ErrorKind::Redirect,
            Cause::Status(status) => ErrorKind::Status(*status),
            Cause::EventTooLong { .. } => ErrorKind::EventTooLong,
            Cause::UnusableEndpoint(_) => ErrorKind::InvalidEndpoint,
            Cause::EndpointElsewhere { .. } => ErrorKind::EndpointElsewhere,
            Cause::Unauthorized(_) => ErrorKind::Unauthorized,
            Cause::Refused { status, .. } => ErrorKind::Status(*status),
            Cause::NoEventStream(_) => ErrorKind::NoEventStream,
            Cause::InvalidUtf8 => ErrorKind::InvalidUtf8,
            Cause::StreamEnded | Cause::SilentStream(_) | Cause::SlowStream(_) => ErrorKind::Stream,
            Cause::SlowAnswer(_) => ErrorKind::Timeout,
            Cause::StreamBroke(_) => ErrorKind::StreamBroke,
            Cause::Flood(_) => ErrorKind::Flood,
            Cause::InitializeRefused(_) | Cause::AnotherVersion => ErrorKind::NotBegunAgain,
            Cause::GaveUp { .. } => ErrorKind::GaveUp,
            Cause::Unwritable(_) => ErrorKind::Unwritable,
            Cause::Closed | Cause::Panicked(_) => ErrorKind::Closed,
            #[cfg(feature = "auth")]
            Cause::AnswerTooLong { .. } => ErrorKind::AnswerTooLong,
            #[cfg(feature = "auth")]
            Cause::TimedOut(_) => ErrorKind::TimedOut,
        }
    }

    /// Who has to act.
    pub fn fault(&self) -> Fault {
        match &*self.0 {
            Cause::Client(e) => e.fault(),
            Cause::Token(e) => e.fault(),
            Cause::InvalidEndpoint(_)
            | Cause::InvalidToken(_)
            | Cause::TwoTokens
            | Cause::BindingUnmet(_)
            | Cause::Redirect { .. } => Fault::Configuration,
            Cause::InvalidId(_)
            | Cause::BindingRefused(_)
            | Cause::Redirects(_)
            | Cause::Status(_)
            | Cause::EventTooLong { .. } => Fault::Peer,
            #[cfg(feature = "auth")]
            Cause::AnswerTooLong { .. } => Fault::Peer,
            #[cfg(feature = "auth")]
            Cause::TimedOut(_) => Fault::Network,
            Cause::StreamBroke(e) | Cause::GaveUp { last: e, .. } => e.fault(),
            Cause::Unauthorized(_) | Cause::NoEventStream(_) => Fault::Configuration,
            Cause::StreamEnded
            | Cause::SilentStream(_)
            | Cause::SlowStream(_)
            | Cause::SlowAnswer(_) => Fault::Network,
            Cause::Unwritable(_) | Cause::Closed | Cause::Panicked(_) => Fault::Caller,
            Cause::UnusableEndpoint(_)
            | Cause::EndpointElsewhere { .. }
            | Cause::Refused { .. }
            | Cause::InvalidUtf8
            | Cause::Flood(_)
            | Cause::InitializeRefused(_)
            | Cause::AnotherVersion => Fault::Peer,
        }
    }

    /// Whether opening the event stream of a legacy server again could help.
    pub(crate) fn is_worth_another_stream(&self) -> bool {
        match &*self.0 {
            Cause::Client(e) => e.is_worth_another_try() || e.fault() == Fault::Peer,
            Cause::Token(e) => e.is_worth_another_try(),
            Cause::Refused { status, .. } => {
                status.is_server_error()
                    || matches!(
                        *status,
                        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
                    )
            }
            Cause::EventTooLong { .. }
            | Cause::InvalidUtf8
            | Cause::StreamEnded
            | Cause::SilentStream(_)
            | Cause::SlowStream(_)
            | Cause::SlowAnswer(_)
            | Cause::Flood(_) => true,
            _ => false,
        }
    }

    /// How long the server asked to be left alone.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match &*self.0 {
            Cause::Refused { retry_after, .. } => *retry_after,
            Cause::Token(e) => e.retry_after(),
            _ => None,
        }
    }

    /// The HTTP client's own error, if it was the HTTP client that failed.
    pub fn client(&self) -> Option<&bowline_client::Error> {
        match &*self.0 {
            Cause::Client(e) => Some(e),
            _ => None,
        }
    }

    /// The token source's error, if it was the source that failed.
    pub fn token(&self) -> Option<&bowline_token::Error> {
        match &*self.0 {
            Cause::Token(e) => Some(e),
            _ => None,
        }
    }

    /// Whether the server may have acted on the message (CL-7).
    ///
    /// A refusal, a redirect or an error status says nothing of the kind and counts as not
    /// processed.
    pub fn may_have_been_processed(&self) -> bool {
        match &*self.0 {
            Cause::Client(e) => e.may_have_been_processed(),
            // It did act: this is its answer.
            Cause::EventTooLong { .. } | Cause::InvalidId(_) => true,
            Cause::SlowAnswer(_) | Cause::StreamBroke(_) => true,
            #[cfg(feature = "auth")]
            Cause::AnswerTooLong { .. } | Cause::TimedOut(_) => true,
            _ => false,
        }
    }
}

impl From<Cause> for Error {
    fn from(cause: Cause) -> Self {
        Self(Arc::new(cause))
    }
}

impl From<LinesError> for Error {
    fn from(error: LinesError) -> Self {
        match error {
            LinesError::TooLong { limit } => Cause::EventTooLong { limit },
            LinesError::InvalidUtf8 => Cause::InvalidUtf8,
            LinesError::Silent(limit) => Cause::SilentStream(limit),
            LinesError::Client(e) => Cause::Client(e),
            // `Cut`, or whatever the adapters' crate learns.
            _ => Cause::StreamEnded,
        }
        .into()
    }
}

impl From<bowline_client::Error> for Error {
    fn from(error: bowline_client::Error) -> Self {
        Cause::Client(error).into()
    }
}

impl From<bowline_token::Error> for Error {
    fn from(error: bowline_token::Error) -> Self {
        // The request's own failure, with a token in it, is the client's.
        match error
            .client()
            .filter(|_| error.kind() == bowline_token::ErrorKind::Request)
        {
            Some(e) => Cause::Client(e.clone()).into(),
            None => Cause::Token(error).into(),
        }
    }
}

fn binding_refused(refusal: &BindingRefusal) -> String {
    let certificate = match &refusal.certificate {
        Some(certificate) => format!(" made with certificate {certificate}"),
        None => String::new(),
    };
    let clock = match refusal.clock_difference {
        Some(seconds) => format!("; the server's clock less ours is {seconds} s"),
        None => String::new(),
    };
    let error = &refusal.error;
    format!(
        "the server refused a fresh session-binding proof{certificate} with {error}: check that nothing on the way \
         terminates TLS, that the token's cnf names this certificate, and whether the server wants proofs for single calls \
         (StreamableHttp::request_bound_calls){clock}"
    )
}

fn redirect(status: StatusCode, location: Option<&str>) -> String {
    match location {
        Some(location) => format!(
            "the server redirects (HTTP {status}) to {location}; configure that as the endpoint"
        ),
        None => format!("the server redirects (HTTP {status}) to nowhere; ask whoever runs it"),
    }
}

fn unauthorized(challenge: Option<&str>) -> String {
    let said = challenge
        .map(|challenge| format!(" ({challenge})"))
        .unwrap_or_default();
    format!("the server does not take the access token{said}: get another one, for this resource")
}

fn refused(status: StatusCode) -> String {
    let hint = match status {
        StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_FOUND => {
            ": is this the URL of a server's legacy HTTP+SSE transport, and does the session still exist?"
        }
        _ => "",
    };
    format!("the server answered HTTP {status}{hint}")
}
