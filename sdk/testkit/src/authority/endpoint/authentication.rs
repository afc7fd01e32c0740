//! Client authentication: mutual TLS (RFC 8705 §2) or an assertion (RFC 7523), as the client has
//! registered.

use bowline_proof::Thumbprint;
use bowline_server::{ClientCertificate, ConnectionFacts};
use rustls_pki_types::UnixTime;
use serde_json::Value;

use super::Port;
use super::assertion;
use super::dpop::DpopProof;
use super::form::Form;
use super::rejection::Rejection;
use crate::authority::{Client, ClientAuthentication, TokenBinding, token};

/// The client that sent the request.
pub(super) struct AuthenticatedClient {
    pub(super) client: Client,
    /// Of the certificate that authenticated the connection; the client itself may have
    /// authenticated by another method (AS-1).
    pub(super) certificate: Option<Thumbprint>,
}

impl AuthenticatedClient {
    /// Identifies and authenticates the client.
    ///
    /// # Errors
    /// `invalid_client`, or `invalid_request` if the request does not identify a client.
    pub(super) fn authenticate(
        port: &Port,
        facts: &ConnectionFacts,
        form: &Form,
    ) -> Result<Self, Rejection> {
        let certificate = facts.certificate();
        let client = port.state.client(&client_id(form, certificate)?);
        match &client.authentication {
            ClientAuthentication::Tls { subject } => {
                check_subject(port, form, certificate, subject)?
            }
            ClientAuthentication::SelfSignedTls { certificates } => {
                let certificate = handshake_certificate(form, certificate)?;
                if !certificates.contains(certificate.der()) {
                    return Err(Rejection::invalid_client(
                        "the certificate is none of those that the client has registered \
                         (RFC 8705 section 2.2)",
                    ));
                }
            }
            ClientAuthentication::PrivateKeyJwt { keys } => {
                assertion::check(port, form, &client.id, keys)?
            }
        }
        Ok(Self {
            client,
            certificate: certificate.map(ClientCertificate::thumbprint),
        })
    }

    /// The `cnf` claim of a token that this request gets.
    pub(super) fn confirmation(
        &self,
        proof: Option<&DpopProof>,
        binding: TokenBinding,
    ) -> Option<Value> {
        token::confirmation(proof.map(|proof| &proof.key), self.certificate, binding)
    }
}

/// The parameter `client_id`, or the subject of the assertion (RFC 7521 §4.2), which is verified
/// afterwards.
fn client_id(form: &Form, certificate: Option<&ClientCertificate>) -> Result<String, Rejection> {
    if let Some(id) = form.value("client_id") {
        return Ok(id.to_owned());
    }
    if let Some(assertion) = form.value("client_assertion") {
        return assertion::subject(assertion);
    }
    // Both are missing: name the one that helps more.
    Err(match certificate {
        Some(_) => {
            Rejection::invalid_request("the parameter client_id is missing (RFC 8705 section 2)")
        }
        None => no_certificate(),
    })
}

/// RFC 8705 §2.1: a certificate of the PKI with the registered subject.
fn check_subject(
    port: &Port,
    form: &Form,
    certificate: Option<&ClientCertificate>,
    subject: &str,
) -> Result<(), Rejection> {
    let certificate = handshake_certificate(form, certificate)?;
    check_pki(port, certificate)?;
    if common_name(certificate.der()).as_deref() != Some(subject) {
        return Err(Rejection::invalid_client(
            "the certificate's subject common name is not that of the client",
        ));
    }
    Ok(())
}

/// Accepts any client with a certificate of the PKI.
pub(super) fn any_client_of_pki(port: &Port, facts: &ConnectionFacts) -> Result<(), Rejection> {
    check_pki(port, facts.certificate().ok_or_else(no_certificate)?)
}

/// The handshake also accepts self-signed certificates that clients have registered (RFC 8705
/// §2.2). The subject of such a certificate is not verified.
fn check_pki(port: &Port, certificate: &ClientCertificate) -> Result<(), Rejection> {
    // Chains here have no intermediates.
    let verdict =
        port.state
            .authorities
            .verify_client_cert(certificate.der(), &[], UnixTime::now());
    verdict.map(drop).map_err(|_| {
        Rejection::invalid_client(
            "the certificate is not one of this authority's PKI (RFC 8705 section 2.1)",
        )
    })
}

/// RFC 6749 §2.3: one method per request.
fn handshake_certificate<'a>(
    form: &Form,
    certificate: Option<&'a ClientCertificate>,
) -> Result<&'a ClientCertificate, Rejection> {
    if form.value("client_assertion").is_some() {
        return Err(Rejection::invalid_client(
            "the client has registered authentication by mutual TLS, and sends a client_assertion",
        ));
    }
    certificate.ok_or_else(no_certificate)
}

fn no_certificate() -> Rejection {
    Rejection::invalid_client(
        "the client must authenticate with a certificate in the TLS handshake, \
         at an mtls_endpoint_aliases endpoint (RFC 8705), or with a client_assertion (RFC 7523)",
    )
}

fn common_name(certificate: &[u8]) -> Option<String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let name = certificate.subject().iter_common_name().next()?;
    name.as_str().ok().map(str::to_owned)
}
