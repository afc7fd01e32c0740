//! The private key of a DPoP client, ready to sign proofs.

use std::{fmt, sync::Arc};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use rustls::sign::SigningKey;
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer,
};

use super::{Claims, JwkThumbprint, PROOF_TYPE, Proof, jwk::Jwk};
use crate::{
    Algorithm, KeyError, KeyErrorKind, MintError,
    certificate::Certificate,
    encoding::base64url,
    public_key::{exposed_public_key, read_private_key},
    sign::Signer,
};

/// The key that a client's tokens are bound to (RFC 9449 §4.2, §6).
///
/// Any [`SigningKey`] will do, so the key may live in a file, an HSM or another process. Clones are
/// cheap and share the key. `Debug` shows the algorithm and the thumbprint.
#[derive(Clone)]
pub struct DpopKey {
    inner: Arc<Inner>,
    is_fast: bool,
}

struct Inner {
    signer: Signer,
    thumbprint: JwkThumbprint,
    jwk: String,
    /// The JWS protected header, encoded: the same for every proof of this key.
    protected: String,
}

impl DpopKey {
    /// A new P-256 key (`ES256`). It exists only in this process; tokens bound to it are useless
    /// once the process has ended.
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
        let key = Self::new(read_private_key(&PrivateKeyDer::Pkcs8(der.clone_key()))?)?;
        let is_fast = match key.algorithm() {
            Algorithm::Es256 | Algorithm::Es384 | Algorithm::EdDsa => true,
            Algorithm::Ps256 | Algorithm::Rs256 => false,
        };
        Ok(Self { is_fast, ..key })
    }

    /// The same key, with [`is_fast`](Self::is_fast) set: for a key that only its owner knows to be
    /// fast.
    #[must_use]
    pub fn with_fast(self, is_fast: bool) -> Self {
        Self { is_fast, ..self }
    }

    /// Whether a signature takes so little time, below a millisecond, that a task of an
    /// asynchronous runtime may make it itself: to hand it to another thread and to be woken again
    /// would take longer. A key that is not fast must not sign there, because it would hold up the
    /// runtime's other tasks.
    ///
    /// True of keys that [`generate`](Self::generate) and [`from_pkcs8`](Self::from_pkcs8) keep in
    /// this process's memory, but for RSA. Any other key may be in an HSM or in another process, and
    /// is not fast unless [`with_fast`](Self::with_fast) says so.
    pub fn is_fast(&self) -> bool {
        self.is_fast
    }

    /// A key that exposes its public key ([`SigningKey::public_key`]), as those of rustls do.
    ///
    /// # Errors
    /// [`KeyErrorKind`] says what is wrong. After [`NoPublicKey`](KeyErrorKind::NoPublicKey) use
    /// [`with_public_key`](Self::with_public_key) or [`with_certificate`](Self::with_certificate).
    pub fn new(key: Arc<dyn SigningKey>) -> Result<Self, KeyError> {
        Self::with_public_key(&exposed_public_key(&*key)?, key)
    }

    /// A key and its public key, for a key that does not expose it. Such a key signs a fixed
    /// message once, to see whether the two fit.
    ///
    /// # Errors
    /// [`KeyErrorKind`] says what is wrong, and with which of the two.
    pub fn with_public_key(
        spki: &SubjectPublicKeyInfoDer<'_>,
        key: Arc<dyn SigningKey>,
    ) -> Result<Self, KeyError> {
        let jwk = Jwk::from_spki(spki)?;
        let signer = jwk.public_key.signer(spki, key)?;
        let header = format!(
            r#"{{"typ":"{PROOF_TYPE}","alg":"{}","jwk":{}}}"#,
            signer.algorithm, jwk.canonical
        );
        let inner = Inner {
            signer,
            thumbprint: jwk.thumbprint(),
            protected: base64url(header.as_bytes()),
            jwk: jwk.canonical,
        };
        Ok(Self {
            inner: Arc::new(inner),
            is_fast: false,
        })
    }

    /// A key and a certificate for its public key. DPoP itself does not use the certificate.
    ///
    /// # Errors
    /// As [`with_public_key`](Self::with_public_key), and [`KeyErrorKind::BadCertificate`].
    pub fn with_certificate(
        certificate: &CertificateDer<'_>,
        key: Arc<dyn SigningKey>,
    ) -> Result<Self, KeyError> {
        let spki = Certificate::parse(certificate)?.spki;
        Self::with_public_key(&SubjectPublicKeyInfoDer::from(spki), key)
    }

    /// What a token's `cnf.jkt`, or the parameter `dpop_jkt` (RFC 9449 §10), must be.
    pub fn thumbprint(&self) -> JwkThumbprint {
        self.inner.thumbprint
    }

    /// The algorithm that proofs are signed with.
    pub fn algorithm(&self) -> Algorithm {
        self.inner.signer.algorithm
    }

    /// The public key as a JWK: the JSON object that each proof's header carries.
    pub fn jwk(&self) -> &str {
        &self.inner.jwk
    }

    /// Makes and signs one proof. Blocks until the key has signed, which can take long if it lives
    /// in an HSM or a KMS.
    ///
    /// # Errors
    /// The key failed to sign, or the proof would be longer than
    /// [`MAX_PROOF_BYTES`](crate::MAX_PROOF_BYTES).
    pub fn mint(&self, claims: &Claims<'_>) -> Result<Proof, MintError> {
        Proof::sign(&self.inner.signer, &self.inner.protected, claims)
    }
}

impl fmt::Debug for DpopKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DpopKey")
            .field("algorithm", &self.algorithm())
            .field("thumbprint", &self.inner.thumbprint)
            .finish_non_exhaustive()
    }
}
