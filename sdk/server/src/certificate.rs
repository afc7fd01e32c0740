//! The certificate that authenticated a client: parsed once per connection, never per request.

use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bowline_proof::{KeyError, ProofVerifier, Thumbprint};
use http::HeaderValue;
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::sync::watch;
use x509_parser::extensions::GeneralName;
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use crate::Clock;
use crate::owner::Owner;
use crate::tls::CurrentTls;

/// The certificate that authenticated the client in the handshake, verified by this server or, on a
/// request that a trusted proxy attests, by the proxy (GW-3).
pub struct ClientCertificate {
    der: CertificateDer<'static>,
    pub(crate) verifier: ProofVerifier,
    subject: String,
    /// Written as `subject` is.
    issuer: Arc<str>,
    spiffe_id: Option<String>,
    owner: Owner,
    /// See [`not_after`](Self::not_after).
    valid_until: AtomicU64,
    /// See [`client_cert`](Self::client_cert).
    client_cert: OnceLock<HeaderValue>,
    trust: Option<Trust>,
}

/// How this end came to trust a client's certificate, so that it can ask again (RS-1).
struct Trust {
    tls: Arc<CurrentTls>,
    /// How often the roots had been replaced before they verified this certificate.
    replacements: AtomicU64,
    /// Changes when the roots are replaced: from before they verified this certificate.
    replaced: watch::Receiver<()>,
    intermediates: Vec<CertificateDer<'static>>,
    clock: Clock,
}

impl ClientCertificate {
    pub(crate) fn new(der: CertificateDer<'static>) -> Result<Self, KeyError> {
        let verifier = ProofVerifier::new(&der)?;
        let (subject, issuer, spiffe_id) = match X509Certificate::from_der(&der) {
            Ok((_, parsed)) => (
                distinguished_name(parsed.subject()),
                distinguished_name(parsed.issuer()),
                spiffe_id(&parsed),
            ),
            // `ProofVerifier` has parsed it, so this does not happen. Without names no rule that
            // names them matches.
            Err(_) => Default::default(),
        };
        let issuer = issuer.into();
        let owner = Owner::of_certificate(
            spiffe_id.as_deref(),
            &subject,
            &issuer,
            verifier.thumbprint(),
        );
        let valid_until = AtomicU64::new(verifier.not_after().as_secs());
        Ok(Self {
            der,
            verifier,
            subject,
            issuer,
            spiffe_id,
            owner,
            valid_until,
            client_cert: OnceLock::new(),
            trust: None,
        })
    }

    /// A certificate that was accepted in a handshake, with these intermediates, by a configuration
    /// after this number of replacements.
    pub(crate) fn verified(
        chain: &[CertificateDer<'_>],
        tls: Arc<CurrentTls>,
        replacements: u64,
        clock: &Clock,
    ) -> Option<Result<Self, KeyError>> {
        let (leaf, intermediates) = chain.split_first()?;
        let mut certificate = match Self::new(leaf.clone().into_owned()) {
            Ok(certificate) => certificate,
            Err(error) => return Some(Err(error)),
        };
        // The earliest end in the chain counts. One that has passed already belongs to none that
        // was accepted: clients send superfluous intermediates, such as expired cross-certificates.
        let now = clock.now().as_secs();
        let ends = intermediates.iter().filter_map(|der| {
            let (_, parsed) = X509Certificate::from_der(der).ok()?;
            u64::try_from(parsed.validity().not_after.timestamp()).ok()
        });
        if let Some(earliest) = ends.filter(|end| *end >= now).min() {
            certificate
                .valid_until
                .fetch_min(earliest, Ordering::Relaxed);
        }
        certificate.trust = Some(Trust {
            replacements: AtomicU64::new(replacements),
            replaced: tls.subscribe(),
            tls,
            intermediates: intermediates
                .iter()
                .map(|one| one.clone().into_owned())
                .collect(),
            clock: clock.clone(),
        });
        Some(Ok(certificate))
    }

    /// RS-1: verifies it again. If that fails, it is no longer valid from now on.
    pub(crate) fn verify_again(&self) -> Result<(), rustls::Error> {
        let Some(trust) = &self.trust else {
            return Ok(());
        };
        let replacements = trust.tls.replacements();
        let now = trust.clock.now();
        let verified = match &trust.tls.load().client_verifier {
            Some(verifier) => verifier.verify_client_cert(&self.der, &trust.intermediates, now),
            None => Err(rustls::Error::General(
                "client certificates are no longer asked for".to_owned(),
            )),
        };
        match verified {
            Ok(_) => {
                trust
                    .replacements
                    .fetch_max(replacements, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => {
                let past = now.as_secs().saturating_sub(1);
                self.valid_until.fetch_min(past, Ordering::Relaxed);
                Err(error)
            }
        }
    }

    /// RS-1: verifies it again, if the roots were replaced since. It is asked for every request.
    pub(crate) fn verify_if_replaced(&self) -> Result<(), rustls::Error> {
        let is_current = self.trust.as_ref().is_none_or(|trust| {
            trust.replacements.load(Ordering::Relaxed) == trust.tls.replacements()
        });
        if is_current {
            return Ok(());
        }
        self.verify_again()
    }

    /// Changes when it should be verified again, because the roots were replaced.
    pub(crate) fn replacements(&self) -> Option<watch::Receiver<()>> {
        self.trust.as_ref().map(|trust| trust.replaced.clone())
    }

    /// The time of day by which it is valid.
    pub(crate) fn now(&self) -> UnixTime {
        match &self.trust {
            Some(trust) => trust.clock.now(),
            None => UnixTime::now(),
        }
    }

    /// The authority that issued it, as RFC 4514 writes its name.
    pub(crate) fn issuer(&self) -> &Arc<str> {
        &self.issuer
    }

    /// Its owner: read it with [`Owner::of`].
    pub(crate) fn owner(&self) -> &Owner {
        &self.owner
    }

    /// The certificate itself.
    #[must_use]
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// The value of a `Client-Cert` field that tells a service behind about it (RFC 9440 section 2.2),
    /// which trusts this field only where nobody else can set it (GW-2). It is encoded once.
    #[must_use]
    pub fn client_cert(&self) -> &HeaderValue {
        self.client_cert.get_or_init(|| {
            let text = format!(":{}:", STANDARD.encode(&self.der));
            HeaderValue::try_from(text).expect("base64 is ASCII")
        })
    }

    /// Its SHA-256 thumbprint (PR-3).
    #[must_use]
    pub fn thumbprint(&self) -> Thumbprint {
        self.verifier.thumbprint()
    }

    /// Its subject, as RFC 4514 writes it: the most specific part first, `CN=agent,O=Example`.
    /// Empty if it has none.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The SPIFFE ID, such as `spiffe://example.org/agent`: the only URI among the alternative
    /// names, as the X.509-SVID specification demands (section 2), if it is a well-formed one.
    #[must_use]
    pub fn spiffe_id(&self) -> Option<&str> {
        self.spiffe_id.as_deref()
    }

    /// The last second in which it is valid (RS-1): its `notAfter`, or the earliest one of the
    /// intermediates that it came with; earlier, once it did not pass when this end verified it
    /// again.
    #[must_use]
    pub fn not_after(&self) -> UnixTime {
        let seconds = self.valid_until.load(Ordering::Relaxed);
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    pub(crate) fn not_before(&self) -> UnixTime {
        self.verifier.not_before()
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate")
            .field("thumbprint", &self.thumbprint())
            .field("not_after", &self.not_after().as_secs())
            .finish_non_exhaustive()
    }
}

fn distinguished_name(name: &X509Name<'_>) -> String {
    let mut text = String::new();
    let parts: Vec<_> = name.iter_rdn().collect();
    for (index, part) in parts.iter().rev().enumerate() {
        for (nested, attribute) in part.iter().enumerate() {
            text.push_str(match (index, nested) {
                (0, 0) => "",
                (_, 0) => ",",
                _ => "+",
            });
            push_attribute(&mut text, attribute);
        }
    }
    text
}

fn push_attribute(text: &mut String, attribute: &AttributeTypeAndValue<'_>) {
    match oid2abbrev(attribute.attr_type(), oid_registry()) {
        Ok(name) => text.push_str(name),
        Err(_) => text.push_str(&attribute.attr_type().to_id_string()),
    }
    text.push('=');
    match attribute.as_str() {
        Ok(value) => push_escaped(text, value),
        Err(_) => {
            text.push('#');
            for byte in attribute.as_slice() {
                // Writing to a string cannot fail.
                let _ = write!(text, "{byte:02x}");
            }
        }
    }
}

/// Escapes by RFC 4514 section 2.4, so that one value cannot look like two attributes. Control
/// characters are escaped as well.
fn push_escaped(text: &mut String, value: &str) {
    let last = value.chars().count().saturating_sub(1);
    for (index, character) in value.chars().enumerate() {
        match character {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => text.extend(['\\', character]),
            '#' if index == 0 => text.push_str("\\#"),
            ' ' if index == 0 || index == last => text.push_str("\\ "),
            control if control.is_control() => {
                for byte in control.encode_utf8(&mut [0; 4]).bytes() {
                    let _ = write!(text, "\\{byte:02x}");
                }
            }
            other => text.push(other),
        }
    }
}

fn spiffe_id(certificate: &X509Certificate<'_>) -> Option<String> {
    let names = certificate.subject_alternative_name().ok()??;
    let mut uris = names
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
    match (uris.next(), uris.next()) {
        (Some(uri), None) if is_spiffe_id(uri) => Some(uri.to_owned()),
        _ => None,
    }
}

/// The form of the SPIFFE-ID specification, section 2: a trust domain and a path of plain segments.
pub(crate) fn is_spiffe_id(uri: &str) -> bool {
    const MAX_BYTES: usize = 2048;
    let Some(rest) = uri
        .strip_prefix("spiffe://")
        .filter(|_| uri.len() <= MAX_BYTES)
    else {
        return false;
    };
    let mut parts = rest.split('/');
    let trust_domain = parts.next().unwrap_or_default();
    let in_domain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b);
    let in_path = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    (1..=255).contains(&trust_domain.len())
        && trust_domain.bytes().all(in_domain)
        && parts.all(|part| !matches!(part, "" | "." | "..") && part.bytes().all(in_path))
}

#[cfg(test)]
mod tests;
