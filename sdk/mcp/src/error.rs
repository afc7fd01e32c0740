//! What can go wrong below JSON-RPC.

#[cfg(feature = "legacy-sse")]
mod legacy;

use std::sync::Arc;

use bowline_http_client::bind::BindingRefusal;
use bowline_http_client::{Fault, InvalidAccessToken};
use bowline_transport::head::{is_refused_before_processing, is_unprocessed};
use bowline_transport::text::printable;
use http::header::WWW_AUTHENTICATE;
use http::uri::InvalidUri;
use http::{HeaderMap, HeaderValue, StatusCode};
use rmcp::transport::streamable_http_client::StreamableHttpError;

#[cfg(feature = "legacy-sse")]
pub(crate) use legacy::LegacyCause;

/// Why an exchange failed below JSON-RPC, where rmcp has no variant of its own for the failure.
///
/// rmcp passes it on as `StreamableHttpError::Client`, and from an event stream as the source of
/// `SseError::Body`; it is the error of `LegacySse` itself. Cloning is cheap.
///
/// Its text may quote what the server sent, but nothing that looks like a token (EX-7).
#[derive(Clone, Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(Arc<Cause>);

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The HTTP client could not carry out the exchange: see [`Error::client`].
    Client(bowline_http_client::ErrorKind),
    /// The endpoint's URI is invalid.
    InvalidEndpoint,
    /// rmcp's `auth_header` is not an access token.
    InvalidToken,
    /// Both rmcp's configuration and the transport give an access token.
    TwoTokens,
    /// The token source has no access token to send: see [`Error::token`].
    Token(bowline_token::ErrorKind),
    /// A session id or event id, both chosen by the server, cannot be sent in a header field: it
    /// has control characters, or more than 8 KiB.
    InvalidId,
    /// The server refused a fresh proof, or demands one that this client cannot make: another
    /// access token would not help (CL-5).
    BindingRefused,
    /// The server redirects to a target that is not followed, or too often (CL-6).
    Redirect,
    /// The server answered with an error status to which neither MCP nor rmcp give a meaning.
    Status(StatusCode),
    /// An event is longer than the limit.
    EventTooLong,
    /// A response did not end in time: one in JSON to Streamable HTTP, the one to a POST of legacy
    /// HTTP+SSE, or to a request of rmcp's authorization manager.
    Timeout,
    /// Legacy HTTP+SSE: the server's `endpoint` is on another origin. Nothing is sent there (CL-6).
    EndpointOnOtherOrigin,
    /// Legacy HTTP+SSE: the server does not accept the access token (HTTP 401).
    Unauthorized,
    /// Legacy HTTP+SSE: the response to the GET is not an event stream.
    NotAnEventStream,
    /// Legacy HTTP+SSE: the event stream ended, was idle for too long, or did not begin in time.
    Stream,
    /// Legacy HTTP+SSE: the event stream broke while a POST was under way.
    StreamBroken,
    /// Legacy HTTP+SSE: the server sends more messages than the limits allow.
    TooManyMessages,
    /// Legacy HTTP+SSE: after the event stream broke, the server did not begin a session like the
    /// first one.
    ReinitializeFailed,
    /// Legacy HTTP+SSE: too many event streams in a row ended before a request was answered.
    GaveUp,
    /// A message cannot be written as JSON.
    Serialize,
    /// The transport has ended.
    Closed,
    /// A response to rmcp's authorization manager is longer than the limit.
    #[cfg(feature = "auth")]
    ResponseTooLarge,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Cause {
    #[error(transparent)]
    Client(bowline_http_client::Error),
    #[error(transparent)]
    Token(bowline_token::Error),
    #[error("the MCP endpoint is not a URI; give one such as https://mcp.example.com/mcp")]
    InvalidEndpoint(#[source] InvalidUri),
    #[error("rmcp's auth_header is not an access token; give the bare token, without \"Bearer\"")]
    InvalidToken(#[source] InvalidAccessToken),
    #[error(
        "two access tokens: give one, in rmcp's auth_header, to StreamableHttp::token or to \
         StreamableHttp::source"
    )]
    TwoTokens,
    #[error(
        "the server's {0} cannot stand in a header field: it has control characters, or is very \
         long"
    )]
    InvalidId(&'static str),
    #[error("{}", binding_refused(.0))]
    BindingRefused(BindingRefusal),
    #[error(
        "the server answers {0}, and no proof that it accepts could be made: check that the client \
         has a certificate and key, and that nothing on the way terminates TLS"
    )]
    BindingUnmet(&'static str),
    #[error("{}", redirect(*status, target.as_deref(), reason))]
    Redirect {
        status: StatusCode,
        target: Option<String>,
        reason: String,
    },
    #[error("the server redirects for more than {0} times; ask its operator")]
    TooManyRedirects(usize),
    #[error("the server answered HTTP {0}")]
    Status(StatusCode),
    #[error(
        "the server sent an event of more than {limit} bytes; raise rmcp's max_sse_event_size if \
         it may"
    )]
    EventTooLong { limit: usize },
    #[error("the server began its response and did not end it within {0:?}")]
    BodyTimeout(std::time::Duration),
    #[cfg(feature = "legacy-sse")]
    #[error(transparent)]
    Legacy(LegacyCause),
    #[cfg(feature = "auth")]
    #[error("the response to an OAuth request has more than {limit} bytes, the limit")]
    ResponseTooLarge { limit: usize },
    #[cfg(feature = "auth")]
    #[error("an OAuth request was not answered within {0:?}")]
    Timeout(std::time::Duration),
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
            Cause::Redirect { .. } | Cause::TooManyRedirects(_) => ErrorKind::Redirect,
            Cause::Status(status) => ErrorKind::Status(*status),
            Cause::EventTooLong { .. } => ErrorKind::EventTooLong,
            Cause::BodyTimeout(_) => ErrorKind::Timeout,
            #[cfg(feature = "legacy-sse")]
            Cause::Legacy(cause) => cause.kind(),
            #[cfg(feature = "auth")]
            Cause::ResponseTooLarge { .. } => ErrorKind::ResponseTooLarge,
            #[cfg(feature = "auth")]
            Cause::Timeout(_) => ErrorKind::Timeout,
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
            | Cause::TooManyRedirects(_)
            | Cause::Status(_)
            | Cause::EventTooLong { .. } => Fault::Peer,
            #[cfg(feature = "legacy-sse")]
            Cause::Legacy(cause) => cause.fault(),
            #[cfg(feature = "auth")]
            Cause::ResponseTooLarge { .. } => Fault::Peer,
            Cause::BodyTimeout(_) => Fault::Network,
            #[cfg(feature = "auth")]
            Cause::Timeout(_) => Fault::Network,
        }
    }

    /// The HTTP client's own error, if it was the HTTP client that failed.
    pub fn client(&self) -> Option<&bowline_http_client::Error> {
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
    /// Of the responses that are no success only these say that it did not: 403, 404, 405, 413, 421,
    /// 425, 429, a redirect by 307 or 308, and a 401 whose `Bearer` or `DPoP` challenge refuses the
    /// token or the proof. Any other status may come from a gateway in front of a server that acted.
    pub fn may_have_been_processed(&self) -> bool {
        match &*self.0 {
            Cause::Client(e) => e.may_have_been_processed(),
            Cause::BindingRefused(refusal) => !is_refused_before_processing(&refusal.error),
            Cause::BindingUnmet(error) => !is_refused_before_processing(error),
            Cause::Status(status) | Cause::Redirect { status, .. } => {
                !is_unprocessed(*status, &HeaderMap::new())
            }
            // Only 307 and 308 are followed at all.
            Cause::TooManyRedirects(_) => false,
            // The server did act: this is its response.
            Cause::EventTooLong { .. } | Cause::InvalidId(_) | Cause::BodyTimeout(_) => true,
            #[cfg(feature = "legacy-sse")]
            Cause::Legacy(cause) => cause.may_have_been_processed(),
            #[cfg(feature = "auth")]
            Cause::ResponseTooLarge { .. } | Cause::Timeout(_) => true,
            _ => false,
        }
    }
}

/// Whether the server may have acted on the message of a POST that failed with this error of rmcp's
/// (CL-7): [`Error::may_have_been_processed`] for the failures that rmcp has variants for, such as
/// an error status. What does not say that the server did not act counts as though it did.
pub fn may_have_been_processed(error: &StreamableHttpError<Error>) -> bool {
    let unprocessed = |status: u16, headers: &HeaderMap| {
        StatusCode::from_u16(status).is_ok_and(|status| is_unprocessed(status, headers))
    };
    match error {
        StreamableHttpError::Client(error) => error.may_have_been_processed(),
        StreamableHttpError::HttpStatus(error) => !unprocessed(error.status, &HeaderMap::new()),
        StreamableHttpError::AuthRequired(error) => {
            let challenges = HeaderValue::from_str(&error.www_authenticate_header);
            let challenges = challenges.into_iter().map(|value| (WWW_AUTHENTICATE, value));
            !unprocessed(401, &challenges.collect())
        }
        StreamableHttpError::UnexpectedServerResponse(text) => {
            let status = text.strip_prefix(UNEXPECTED_STATUS).and_then(|text| text.get(..3));
            let status = status.and_then(|status| status.parse().ok());
            !status.is_some_and(|status| unprocessed(status, &HeaderMap::new()))
        }
        // 403, 404 and 405.
        StreamableHttpError::InsufficientScope(_)
        | StreamableHttpError::SessionExpired
        | StreamableHttpError::ServerDoesNotSupportSse
        | StreamableHttpError::ServerDoesNotSupportDeleteSession
        // Refused before anything was sent.
        | StreamableHttpError::ReservedHeaderConflict(_) => false,
        _ => true,
    }
}

/// How the text of rmcp's `UnexpectedServerResponse` begins where the response was an error status
/// without a variant of its own; the status follows.
pub(crate) const UNEXPECTED_STATUS: &str = "HTTP ";

#[cfg(feature = "legacy-sse")]
impl Error {
    /// Whether opening the event stream of a legacy server again could succeed.
    pub(crate) fn is_retryable(&self) -> bool {
        match &*self.0 {
            Cause::Client(e) => e.is_worth_another_try() || e.fault() == Fault::Peer,
            Cause::Token(e) => e.is_worth_another_try(),
            Cause::EventTooLong { .. } => true,
            Cause::Legacy(cause) => cause.is_retryable(),
            _ => false,
        }
    }

    /// How long the server asked to wait before the next request.
    pub(crate) fn retry_after(&self) -> Option<std::time::Duration> {
        match &*self.0 {
            Cause::Legacy(cause) => cause.retry_after(),
            Cause::Token(e) => e.retry_after(),
            _ => None,
        }
    }
}

impl From<Cause> for Error {
    fn from(cause: Cause) -> Self {
        Self(Arc::new(cause))
    }
}

#[cfg(feature = "legacy-sse")]
impl From<LegacyCause> for Cause {
    fn from(cause: LegacyCause) -> Self {
        Self::Legacy(cause)
    }
}

#[cfg(feature = "legacy-sse")]
impl From<LegacyCause> for Error {
    fn from(cause: LegacyCause) -> Self {
        Cause::Legacy(cause).into()
    }
}

impl From<bowline_http_client::Error> for Error {
    fn from(error: bowline_http_client::Error) -> Self {
        Cause::Client(error).into()
    }
}

impl From<bowline_token::Error> for Error {
    fn from(error: bowline_token::Error) -> Self {
        // If the source had a token, the failure of the request itself is the client's.
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
    let error = printable(&refusal.error);
    format!(
        "the server refused a fresh session-binding proof{certificate} with {error}: check that \
         nothing on the way terminates TLS, that the token's cnf names this certificate, and \
         whether the server wants proofs for single calls \
         (StreamableHttp::request_bound_calls){clock}"
    )
}

fn redirect(status: StatusCode, target: Option<&str>, reason: &str) -> String {
    match target {
        Some(target) => format!(
            "the server redirects (HTTP {status}) to {target}; that is not followed ({reason}): \
             configure it as the endpoint if it is right"
        ),
        None => format!("the server redirects (HTTP {status}) to nowhere; ask its operator"),
    }
}
