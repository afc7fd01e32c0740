//! The client certificate of a connection, parsed once: its name, its validity, its public key.
//!
//! It is not checked against any trust anchor here; TLS did that in the handshake (RS-1).

use std::time::Duration;

use aws_lc_rs::signature::{self, ParsedPublicKey, VerificationAlgorithm};
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::{
    oid_registry::{
        OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_PKCS1_RSAENCRYPTION,
        OID_SIG_ED25519,
    },
    prelude::{FromDer, X509Certificate},
    public_key::PublicKey as X509PublicKey,
    time::ASN1Time,
    x509::SubjectPublicKeyInfo,
};

use crate::{Algorithm, KeyErrorKind, Thumbprint};

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
            thumbprint: Thumbprint::of(der),
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

/// A public key of a kind that PR-2 allows.
pub(crate) enum PublicKey {
    P256(ParsedPublicKey),
    P384(ParsedPublicKey),
    Ed25519(ParsedPublicKey),
    Rsa {
        pss: ParsedPublicKey,
        pkcs1: ParsedPublicKey,
    },
}

impl PublicKey {
    /// From the DER of a SubjectPublicKeyInfo (RFC 5280 §4.1.2.7).
    pub(crate) fn of_spki(der: &[u8]) -> Result<Self, KeyErrorKind> {
        match SubjectPublicKeyInfo::from_der(der) {
            Ok(([], spki)) => Self::parse(&spki),
            _ => Err(KeyErrorKind::BadPublicKey),
        }
    }

    pub(crate) fn parse(spki: &SubjectPublicKeyInfo<'_>) -> Result<Self, KeyErrorKind> {
        let bytes = &spki.subject_public_key.data;
        let parsed = |algorithm: &'static dyn VerificationAlgorithm| {
            ParsedPublicKey::new(algorithm, bytes).map_err(|_| KeyErrorKind::BadCertificate)
        };
        let kind = &spki.algorithm.algorithm;
        if *kind == OID_SIG_ED25519 {
            return parsed(&signature::ED25519).map(Self::Ed25519);
        }
        if *kind == OID_KEY_TYPE_EC_PUBLIC_KEY {
            let parameters = spki.algorithm.parameters.as_ref();
            return match parameters.and_then(|curve| curve.as_oid().ok()) {
                Some(curve) if curve == OID_EC_P256 => {
                    parsed(&signature::ECDSA_P256_SHA256_FIXED).map(Self::P256)
                }
                Some(curve) if curve == OID_NIST_EC_P384 => {
                    parsed(&signature::ECDSA_P384_SHA384_FIXED).map(Self::P384)
                }
                _ => Err(KeyErrorKind::UnsupportedKey),
            };
        }
        if *kind == OID_PKCS1_RSAENCRYPTION {
            let Ok(X509PublicKey::RSA(key)) = spki.parsed() else {
                return Err(KeyErrorKind::BadCertificate);
            };
            check_rsa_size(key.modulus)?;
            return Ok(Self::Rsa {
                pss: parsed(&signature::RSA_PSS_2048_8192_SHA256)?,
                pkcs1: parsed(&signature::RSA_PKCS1_2048_8192_SHA256)?,
            });
        }
        Err(KeyErrorKind::UnsupportedKey)
    }

    /// The algorithm that a proof by this key is minted with (PR-2).
    pub(crate) fn algorithm(&self) -> Algorithm {
        match self {
            Self::P256(_) => Algorithm::Es256,
            Self::P384(_) => Algorithm::Es384,
            Self::Ed25519(_) => Algorithm::EdDsa,
            Self::Rsa { .. } => Algorithm::Ps256,
        }
    }

    /// The key, ready to verify `algorithm`; `None` where the algorithm does not fit the key
    /// (PR-2).
    pub(crate) fn verifying(&self, algorithm: Algorithm) -> Option<&ParsedPublicKey> {
        match (self, algorithm) {
            (Self::P256(key), Algorithm::Es256)
            | (Self::P384(key), Algorithm::Es384)
            | (Self::Ed25519(key), Algorithm::EdDsa)
            | (Self::Rsa { pss: key, .. }, Algorithm::Ps256)
            | (Self::Rsa { pkcs1: key, .. }, Algorithm::Rs256) => Some(key),
            _ => None,
        }
    }
}

/// 2048 bits at least (PR-2); 8192 at most, which is what aws-lc verifies.
pub(crate) fn check_rsa_size(modulus: &[u8]) -> Result<(), KeyErrorKind> {
    let leading_zeros = modulus.iter().take_while(|&&byte| byte == 0).count();
    let modulus = &modulus[leading_zeros..];
    let bits = modulus.len() * 8
        - modulus
            .first()
            .map_or(0, |top| top.leading_zeros() as usize);
    match bits {
        ..2048 => Err(KeyErrorKind::WeakRsa),
        2048..=8192 => Ok(()),
        _ => Err(KeyErrorKind::UnsupportedKey),
    }
}
