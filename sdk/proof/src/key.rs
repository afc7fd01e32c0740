//! The private key behind a client certificate, ready to sign proofs.

use std::{fmt, sync::Arc};

use rustls::{SignatureAlgorithm, sign::SigningKey};
use rustls_pki_types::CertificateDer;
use serde::Serialize;

use crate::{
    Algorithm, AssertionKey, MintError, Proof, ProofClaims, Thumbprint,
    certificate::{Certificate, PublicKey},
    ecdsa,
    encoding::base64url,
    proof::PROOF_TYPE,
};

/// Signed to see whether a key fits a certificate. It is neither a JWS signing input nor anything
/// that TLS signs, so the signature is of no use to anybody.
const FIT_MESSAGE: &[u8] = b"bowline: does this key fit this certificate?";

/// The key that authenticates the handshake and signs the proofs of its connections (PR-4).
///
/// Clones are cheap and share the key. `Debug` shows the algorithm and the certificate's
/// thumbprint.
#[derive(Clone)]
pub struct ProofKey(Arc<Inner>);

struct Inner {
    signing_key: Arc<dyn SigningKey>,
    algorithm: Algorithm,
    thumbprint: Thumbprint,
    /// The JWS protected header, encoded: the same for every proof of this key.
    protected: String,
}

impl ProofKey {
    /// Pairs a client certificate (the leaf) with its private key, wherever that key lives.
    ///
    /// A key that offers its public half is compared with the certificate's. One that does not
    /// signs a fixed message once, and the signature is verified.
    ///
    /// # Errors
    /// [`KeyErrorKind`] says what is wrong, and with which of the two.
    pub fn new(
        certificate: &CertificateDer<'_>,
        key: Arc<dyn SigningKey>,
    ) -> Result<Self, KeyError> {
        let certificate = Certificate::parse(certificate)?;
        let algorithm = certificate.public_key.algorithm();
        check_fit(&certificate.public_key, &certificate.spki, &*key)?;
        let header = Header {
            typ: PROOF_TYPE,
            alg: algorithm.name(),
            x5t_s256: certificate.thumbprint.to_string(),
        };
        Ok(Self(Arc::new(Inner {
            signing_key: key,
            algorithm,
            thumbprint: certificate.thumbprint,
            protected: base64url(&serde_json::to_vec(&header).expect("strings serialise")),
        })))
    }

    /// The thumbprint of the certificate (PR-3).
    pub fn thumbprint(&self) -> Thumbprint {
        self.0.thumbprint
    }

    /// The algorithm that proofs are signed with (PR-2).
    pub fn algorithm(&self) -> Algorithm {
        self.0.algorithm
    }

    /// The same key, to sign client assertions with (`private_key_jwt`): for a client that has
    /// registered the public key of its certificate.
    pub fn assertion_key(&self) -> AssertionKey {
        AssertionKey::of_parts(self.0.signing_key.clone(), self.0.algorithm)
    }

    /// Makes and signs one proof. The key may be slow (a token, a KMS), and this blocks until it
    /// has signed.
    ///
    /// # Errors
    /// The key failed to sign, or the proof would be longer than
    /// [`MAX_PROOF_BYTES`](crate::MAX_PROOF_BYTES).
    pub fn mint(&self, claims: &ProofClaims<'_>) -> Result<Proof, MintError> {
        Proof::sign(&self.0.protected, claims, |input| {
            sign(&*self.0.signing_key, self.0.algorithm, input)
        })
    }
}

impl fmt::Debug for ProofKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProofKey")
            .field("algorithm", &self.0.algorithm)
            .field("thumbprint", &self.0.thumbprint)
            .finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct Header {
    typ: &'static str,
    alg: &'static str,
    #[serde(rename = "x5t#S256")]
    x5t_s256: String,
}

/// `spki` is the DER that `public_key` was read from.
pub(crate) fn check_fit(
    public_key: &PublicKey,
    spki: &[u8],
    key: &dyn SigningKey,
) -> Result<(), KeyError> {
    if key.public_key().is_some_and(|offered| *offered == *spki) {
        return Ok(());
    }
    // Not offered, or spelt differently (a compressed point, absent parameters): try it.
    let algorithm = public_key.algorithm();
    let signature = match sign(key, algorithm, FIT_MESSAGE) {
        Ok(signature) => signature,
        // A key that can do RSA, but no PSS, may well be the right one.
        Err(SignError::NoScheme)
            if algorithm == Algorithm::Ps256 && key.algorithm() == SignatureAlgorithm::RSA =>
        {
            return Err(KeyErrorKind::UnsupportedKey.into());
        }
        Err(SignError::NoScheme) => return Err(KeyErrorKind::KeyMismatch.into()),
        Err(SignError::Malformed) => return Err(KeyErrorKind::Signing.into()),
        Err(SignError::Key(source)) => {
            return Err(KeyError::because(KeyErrorKind::Signing, source));
        }
    };
    public_key
        .verifying(algorithm)
        .and_then(|key| key.verify_sig(FIT_MESSAGE, &signature).ok())
        .ok_or_else(|| KeyErrorKind::KeyMismatch.into())
}

/// A JWS signature over `message`.
pub(crate) fn sign(
    key: &dyn SigningKey,
    algorithm: Algorithm,
    message: &[u8],
) -> Result<Vec<u8>, SignError> {
    let signature = key
        .choose_scheme(&[algorithm.scheme()])
        .ok_or(SignError::NoScheme)?
        .sign(message)
        .map_err(SignError::Key)?;
    match algorithm {
        Algorithm::Es256 => ecdsa::fixed_width(&signature, 32).ok_or(SignError::Malformed),
        Algorithm::Es384 => ecdsa::fixed_width(&signature, 48).ok_or(SignError::Malformed),
        Algorithm::EdDsa | Algorithm::Ps256 | Algorithm::Rs256 => Ok(signature),
    }
}

/// Why a key did not give a signature.
pub(crate) enum SignError {
    /// It does not sign with the algorithm asked for.
    NoScheme,
    /// It failed.
    Key(rustls::Error),
    /// It gave an ECDSA signature that is not DER.
    Malformed,
}

/// A certificate, or a key with its certificate or public half, that cannot be used for proofs.
#[derive(Debug, thiserror::Error)]
#[error("{kind}")]
pub struct KeyError {
    kind: KeyErrorKind,
    source: Option<rustls::Error>,
}

impl KeyError {
    /// What is wrong.
    pub fn kind(&self) -> KeyErrorKind {
        self.kind
    }

    pub(crate) fn because(kind: KeyErrorKind, source: rustls::Error) -> Self {
        Self {
            kind,
            source: Some(source),
        }
    }
}

impl From<KeyErrorKind> for KeyError {
    fn from(kind: KeyErrorKind) -> Self {
        Self { kind, source: None }
    }
}

/// What is wrong with a certificate or a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum KeyErrorKind {
    /// The certificate is not one X.509 certificate in DER, or its public key is damaged.
    #[error("the certificate cannot be parsed: give one X.509 certificate in DER")]
    BadCertificate,
    /// No algorithm of PR-2 fits the key.
    #[error("unsupported key: use P-256, P-384, Ed25519, or RSA (2048 to 8192 bits, with PSS)")]
    UnsupportedKey,
    /// An RSA key under 2048 bits (PR-2).
    #[error("the RSA key is under 2048 bits: use a longer one, or P-256")]
    WeakRsa,
    /// The private key belongs to another certificate (PR-4), or to another public key.
    #[error(
        "the private key does not fit the certificate or public key: check that both are of one pair"
    )]
    KeyMismatch,
    /// The private key is not one PKCS#8 structure in DER.
    #[error("the private key cannot be read: give PKCS#8 in DER")]
    BadPrivateKey,
    /// The public key is not one SubjectPublicKeyInfo in DER, or is damaged.
    #[error(
        "the public key cannot be read: give one SubjectPublicKeyInfo in DER, an elliptic-curve point uncompressed"
    )]
    BadPublicKey,
    /// The private key does not tell its public half.
    #[error("the key does not tell its public half: give that, or the certificate, along with it")]
    NoPublicKey,
    /// The key failed to sign when it was tried.
    #[error("the private key failed to sign: check the module or device that holds it")]
    Signing,
}
