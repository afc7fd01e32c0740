//! Whether an access token is valid (RS-2): a seam, because resource servers find out in different
//! ways.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bowline_proof::{AccessToken, Confirmation, ConfirmationError};
use serde_json::Value;

/// Decides whether an access token is valid at this resource server (RS-2):
/// [`JwtValidator`](crate::JwtValidator) and
/// [`IntrospectionValidator`](crate::IntrospectionValidator) do.
///
/// It says nothing about who may present the token: that is [`BindingLayer`](crate::BindingLayer)'s
/// part.
pub trait TokenValidator: Send + Sync + 'static {
    /// Validates signature or standing, expiry, issuer and audience.
    ///
    /// # Errors
    /// [`TokenErrorKind::Invalid`] makes the answer 401, [`TokenErrorKind::Unavailable`] 503.
    fn validate(
        &self,
        token: &AccessToken,
    ) -> impl Future<Output = Result<ValidToken, TokenError>> + Send;
}

impl<V: TokenValidator> TokenValidator for Arc<V> {
    fn validate(
        &self,
        token: &AccessToken,
    ) -> impl Future<Output = Result<ValidToken, TokenError>> + Send {
        V::validate(self, token)
    }
}

/// An access token that is valid, and what it says. Cheap to clone.
#[derive(Clone)]
pub struct ValidToken(Arc<Inner>);

struct Inner {
    claims: Value,
    confirmation: Result<Confirmation, ConfirmationError>,
}

impl ValidToken {
    /// A valid token with these claims (of the JWT, or of the introspection response). Its `cnf` is
    /// read from them.
    #[must_use]
    pub fn new(claims: Value) -> Self {
        let confirmation = Confirmation::from_claims(&claims);
        Self(Arc::new(Inner {
            claims,
            confirmation,
        }))
    }

    /// A token that somebody else validates: nothing is known of it but what it claims to be bound
    /// to.
    pub(crate) fn unvalidated(confirmation: Result<Confirmation, ConfirmationError>) -> Self {
        let claims = Value::Null;
        Self(Arc::new(Inner {
            claims,
            confirmation,
        }))
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

/// The claims name a person or a client; a log is no place for them.
impl fmt::Debug for ValidToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ValidToken").finish_non_exhaustive()
    }
}

/// Why a token was not found to be valid.
#[derive(Debug)]
pub struct TokenError {
    kind: TokenErrorKind,
    detail: &'static str,
    retry_after: Duration,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// Whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenErrorKind {
    /// The token is not valid here: the client needs another one.
    Invalid,
    /// It cannot be said now, because what is needed to tell cannot be reached. The client may try
    /// again.
    Unavailable,
}

impl TokenError {
    /// The token is not valid. The client gets to read `detail`: keep to printable ASCII without
    /// `"` and `\`, and to what a forger may know.
    #[must_use]
    pub fn invalid(detail: &'static str) -> Self {
        Self {
            kind: TokenErrorKind::Invalid,
            detail,
            retry_after: Duration::ZERO,
            source: None,
        }
    }

    /// Nothing can be said about the token for `retry_after`. The client gets to read the time
    /// only.
    #[must_use]
    pub fn unavailable(detail: &'static str, retry_after: Duration) -> Self {
        Self {
            kind: TokenErrorKind::Unavailable,
            detail,
            retry_after,
            source: None,
        }
    }

    /// The same, with its cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Whose fault it is.
    #[must_use]
    pub fn kind(&self) -> TokenErrorKind {
        self.kind
    }

    /// What is wrong, in words that may be sent to the client.
    #[must_use]
    pub fn detail(&self) -> &'static str {
        self.detail
    }

    /// When to try again, if it is [`TokenErrorKind::Unavailable`].
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
