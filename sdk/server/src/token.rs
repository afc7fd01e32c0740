//! Validation of access tokens (RS-2), as a trait because resource servers do it in different ways.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bowline_proof::{AccessToken, Confirmation, ConfirmationError};
use serde_json::Value;

use crate::Requester;

/// Decides whether an access token is valid at this resource server (RS-2):
/// [`JwtValidator`](crate::JwtValidator) and
/// [`IntrospectionValidator`](crate::IntrospectionValidator) implement it.
///
/// Who may present the token is not decided here but by [`BindingLayer`](crate::BindingLayer).
pub trait TokenValidator: Send + Sync + 'static {
    /// Validates signature or introspected state, expiry, issuer and audience.
    ///
    /// # Errors
    /// [`TokenErrorKind::Invalid`] makes the answer 401, [`TokenErrorKind::Unavailable`] 503.
    fn validate(
        &self,
        token: &AccessToken,
    ) -> impl Future<Output = Result<ValidToken, TokenError>> + Send;

    /// The same, for a request of this client: what [`BindingLayer`](crate::BindingLayer) calls. A
    /// validator that asks another server can use it to limit what each client makes it ask; one
    /// that wraps another validator should pass it on. By default it is ignored.
    ///
    /// # Errors
    /// As [`validate`](Self::validate), and [`TokenErrorKind::Limited`], which makes the answer
    /// 429.
    fn validate_for(
        &self,
        token: &AccessToken,
        requester: &Requester,
    ) -> impl Future<Output = Result<ValidToken, TokenError>> + Send {
        let _ = requester;
        self.validate(token)
    }

    /// Whether validating this token now would ask another server about it. Then
    /// [`BindingLayer`](crate::BindingLayer) first checks what it can check itself (RS-10), so that
    /// a made-up token without the proof that it needs costs that server nothing. Default: no.
    fn asks(&self, token: &AccessToken) -> bool {
        let _ = token;
        false
    }

    /// Whether it validates nothing, because the service behind this server does
    /// ([`UpstreamValidates`](crate::UpstreamValidates)). Then every token must be proved (GW-4). A
    /// validator that wraps another one should pass it on. Default: no.
    fn is_binding_only(&self) -> bool {
        false
    }
}

impl<V: TokenValidator> TokenValidator for Arc<V> {
    fn validate(
        &self,
        token: &AccessToken,
    ) -> impl Future<Output = Result<ValidToken, TokenError>> + Send {
        V::validate(self, token)
    }

    fn validate_for(
        &self,
        token: &AccessToken,
        requester: &Requester,
    ) -> impl Future<Output = Result<ValidToken, TokenError>> + Send {
        V::validate_for(self, token, requester)
    }

    fn asks(&self, token: &AccessToken) -> bool {
        V::asks(self, token)
    }

    fn is_binding_only(&self) -> bool {
        V::is_binding_only(self)
    }
}

/// A valid access token with its claims. Cheap to clone.
#[derive(Clone)]
pub struct ValidToken(Arc<Inner>);

struct Inner {
    claims: Value,
    confirmation: Result<Confirmation, ConfirmationError>,
    is_unvalidated: bool,
}

impl ValidToken {
    /// A valid token with these claims (of the JWT, or of the introspection response), which
    /// include its `cnf`.
    #[must_use]
    pub fn new(claims: Value) -> Self {
        let confirmation = Confirmation::from_claims(&claims);
        Self::with_confirmation(claims, confirmation)
    }

    /// With a `cnf` that was read from the text of the claims, where a duplicated member shows.
    pub(crate) fn with_confirmation(
        claims: Value,
        confirmation: Result<Confirmation, ConfirmationError>,
    ) -> Self {
        Self(Arc::new(Inner {
            claims,
            confirmation,
            is_unvalidated: false,
        }))
    }

    /// A token that the upstream validates: only its unverified `cnf` is known.
    pub(crate) fn unvalidated(confirmation: Result<Confirmation, ConfirmationError>) -> Self {
        Self(Arc::new(Inner {
            claims: Value::Null,
            confirmation,
            is_unvalidated: true,
        }))
    }

    /// Whether nobody has validated the token yet (GW-4).
    pub(crate) fn is_unvalidated(&self) -> bool {
        self.0.is_unvalidated
    }

    /// All claims.
    #[must_use]
    pub fn claims(&self) -> &Value {
        &self.0.claims
    }

    /// What the token is bound to (TK-1).
    ///
    /// # Errors
    /// `cnf` is malformed.
    pub fn confirmation(&self) -> Result<&Confirmation, ConfirmationError> {
        self.0.confirmation.as_ref().map_err(|error| *error)
    }
}

/// Shows no claims: they name a person or a client and must not be logged.
impl fmt::Debug for ValidToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ValidToken").finish_non_exhaustive()
    }
}

/// Why a token was not found valid.
#[derive(Debug)]
pub struct TokenError {
    kind: TokenErrorKind,
    detail: &'static str,
    retry_after: Duration,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The kind of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenErrorKind {
    /// The token is not valid here: the client needs another one.
    Invalid,
    /// It cannot be decided now, because something that is needed cannot be reached. The client may
    /// try again.
    Unavailable,
    /// The client has presented too many tokens that are not valid. It may try again later.
    Limited,
}

impl TokenError {
    /// The token is not valid. `detail` is sent to the client: use printable ASCII without `"` and
    /// `\`, and tell nothing that a forger must not know.
    #[must_use]
    pub fn invalid(detail: &'static str) -> Self {
        Self {
            kind: TokenErrorKind::Invalid,
            detail,
            retry_after: Duration::ZERO,
            source: None,
        }
    }

    /// The token cannot be validated for `retry_after`. Only this time is sent to the client.
    #[must_use]
    pub fn unavailable(detail: &'static str, retry_after: Duration) -> Self {
        Self {
            kind: TokenErrorKind::Unavailable,
            detail,
            retry_after,
            source: None,
        }
    }

    /// The client is not served for `retry_after`. Only this time is sent to it.
    #[must_use]
    pub fn limited(detail: &'static str, retry_after: Duration) -> Self {
        Self {
            kind: TokenErrorKind::Limited,
            detail,
            retry_after,
            source: None,
        }
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The kind of failure.
    #[must_use]
    pub fn kind(&self) -> TokenErrorKind {
        self.kind
    }

    /// What is wrong, in text that may be sent to the client.
    #[must_use]
    pub fn detail(&self) -> &'static str {
        self.detail
    }

    /// When to try again, unless it is [`TokenErrorKind::Invalid`].
    #[must_use]
    pub fn retry_after(&self) -> Duration {
        self.retry_after
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.detail)
    }
}

impl StdError for TokenError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
