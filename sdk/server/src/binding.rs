//! What a verified request was bound to, and who sent it.

use std::sync::Arc;

use bowline_proof::Thumbprint;
use bowline_proof::dpop::JwkThumbprint;
use serde_json::Value;

use crate::{ClientCertificate, ConnectionId, Observed, ValidToken};

/// Found among the extensions of every request that [`BindingLayer`](crate::BindingLayer) let
/// through with a token.
#[derive(Clone, Debug)]
pub struct VerifiedBinding {
    pub(crate) class: BindingClass,
    pub(crate) marked: bool,
    pub(crate) connection: ConnectionId,
    /// The one that the client presented, whatever the class.
    pub(crate) certificate: Option<Arc<ClientCertificate>>,
    pub(crate) attested_by: Option<Thumbprint>,
    pub(crate) dpop_key: Option<JwkThumbprint>,
    pub(crate) request_bound: bool,
    pub(crate) resumed: bool,
    pub(crate) token: ValidToken,
    pub(crate) observed: Option<Observed>,
}

/// What was verified of a request, the strongest first: not what its token asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BindingClass {
    /// The token is bound to the client's certificate, which authenticated this connection (RS-3),
    /// and a proof binds this use of it to this connection (RS-5..RS-9). See
    /// [`VerifiedBinding::is_marked`].
    Session,
    /// The token is bound to a key of the client, and its proof holds (RFC 9449); the client's
    /// certificate too, if the token names one (RS-3). It is not bound to the connection.
    Dpop,
    /// The same as `Session`, but the certificate and the connection are those that a trusted proxy
    /// attests (GW-3), and perhaps there was no proof: see
    /// `accept_certificates_without_proof` of [`TrustedProxies`](crate::TrustedProxies).
    ProxyAttested,
    /// The token is bound to the client's certificate (RFC 8705, RS-3), and came without a proof.
    Certificate,
    /// The token is bound to nothing: any holder may use it (RFC 6750). A proof that came with it
    /// says nothing, because anybody can make one for a stolen token.
    Bearer,
    /// Nothing but the token: the policy would refuse the request and is only
    /// [observed](crate::BindingLayer::observe).
    None,
}

impl VerifiedBinding {
    /// What was verified.
    #[must_use]
    pub fn class(&self) -> BindingClass {
        self.class
    }

    /// Whether the token has `tls_exp`, so that the authorization server itself marked it as
    /// session-bound (TK-1), with [`BindingClass::Session`] and [`BindingClass::ProxyAttested`].
    /// Without, the proof was sent because the policy demands it, or by the client's own choice.
    #[must_use]
    pub fn is_marked(&self) -> bool {
        self.marked
    }

    /// What the policy would have said, if it is only [observed](crate::BindingLayer::observe).
    #[must_use]
    pub fn observed(&self) -> Option<Observed> {
        self.observed
    }

    /// The connection that the request came over, to this server.
    #[must_use]
    pub fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// The certificate of the client, if it presented one. With [`BindingClass::Bearer`] the token
    /// does not name it. `None` with [`BindingClass::None`]: see
    /// [`presented_certificate`](Self::presented_certificate).
    #[must_use]
    pub fn certificate(&self) -> Option<&ClientCertificate> {
        match self.class {
            BindingClass::None => None,
            _ => self.certificate.as_deref(),
        }
    }

    /// The certificate that the client presented, whatever the token says: with
    /// [`BindingClass::None`] it may belong to another client than the token.
    #[must_use]
    pub fn presented_certificate(&self) -> Option<&ClientCertificate> {
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
            Self::None => "none",
        }
    }
}
