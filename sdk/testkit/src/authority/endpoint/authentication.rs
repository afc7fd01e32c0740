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

/// Who asks.
pub(super) struct AuthenticatedClient {
    pub(super) client: Client,
    /// Of the certificate that authenticated the connection, whatever authenticated the client
    /// (AS-1).
    pub(super) certificate: Option<Thumbprint>,
}

impl AuthenticatedClient {
    /// # Errors
    /// `invalid_client`, or `invalid_request` if nothing says which client it is.
    pub(super) fn authenticate(
        port: &Port,
        facts: &ConnectionFacts,
        form: &Form,
    ) -> Result<Self, Rejection> {
        let certificate = facts.certificate();
        let client = port.state.client(&client_id(form, certificate)?);
        match &client.authentication {
            ClientAuthentication::Tls { subject } => {
                of_authority(port, form, certificate, subject)?
            }
            ClientAuthentication::SelfSignedTls { certificates } => {
                let certificate = of_handshake(form, certificate)?;
                if !certificates.contains(certificate.der()) {
                    return Err(Rejection::invalid_client(
                        "the certificate is none of those that the client has registered (RFC 8705 section 2.2)",
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

/// The parameter, or what an assertion says of itself (RFC 7521 §4.2); it is checked afterwards.
fn client_id(form: &Form, certificate: Option<&ClientCertificate>) -> Result<String, Rejection> {
    if let Some(id) = form.value("client_id") {
        return Ok(id.to_owned());
    }
    if let Some(assertion) = form.value("client_assertion") {
        return assertion::subject(assertion);
    }
    // The more helpful of the two things that are missing.
    Err(match certificate {
        Some(_) => {
            Rejection::invalid_request("the parameter client_id is missing (RFC 8705 section 2)")
        }
        None => no_certificate(),
    })
}

/// RFC 8705 §2.1: a certificate of the PKI with the registered subject.
fn of_authority(
    port: &Port,
    form: &Form,
    certificate: Option<&ClientCertificate>,
    subject: &str,
) -> Result<(), Rejection> {
    let certificate = of_handshake(form, certificate)?;
    check_authority(port, certificate)?;
    if common_name(certificate.der()).as_deref() != Some(subject) {
        return Err(Rejection::invalid_client(
            "the certificate's subject common name is not that of the client",
        ));
    }
    Ok(())
}

/// Whoever it is, its certificate is one of the PKI.
pub(super) fn any_of_authority(port: &Port, facts: &ConnectionFacts) -> Result<(), Rejection> {
    check_authority(port, facts.certificate().ok_or_else(no_certificate)?)
}

/// The handshake also takes certificates that clients have registered as their own (RFC 8705 §2.2).
/// What such a one says of its subject nobody has checked.
fn check_authority(port: &Port, certificate: &ClientCertificate) -> Result<(), Rejection> {
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
fn of_handshake<'a>(
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
        "the client must authenticate with a certificate in the TLS handshake, at an mtls_endpoint_aliases endpoint \
         (RFC 8705), or with a client_assertion (RFC 7523)",
    )
}

fn common_name(certificate: &[u8]) -> Option<String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let name = certificate.subject().iter_common_name().next()?;
    name.as_str().ok().map(str::to_owned)
}
