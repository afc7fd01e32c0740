//! The seam: where something that depends on the connection is written into a request.
//!
//! reqwest and hyper-util choose a connection after the headers are complete. This client chooses
//! the connection first. A [`Bind`] implementation sees the facts of each connection when it opens,
//! and sees each request just before it is written to that connection.
//!
//! Upstream: <https://github.com/seanmonstar/reqwest/issues/1949> asks for this order in reqwest,
//! <https://github.com/hyperium/hyper/issues/3849> for the parts of a pool that could have it.
//!
//! - `session`: session-binding proofs, one for each access token and connection.
//! - `dpop`: DPoP proofs, one for each request.
//! - `select`: which of the two an access token needs.
//! - `use_count`: how many requests carried a proof, for the events.
//! - `signing`: waiting for a signature.
//! - `ahead`: what a connection hands to its successor.
//! - `per_origin`: what is remembered for each origin.

mod ahead;
pub(crate) mod dpop;
mod per_origin;
pub(crate) mod select;
pub(crate) mod session;
mod signing;
mod use_count;

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bowline_proof::{AccessToken, Thumbprint};
use futures_util::future::BoxFuture;
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri};

use crate::conn::facts::ConnectionFacts;
use crate::error::{Error, ErrorKind};
use crate::observe::{BindingUsed, CloseReason, Operation};

pub use crate::request::TokenSourceId;

pub use ahead::TokensInUse;
pub(crate) use ahead::{MOST_AHEAD, TokenInUse};

use use_count::UseCounter;

/// Makes what requests carry depend on the connection that they are written to.
pub trait Bind: Send + Sync + 'static {
    /// Called once for each connection, when its handshake has ended and before its first request.
    fn open(&self, facts: &Arc<ConnectionFacts>) -> Arc<dyn BindConnection>;
}

/// One connection's side of a [`Bind`]: dropped when the connection ends, with all it knows (CL-4).
pub trait BindConnection: Send + Sync + 'static {
    /// Called for each request, after this connection was chosen for it and before its headers are
    /// written.
    ///
    /// # Errors
    /// The request must not be written to this connection; it fails, unprocessed, with this error.
    fn bind(&self, request: &RequestFacts<'_>) -> Result<Bound, Error>;

    /// Called with the head of each response.
    fn learn(&self, answered: &Answered<'_>) -> Learned;

    /// Whether a request with this token would be written here without a new signature. If several
    /// connections are free, the pool prefers such a one.
    fn holds(&self, _token: &AccessToken) -> bool {
        false
    }

    /// The tokens that requests were bound with here within this time, for the connection that takes
    /// over ([`prove_ahead`](Self::prove_ahead)).
    fn in_use(&self, _within: Duration) -> TokensInUse {
        TokensInUse::default()
    }

    /// Makes ahead what the requests with these tokens will be bound with here, before the
    /// connection takes over from the one where they are in use. `None` if nothing is made ahead.
    fn prove_ahead(&self, _tokens: TokensInUse) -> Option<BoxFuture<'static, ()>> {
        None
    }

    /// Called once when the connection takes no more requests; responses may still arrive.
    fn closed(&self, reason: CloseReason);
}

/// What a binding sees of a request.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RequestFacts<'a> {
    /// The method.
    pub method: &'a Method,
    /// The absolute target URI.
    pub uri: &'a Uri,
    /// The access token in `Authorization` (`Bearer` or `DPoP`), if there is one.
    pub token: Option<&'a AccessToken>,
    /// The source that the token came from, if the caller named it.
    pub source: Option<TokenSourceId>,
    /// What the request is for.
    pub operation: Operation,
    /// Whether the caller wants a proof that is for this request alone
    /// ([`RequestBoundProof`](crate::RequestBoundProof)).
    pub request_bound: bool,
    /// Whether the caller wants a proof whatever the token shows
    /// ([`ProofRequired`](crate::ProofRequired)).
    pub proof_required: bool,
    /// Whether the request asks for a proof of the client's DPoP key although it has no access
    /// token ([`DpopProofRequired`](crate::DpopProofRequired)).
    pub dpop_proof_required: bool,
    /// Whether this is the second sending of a request whose first was refused with a binding
    /// challenge.
    pub is_retry: bool,
    /// Which binding it goes to: read from the token once ([`select`]).
    pub(crate) asks_for_dpop: bool,
}

/// What a binding does about a request.
pub enum Bound {
    /// Nothing: the request goes as it is.
    Nothing,
    /// The request carries this.
    Attached(Attachment),
    /// The request carries the result of this future, which is for this request alone.
    Pending(BoxFuture<'static, Result<Attachment, Error>>),
    /// The request carries the result of this future, which is for other requests with the same token
    /// too. Dropping the future must not disturb them. On HTTP/1.1 the request does not insist on this
    /// connection: it goes to another one that [`holds`](BindConnection::holds) its token already, if
    /// that comes free first.
    Shared(BoxFuture<'static, Result<Attachment, Error>>),
    /// Nothing can be attached any more: the connection has ended ([`BindConnection::closed`]). The
    /// request goes to another one.
    ConnectionEnded,
}

/// A header field to be written: it replaces every field of that name.
#[derive(Clone)]
#[non_exhaustive]
pub struct Attachment {
    /// The field's name.
    pub name: HeaderName,
    /// The field's value.
    pub value: HeaderValue,
    /// Replaces the request's `Authorization`, where the token needs another scheme.
    pub authorization: Option<HeaderValue>,
    /// How the request is counted.
    pub used: BindingUsed,
    /// Whether the value is for this one request.
    pub request_bound: bool,
    /// Whatever the binding wants back in [`BindConnection::learn`].
    pub memo: Arc<dyn Any + Send + Sync>,
    /// Counts the requests that carry this client's own proofs.
    pub(crate) uses: Option<Arc<UseCounter>>,
}

impl Attachment {
    /// A header field that is counted as `used`, for any request, with nothing remembered.
    pub fn new(name: HeaderName, value: HeaderValue, used: BindingUsed) -> Self {
        Self::with_memo(name, value, used, Arc::new(()))
    }

    /// The same with something remembered. Apart, because even an `Arc` of nothing is allocated, for
    /// each request.
    pub(crate) fn with_memo(
        name: HeaderName,
        value: HeaderValue,
        used: BindingUsed,
        memo: Arc<dyn Any + Send + Sync>,
    ) -> Self {
        Self {
            name,
            value,
            authorization: None,
            used,
            request_bound: false,
            memo,
            uses: None,
        }
    }

    /// A request is about to be written with this attachment.
    pub(crate) fn count_use(&self) {
        if let Some(uses) = &self.uses {
            uses.add();
        }
    }

    /// That request was not written after all.
    pub(crate) fn take_back_use(&self) {
        if let Some(uses) = &self.uses {
            uses.take_back();
        }
    }
}

/// A request that was answered: what it was, what it carried, and the head of the response.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Answered<'a> {
    /// The request.
    pub request: &'a RequestFacts<'a>,
    /// What [`BindConnection::bind`] attached to it.
    pub attached: Option<&'a Attachment>,
    /// The head of the response.
    pub response: &'a ResponseHead<'a>,
}

/// The head of a response.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ResponseHead<'a> {
    /// The status.
    pub status: StatusCode,
    /// The header fields.
    pub headers: &'a http::HeaderMap,
}

impl ResponseHead<'_> {
    /// The server's clock less ours in seconds, by its `Date` field.
    pub(crate) fn clock_difference(&self) -> Option<i64> {
        let date = self.headers.get(http::header::DATE)?.to_str().ok()?;
        let server = httpdate::parse_http_date(date).ok()?;
        let seconds = match server.duration_since(SystemTime::now()) {
            Ok(ahead) => i64::try_from(ahead.as_secs()).ok()?,
            Err(behind) => -i64::try_from(behind.duration().as_secs()).ok()?,
        };
        Some(seconds)
    }
}

fn invalid_token(e: bowline_proof::ConfirmationError) -> Error {
    Error::with_source(
        ErrorKind::InvalidToken,
        "the access token's `cnf` cannot be satisfied",
        e,
    )
}

/// What a binding made of a response.
#[derive(Debug)]
pub enum Learned {
    /// Nothing to be done.
    Nothing,
    /// The request was refused and a better proof can be had: worth sending once more.
    SendAgain,
    /// The binding was refused and another proof would be refused too.
    Refused(BindingRefusal),
}

/// Why a server would not take a fresh proof; in the extensions of the 401 response that the caller
/// gets.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BindingRefusal {
    /// The certificate that the proofs were made with; none for DPoP.
    pub certificate: Option<Thumbprint>,
    /// The challenge's `error`.
    pub error: String,
    /// The server's clock less ours in seconds, by its `Date` field: proofs carry a time.
    pub clock_difference: Option<i64>,
}
