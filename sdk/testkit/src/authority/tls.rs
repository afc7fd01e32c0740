//! The client certificates that the mutual-TLS port accepts: those of the PKI, and self-signed ones
//! that clients have registered (RFC 8705 §2.2). Possession of the key is checked for both.

use std::sync::Arc;

use bowline_server::{ClientAuth, Identity, ServerTls};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::client::Registry;
use crate::pki::Pki;

/// For the port that asks for no client certificate.
pub(super) fn plain(pki: &Pki) -> ServerTls {
    configuration(pki, ClientAuth::None)
}

/// For the port that asks for one. It also accepts clients without, so that they get an error in
/// JSON.
pub(super) fn mutual(
    pki: &Pki,
    authorities: Arc<dyn ClientCertVerifier>,
    registry: Arc<Registry>,
) -> ServerTls {
    let verifier = AuthorityOrRegistered {
        authorities,
        registry,
    };
    configuration(pki, ClientAuth::Custom(Arc::new(verifier)))
}

/// Accepts the certificates of `pki`.
pub(super) fn authorities(pki: &Pki) -> Arc<dyn ClientCertVerifier> {
    WebPkiClientVerifier::builder_with_provider(
        pki.roots(),
        Arc::new(aws_lc_rs::default_provider()),
    )
    .allow_unauthenticated()
    .build()
    .expect("the CA is a valid trust anchor")
}

fn configuration(pki: &Pki, clients: ClientAuth) -> ServerTls {
    let leaf = pki.localhost();
    let identity = Identity::new(leaf.chain(), leaf.signing_key())
        .expect("the key was made for the certificate");
    ServerTls::builder(identity, clients)
        .build()
        .expect("a usable TLS configuration")
}

#[derive(Debug)]
struct AuthorityOrRegistered {
    authorities: Arc<dyn ClientCertVerifier>,
    registry: Arc<Registry>,
}

impl ClientCertVerifier for AuthorityOrRegistered {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// Empty: a hint would keep clients from presenting a self-signed certificate.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if self.registry.knows_certificate(leaf) {
            return Ok(ClientCertVerified::assertion());
        }
        self.authorities
            .verify_client_cert(leaf, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.supported_verify_schemes()
    }
}
