//! rustls configurations for tests that speak raw TLS: an explicit aws-lc-rs provider, extended
//! master secret required on both ends (EX-2), no early data (EX-3).

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, ServerConfig, SupportedProtocolVersion};

use crate::pki::{Leaf, Pki};

/// What a raw TLS endpoint offers. The default is h2 and http/1.1, TLS 1.2 and 1.3, resumption on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsOptions {
    /// The protocols offered by ALPN.
    pub alpn: Alpn,
    /// The TLS versions offered.
    pub versions: Versions,
    /// Whether sessions may be resumed.
    pub resumption: bool,
}

impl Default for TlsOptions {
    fn default() -> Self {
        Self {
            alpn: Alpn::Both,
            versions: Versions::Both,
            resumption: true,
        }
    }
}

impl TlsOptions {
    /// The default, with another ALPN offer.
    #[must_use]
    pub fn alpn(alpn: Alpn) -> Self {
        Self {
            alpn,
            ..Self::default()
        }
    }

    /// Configures a client that trusts `pki` and authenticates as `identity`, if given (it may be
    /// of another authority).
    ///
    /// # Panics
    /// If rustls refuses the identity.
    #[must_use]
    pub fn client(&self, pki: &Pki, identity: Option<&Leaf>) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&self.versions.as_rustls())
            .expect("aws-lc-rs supports TLS 1.2 and 1.3")
            .with_root_certificates(pki.roots());
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(leaf) => builder
                .with_client_auth_cert(leaf.chain(), leaf.key())
                .unwrap_or_else(|e| panic!("rustls refuses the client identity {leaf:?}: {e}")),
        };
        config.alpn_protocols = self.alpn.protocols();
        config.require_ems = true; // EX-2
        if !self.resumption {
            config.resumption = Resumption::disabled();
        }
        Arc::new(config)
    }

    /// Configures a server that presents `leaf` and treats client certificates as `client_auth`
    /// says; those presented must come from `pki`.
    ///
    /// # Panics
    /// If rustls refuses the certificate.
    #[must_use]
    pub fn server(&self, pki: &Pki, leaf: &Leaf, client_auth: ClientAuth) -> Arc<ServerConfig> {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&self.versions.as_rustls())
            .expect("aws-lc-rs supports TLS 1.2 and 1.3");
        let verifier = WebPkiClientVerifier::builder_with_provider(pki.roots(), provider());
        let verifier = match client_auth {
            ClientAuth::None => Ok(WebPkiClientVerifier::no_client_auth()),
            ClientAuth::Optional => verifier.allow_unauthenticated().build(),
            ClientAuth::Required => verifier.build(),
        };
        let mut config = builder
            .with_client_cert_verifier(verifier.expect("the CA is a valid trust anchor"))
            .with_single_cert(leaf.chain(), leaf.key())
            .unwrap_or_else(|e| panic!("rustls refuses the server certificate {leaf:?}: {e}"));
        config.alpn_protocols = self.alpn.protocols();
        config.require_ems = true; // EX-2
        if !self.resumption {
            config.session_storage = Arc::new(NoServerSessionStorage {});
        }
        Arc::new(config)
    }
}

/// The protocols offered by ALPN (RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alpn {
    /// No ALPN extension.
    None,
    /// `http/1.1` only.
    Http1,
    /// `h2` only.
    Http2,
    /// `h2`, then `http/1.1`.
    Both,
}

impl Alpn {
    pub(crate) fn protocols(self) -> Vec<Vec<u8>> {
        match self {
            Self::None => vec![],
            Self::Http1 => vec![b"http/1.1".to_vec()],
            Self::Http2 => vec![b"h2".to_vec()],
            Self::Both => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        }
    }
}

/// The TLS versions offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versions {
    /// TLS 1.2 only.
    Tls12,
    /// TLS 1.3 only.
    Tls13,
    /// Both.
    Both,
}

impl Versions {
    pub(crate) fn as_rustls(self) -> Vec<&'static SupportedProtocolVersion> {
        match self {
            Self::Tls12 => vec![&rustls::version::TLS12],
            Self::Tls13 => vec![&rustls::version::TLS13],
            Self::Both => rustls::ALL_VERSIONS.to_vec(),
        }
    }
}

/// Whether a server asks for client certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// It does not ask for one (CL-9).
    None,
    /// It asks, and accepts clients without one.
    Optional,
    /// It asks, and fails the handshake without.
    Required,
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
