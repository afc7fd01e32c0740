//! The errors that reqwest's own error type cannot express.
//!
//! Upstream: <https://github.com/seanmonstar/reqwest/issues/2857>.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use bowline_http_client::Fault;

/// Why a request failed, or why its response's body did.
///
/// It holds bowline's own error: [`client`](Self::client) or [`token`](Self::token) returns it, and it
/// is the first of the sources.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(Cause);

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// bowline could not carry the exchange out.
    Client(bowline_http_client::ErrorKind),
    /// The token source has no access token to send, or the request is for another origin than its
    /// tokens.
    Token(bowline_token::ErrorKind),
    /// The request's URL has characters that are allowed in a URL and not in a URI, or is longer
    /// than a URI may be.
    InvalidUrl,
    /// The request's own time-out passed, before the response's head or while its body was read.
    Timeout,
}

#[derive(Debug, thiserror::Error)]
enum Cause {
    // Displayed whole, like bowline's own errors: most callers print an error without its sources.
    #[error("{0}")]
    Client(#[source] bowline_http_client::Error),
    #[error("{0}")]
    Token(#[source] bowline_token::Error),
    #[error(
        "the request's URL is not a URI: it has characters such as braces that no URI may have, \
         or is too long"
    )]
    InvalidUrl(#[source] reqwest::Error),
    // reqwest recognises a time-out by this source.
    #[error("the exchange did not end within the request's own time-out of {0:?}")]
    Timeout(Duration, #[source] io::Error),
}

impl Error {
    /// The error of this crate inside another: a `reqwest_middleware::Error`, the `reqwest::Error`
    /// of a response's body, or any error that has one of them as a source.
    pub fn find<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        std::iter::successors(Some(error), |&error| error.source())
            .find_map(|error| error.downcast_ref())
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        match &self.0 {
            Cause::Client(e) => ErrorKind::Client(e.kind()),
            Cause::Token(e) => ErrorKind::Token(e.kind()),
            Cause::InvalidUrl(_) => ErrorKind::InvalidUrl,
            Cause::Timeout(..) => ErrorKind::Timeout,
        }
    }

    /// Who has to act.
    pub fn fault(&self) -> Fault {
        match &self.0 {
            Cause::Client(e) => e.fault(),
            Cause::Token(e) => e.fault(),
            Cause::InvalidUrl(_) => Fault::Caller,
            Cause::Timeout(..) => Fault::Network,
        }
    }

    /// The client's error, if it was the client that failed.
    pub fn client(&self) -> Option<&bowline_http_client::Error> {
        match &self.0 {
            Cause::Client(e) => Some(e),
            _ => None,
        }
    }

    /// The token source's error, if it was the source that failed.
    pub fn token(&self) -> Option<&bowline_token::Error> {
        match &self.0 {
            Cause::Token(e) => Some(e),
            _ => None,
        }
    }

    /// Whether the server may have acted on the request (CL-7).
    ///
    /// After [`ErrorKind::Timeout`] it may: that time-out covers the whole exchange and does not
    /// say which step was slow. The bowline client's own [`Timeouts`](bowline_http_client::Timeouts) do.
    pub fn may_have_been_processed(&self) -> bool {
        match &self.0 {
            Cause::Client(e) => e.may_have_been_processed(),
            Cause::Token(_) | Cause::InvalidUrl(_) => false,
            Cause::Timeout(..) => true,
        }
    }

    /// Whether the same request may succeed later without any change, and cannot have been
    /// processed.
    pub fn is_worth_another_try(&self) -> bool {
        match &self.0 {
            Cause::Client(e) => e.is_worth_another_try(),
            Cause::Token(e) => e.is_worth_another_try(),
            Cause::InvalidUrl(_) | Cause::Timeout(..) => false,
        }
    }

    /// Whether it was a time-out: the request's own, or one of the bowline client's.
    pub fn is_timeout(&self) -> bool {
        matches!(
            self.kind(),
            ErrorKind::Timeout | ErrorKind::Client(bowline_http_client::ErrorKind::Timeout(_))
        )
    }

    pub(crate) fn invalid_url(error: reqwest::Error) -> Self {
        Self(Cause::InvalidUrl(error))
    }

    pub(crate) fn timeout(limit: Duration) -> Self {
        Self(Cause::Timeout(limit, io::ErrorKind::TimedOut.into()))
    }
}

/// Wraps this error so that `downcast_ref` finds it in the stack's own error.
impl From<Error> for reqwest_middleware::Error {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match reqwest_middleware::Error::middleware(error) {
            // `reqwest_middleware::Error` is transparent, and so are the errors that other
            // middlewares wrap around it: `source()` returns the source of the inner error, not the
            // inner error. With one more layer of context the inner error is a source itself.
            Self::Middleware(inner) => Self::Middleware(inner.context(message)),
            other => other,
        }
    }
}

impl From<bowline_http_client::Error> for Error {
    fn from(error: bowline_http_client::Error) -> Self {
        Self(Cause::Client(error))
    }
}

impl From<bowline_token::Error> for Error {
    fn from(error: bowline_token::Error) -> Self {
        // If the source had a token, the failure of the request itself is the client's.
        match error.client() {
            Some(e) if error.kind() == bowline_token::ErrorKind::Request => {
                Self(Cause::Client(e.clone()))
            }
            _ => Self(Cause::Token(error)),
        }
    }
}
