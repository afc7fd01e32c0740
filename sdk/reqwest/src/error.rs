//! What can go wrong, as far as reqwest's own error type cannot say it.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use bowline_client::Fault;

/// Why a request failed, or why its response's body did.
///
/// It keeps bowline's own error, which [`client`](Self::client) gives and which is the first of its
/// sources.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(Cause);

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// bowline could not carry the exchange out.
    Client(bowline_client::ErrorKind),
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
    Client(#[source] bowline_client::Error),
    #[error(
        "the request's URL is a URL and no URI: look for braces and the like, and for its length"
    )]
    InvalidUrl(#[source] reqwest::Error),
    // The source is what reqwest recognises a time-out by.
    #[error("the exchange did not end within the request's own time-out of {0:?}")]
    Timeout(Duration, #[source] io::Error),
}

impl Error {
    /// The error of this crate inside another: a `reqwest_middleware::Error`, the `reqwest::Error`
    /// of a response's body, or whatever somebody wrapped around one of them.
    pub fn find<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        std::iter::successors(Some(error), |&error| error.source())
            .find_map(|error| error.downcast_ref())
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        match &self.0 {
            Cause::Client(e) => ErrorKind::Client(e.kind()),
            Cause::InvalidUrl(_) => ErrorKind::InvalidUrl,
            Cause::Timeout(..) => ErrorKind::Timeout,
        }
    }

    /// Who has to act.
    pub fn fault(&self) -> Fault {
        match &self.0 {
            Cause::Client(e) => e.fault(),
            Cause::InvalidUrl(_) => Fault::Caller,
            Cause::Timeout(..) => Fault::Network,
        }
    }

    /// bowline's own error, if there is one.
    pub fn client(&self) -> Option<&bowline_client::Error> {
        match &self.0 {
            Cause::Client(e) => Some(e),
            _ => None,
        }
    }

    /// Whether the server may have acted on the request (CL-7).
    ///
    /// After [`ErrorKind::Timeout`] it may: that time-out runs over the whole exchange and does not say
    /// what it struck. The bowline client's own [`Timeouts`](bowline_client::Timeouts) do.
    pub fn may_have_been_processed(&self) -> bool {
        match &self.0 {
            Cause::Client(e) => e.may_have_been_processed(),
            Cause::InvalidUrl(_) => false,
            Cause::Timeout(..) => true,
        }
    }

    /// Whether the same request may succeed later without anybody changing anything, and cannot
    /// have been processed.
    pub fn is_worth_another_try(&self) -> bool {
        self.client()
            .is_some_and(bowline_client::Error::is_worth_another_try)
    }

    /// Whether it was a time-out: the request's own, or one of the bowline client's.
    pub fn is_timeout(&self) -> bool {
        matches!(
            self.kind(),
            ErrorKind::Timeout | ErrorKind::Client(bowline_client::ErrorKind::Timeout(_))
        )
    }

    pub(crate) fn invalid_url(error: reqwest::Error) -> Self {
        Self(Cause::InvalidUrl(error))
    }

    pub(crate) fn timeout(limit: Duration) -> Self {
        Self(Cause::Timeout(limit, io::ErrorKind::TimedOut.into()))
    }
}

/// As what it is in the stack's own error: `downcast_ref` finds it there.
impl From<Error> for reqwest_middleware::Error {
    fn from(error: Error) -> Self {
        let story = error.to_string();
        match reqwest_middleware::Error::middleware(error) {
            // This type and those that other middlewares wrap around it are transparent: asked for
            // their source they give the source of what they hold. One layer more, and what they
            // give is the error itself.
            Self::Middleware(inner) => Self::Middleware(inner.context(story)),
            other => other,
        }
    }
}

impl From<bowline_client::Error> for Error {
    fn from(error: bowline_client::Error) -> Self {
        Self(Cause::Client(error))
    }
}
