//! The private key of a DPoP client, ready to sign proofs.

use std::{fmt, sync::Arc};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use rustls::{crypto::aws_lc_rs::sign::any_supported_type, sign::SigningKey};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer,
};

use super::{Claims, JwkThumbprint, PROOF_TYPE, Proof, jwk::Jwk};
use crate::{
    Algorithm, KeyError, KeyErrorKind, MintError,
    certificate::Certificate,
    encoding::base64url,
    key::{check_fit, sign},
};

/// The key that a client's tokens are bound to (RFC 9449 §4.2, §6).
///
/// Any [`SigningKey`] will do, so the key may live in a file, an HSM or another process. Clones are
/// cheap and share the key. `Debug` shows the algorithm and the thumbprint.
#[derive(Clone)]
pub struct DpopKey(Arc<Inner>);

struct Inner {
    signing_key: Arc<dyn SigningKey>,
    algorithm: Algorithm,
    thumbprint: JwkThumbprint,
    jwk: String,
    /// The JWS protected header, encoded: the same for every proof of this key.
    protected: String,
}

impl DpopKey {
    /// A new P-256 key (`ES256`), which lives in this process and ends with it: tokens bound to it
    /// are of no use after.
    ///
    /// # Errors
    /// [`KeyErrorKind::Signing`]: the system gives no random bytes.
    pub fn generate() -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)
            .map_err(|_| KeyErrorKind::Signing)?;
        let document = pair.to_pkcs8v1().map_err(|_| KeyErrorKind::Signing)?;
        Self::from_pkcs8(&PrivatePkcs8KeyDer::from(document.as_ref()))
    }

    /// A key in PKCS#8 DER: P-256, P-384, Ed25519 or RSA.
    ///
    /// # Errors
    /// [`KeyErrorKind::BadPrivateKey`], and as [`new`](Self::new).
    pub fn from_pkcs8(der: &PrivatePkcs8KeyDer<'_>) -> Result<Self, KeyError> {
        let der = PrivateKeyDer::Pkcs8(der.clone_key());
        let key = any_supported_type(&der)
            .map_err(|source| KeyError::because(KeyErrorKind::BadPrivateKey, source))?;
        Self::new(key)
    }

    /// A key that tells its public half ([`SigningKey::public_key`]), as those of rustls do.
    ///
    /// # Errors
    /// [`KeyErrorKind`] says what is wrong; [`NoPublicKey`](KeyErrorKind::NoPublicKey) is no fault
    /// of the key.
    pub fn new(key: Arc<dyn SigningKey>) -> Result<Self, KeyError> {
        let spki = key
            .public_key()
            .ok_or(KeyErrorKind::NoPublicKey)?
            .into_owned();
        Self::with_public_key(&spki, key)
    }

    /// A key with its public half, for a key that does not tell it. If so, it signs a fixed message
    /// once, to see whether the two fit.
    ///
    /// # Errors
    /// [`KeyErrorKind`] says what is wrong, and with which of the two.
    pub fn with_public_key(
        spki: &SubjectPublicKeyInfoDer<'_>,
        key: Arc<dyn SigningKey>,
    ) -> Result<Self, KeyError> {
        let jwk = Jwk::of_spki(spki)?;
        check_fit(&jwk.public_key, spki, &*key)?;
        let algorithm = jwk.public_key.algorithm();
        let header = format!(
            r#"{{"typ":"{PROOF_TYPE}","alg":"{algorithm}","jwk":{}}}"#,
            jwk.canonical
        );
        Ok(Self(Arc::new(Inner {
            signing_key: key,
            algorithm,
            thumbprint: jwk.thumbprint(),
            protected: base64url(header.as_bytes()),
            jwk: jwk.canonical,
        })))
    }

    /// A key with a certificate that names its public half. The certificate itself plays no part in
    /// DPoP.
    ///
    /// # Errors
    /// As [`with_public_key`](Self::with_public_key), and [`KeyErrorKind::BadCertificate`].
    pub fn of_certificate(
        certificate: &CertificateDer<'_>,
        key: Arc<dyn SigningKey>,
    ) -> Result<Self, KeyError> {
        let spki = Certificate::parse(certificate)?.spki;
        Self::with_public_key(&SubjectPublicKeyInfoDer::from(spki), key)
    }

    /// What a token's `cnf.jkt`, or the parameter `dpop_jkt` (RFC 9449 §10), must be.
    pub fn thumbprint(&self) -> JwkThumbprint {
        self.0.thumbprint
    }

    /// The algorithm that proofs are signed with.
    pub fn algorithm(&self) -> Algorithm {
        self.0.algorithm
    }

    /// The public key as a JWK: the JSON object that each proof's header carries.
    pub fn jwk(&self) -> &str {
        &self.0.jwk
    }

    /// Makes and signs one proof. The key may be slow (a token, a KMS), and this blocks until it
    /// has signed.
    ///
    /// # Errors
    /// The key failed to sign, or the proof would be longer than
    /// [`MAX_PROOF_BYTES`](crate::MAX_PROOF_BYTES).
    pub fn mint(&self, claims: &Claims<'_>) -> Result<Proof, MintError> {
        Proof::sign(&self.0.protected, claims, |input| {
            sign(&*self.0.signing_key, self.0.algorithm, input)
        })
    }
}

impl fmt::Debug for DpopKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DpopKey")
            .field("algorithm", &self.0.algorithm)
            .field("thumbprint", &self.0.thumbprint)
            .finish_non_exhaustive()
    }
}
