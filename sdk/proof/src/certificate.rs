//! The client certificate of a connection, parsed once: its name, its validity, its public key.
//!
//! It is not checked against any trust anchor here; TLS did that in the handshake (RS-1).

use std::time::Duration;

use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::{
    prelude::{FromDer, X509Certificate},
    time::ASN1Time,
};

use crate::{error::KeyErrorKind, public_key::PublicKey, thumbprint::Thumbprint};

/// What proofs need to know of a certificate.
pub(crate) struct Certificate {
    pub(crate) thumbprint: Thumbprint,
    pub(crate) public_key: PublicKey,
    /// The DER of the SubjectPublicKeyInfo.
    pub(crate) spki: Vec<u8>,
    pub(crate) not_before: UnixTime,
    pub(crate) not_after: UnixTime,
}

impl Certificate {
    pub(crate) fn parse(der: &CertificateDer<'_>) -> Result<Self, KeyErrorKind> {
        let (rest, certificate) =
            X509Certificate::from_der(der).map_err(|_| KeyErrorKind::BadCertificate)?;
        if !rest.is_empty() {
            return Err(KeyErrorKind::BadCertificate);
        }
        let validity = certificate.validity();
        Ok(Self {
            thumbprint: Thumbprint::from_certificate(der),
            public_key: PublicKey::parse(certificate.public_key())?,
            spki: certificate.public_key().raw.to_vec(),
            not_before: unix_time(validity.not_before),
            not_after: unix_time(validity.not_after),
        })
    }
}

fn unix_time(time: ASN1Time) -> UnixTime {
    let seconds = u64::try_from(time.timestamp()).unwrap_or(0);
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}
