//! Public keys of the kinds that PR-2 allows, and how a private key is paired with one.

use std::sync::Arc;

use aws_lc_rs::signature::{self, ParsedPublicKey, VerificationAlgorithm};
use rustls::{SignatureAlgorithm, crypto::aws_lc_rs::sign::any_supported_type, sign::SigningKey};
use rustls_pki_types::{PrivateKeyDer, SubjectPublicKeyInfoDer};
use x509_parser::{
    oid_registry::{
        OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_PKCS1_RSAENCRYPTION,
        OID_SIG_ED25519,
    },
    prelude::FromDer,
    public_key::PublicKey as X509PublicKey,
    x509::SubjectPublicKeyInfo,
};

use crate::{
    algorithm::Algorithm,
    error::{KeyError, KeyErrorKind},
    sign::{SignError, Signer},
};

/// Signed to see whether a key fits a certificate. It is neither a JWS signing input nor anything
/// that TLS signs, so the signature is useless to an attacker.
const FIT_MESSAGE: &[u8] = b"bowline: does this key fit this certificate?";

/// The private key in `der`: P-256, P-384, Ed25519 or RSA.
pub(crate) fn read_private_key(der: &PrivateKeyDer<'_>) -> Result<Arc<dyn SigningKey>, KeyError> {
    any_supported_type(der)
        .map_err(|source| KeyError::with_source(KeyErrorKind::BadPrivateKey, source))
}

/// The public key of `key`, if it exposes one.
pub(crate) fn exposed_public_key(
    key: &dyn SigningKey,
) -> Result<SubjectPublicKeyInfoDer<'static>, KeyErrorKind> {
    let spki = key.public_key().ok_or(KeyErrorKind::NoPublicKey)?;
    Ok(spki.into_owned())
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
    pub(crate) fn from_spki(der: &[u8]) -> Result<Self, KeyErrorKind> {
        Self::parse(&parse_spki(der)?)
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

    /// The key, ready to verify `algorithm`; `None` if the algorithm does not fit the key
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

    /// Pairs this public key with its private key. `spki` is the DER that this key was read from.
    ///
    /// A private key that exposes the same DER fits. One that exposes nothing, or spells its public
    /// key differently (a compressed point, absent parameters), signs [`FIT_MESSAGE`] once, and the
    /// signature is verified.
    pub(crate) fn signer(&self, spki: &[u8], key: Arc<dyn SigningKey>) -> Result<Signer, KeyError> {
        let algorithm = self.algorithm();
        let is_exposed = key.public_key().is_some_and(|exposed| *exposed == *spki);
        let signer = Signer { key, algorithm };
        if is_exposed {
            return Ok(signer);
        }
        let signature = match signer.sign(FIT_MESSAGE) {
            Ok(signature) => signature,
            // An RSA key that cannot do PSS may well be the right key.
            Err(SignError::NoScheme)
                if algorithm == Algorithm::Ps256
                    && signer.key.algorithm() == SignatureAlgorithm::RSA =>
            {
                return Err(KeyErrorKind::UnsupportedKey.into());
            }
            Err(SignError::NoScheme) => return Err(KeyErrorKind::KeyMismatch.into()),
            Err(SignError::Malformed) => return Err(KeyErrorKind::Signing.into()),
            Err(SignError::Key(source)) => {
                return Err(KeyError::with_source(KeyErrorKind::Signing, source));
            }
        };
        self.verifying(algorithm)
            .and_then(|key| key.verify_sig(FIT_MESSAGE, &signature).ok())
            .ok_or(KeyErrorKind::KeyMismatch)?;
        Ok(signer)
    }
}

/// Reads a SubjectPublicKeyInfo with nothing after it.
pub(crate) fn parse_spki(der: &[u8]) -> Result<SubjectPublicKeyInfo<'_>, KeyErrorKind> {
    match SubjectPublicKeyInfo::from_der(der) {
        Ok(([], spki)) => Ok(spki),
        _ => Err(KeyErrorKind::BadPublicKey),
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
