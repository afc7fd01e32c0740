//! What a request that passed was bound to.

use bowline_proof::Thumbprint;
use bowline_proof::dpop::JwkThumbprint;
use serde_json::Value;

use crate::{ConnectionId, ValidToken};

/// Found among the extensions of every request that [`BindingLayer`](crate::BindingLayer) let through with a token.
#[derive(Clone, Debug)]
pub struct Binding {
    pub(crate) class: BindingClass,
    pub(crate) connection: ConnectionId,
    pub(crate) thumbprint: Option<Thumbprint>,
    pub(crate) dpop_key: Option<JwkThumbprint>,
    pub(crate) per_request_claims: bool,
    pub(crate) resumed: bool,
    pub(crate) token: ValidToken,
}

/// What an access token is bound to, the strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BindingClass {
    /// To the client's certificate, and each use to its TLS connection by a proof (TK-1).
    Session,
    /// To a key of the client's, and each use to one request by a proof (RFC 9449). Not to the connection.
    Dpop,
    /// To the client's certificate (RFC 8705).
    Certificate,
    /// To nothing: whoever holds it may use it (RFC 6750).
    Bearer,
}

impl Binding {
    /// What the token is bound to.
    #[must_use]
    pub fn class(&self) -> BindingClass {
        self.class
    }

    /// The connection that the request came over.
    #[must_use]
    pub fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// The certificate of the client, if it has shown one. With [`BindingClass::Bearer`] the token does not name it.
    #[must_use]
    pub fn thumbprint(&self) -> Option<Thumbprint> {
        self.thumbprint
    }

    /// The key that the token is bound to and that signed the proof, with [`BindingClass::Dpop`].
    #[must_use]
    pub fn dpop_key(&self) -> Option<JwkThumbprint> {
        self.dpop_key
    }

    /// Whether the proof was made for this one request: it had `jti`, `htm` and `htu` (PR-6), as every
    /// DPoP proof has.
    #[must_use]
    pub fn has_per_request_claims(&self) -> bool {
        self.per_request_claims
    }

    /// Whether the TLS session was resumed.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// The claims of the token.
    #[must_use]
    pub fn claims(&self) -> &Value {
        self.token.claims()
    }
}

impl BindingClass {
    /// A short name in snake case, for metric labels.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Dpop => "dpop",
            Self::Certificate => "certificate",
            Self::Bearer => "bearer",
        }
    }
}
