//! What a verified request was bound to, and who sent it.

use std::sync::Arc;

use bowline_proof::Thumbprint;
use bowline_proof::dpop::JwkThumbprint;
use serde_json::Value;

use crate::{ClientCertificate, ConnectionId, ValidToken};

/// Found among the extensions of every request that [`BindingLayer`](crate::BindingLayer) let
/// through with a token.
#[derive(Clone, Debug)]
pub struct VerifiedBinding {
    pub(crate) class: BindingClass,
    pub(crate) connection: ConnectionId,
    pub(crate) certificate: Option<Arc<ClientCertificate>>,
    pub(crate) attested_by: Option<Thumbprint>,
    pub(crate) dpop_key: Option<JwkThumbprint>,
    pub(crate) request_bound: bool,
    pub(crate) resumed: bool,
    pub(crate) token: ValidToken,
}

/// What an access token is bound to, the strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BindingClass {
    /// To the client's certificate, and each use to its TLS connection by a proof (TK-1).
    Session,
    /// To a key of the client, and each use to one request by a proof (RFC 9449). Not to the
    /// connection.
    Dpop,
    /// To the client's certificate, and perhaps to its TLS connection, as a trusted proxy attests
    /// (GW-3).
    ProxyAttested,
    /// To the client's certificate (RFC 8705).
    Certificate,
    /// To nothing: any holder may use it (RFC 6750).
    Bearer,
}

impl VerifiedBinding {
    /// What the token is bound to.
    #[must_use]
    pub fn class(&self) -> BindingClass {
        self.class
    }

    /// The connection that the request came over, to this server.
    #[must_use]
    pub fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// The certificate of the client, if it presented one. With [`BindingClass::Bearer`] the token
    /// does not name it.
    #[must_use]
    pub fn certificate(&self) -> Option<&ClientCertificate> {
        self.certificate.as_deref()
    }

    /// The thumbprint of that certificate.
    #[must_use]
    pub fn thumbprint(&self) -> Option<Thumbprint> {
        self.certificate().map(ClientCertificate::thumbprint)
    }

    /// The subject of that certificate: see [`ClientCertificate::subject`].
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.certificate().map(ClientCertificate::subject)
    }

    /// The SPIFFE ID in that certificate: see [`ClientCertificate::spiffe_id`].
    #[must_use]
    pub fn spiffe_id(&self) -> Option<&str> {
        self.certificate()?.spiffe_id()
    }

    /// The certificate of the trusted proxy that attests the client's connection and certificate
    /// (GW-3). `None` if this server terminated that connection itself.
    #[must_use]
    pub fn attested_by(&self) -> Option<Thumbprint> {
        self.attested_by
    }

    /// The key that the token is bound to and that signed the proof, with [`BindingClass::Dpop`].
    #[must_use]
    pub fn dpop_key(&self) -> Option<JwkThumbprint> {
        self.dpop_key
    }

    /// Whether the proof was made for this one request: it had `jti`, `htm` and `htu` (PR-6), as
    /// every DPoP proof has.
    #[must_use]
    pub fn is_request_bound(&self) -> bool {
        self.request_bound
    }

    /// Whether the TLS session was resumed. For a request that a proxy attests, this is the session
    /// between the proxy and this server.
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
            Self::ProxyAttested => "proxy_attested",
            Self::Certificate => "certificate",
            Self::Bearer => "bearer",
        }
    }
}
