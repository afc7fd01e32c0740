//! What can go wrong with a key: before it signs ([`KeyError`]) and while it signs ([`MintError`]).

use crate::{jws::MAX_PROOF_BYTES, sign::SignError};

/// A certificate, or a key with its certificate or public key, that cannot be used for proofs.
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

    pub(crate) fn with_source(kind: KeyErrorKind, source: rustls::Error) -> Self {
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
        "the private key does not fit the certificate or public key: check that both are of one \
         pair"
    )]
    KeyMismatch,
    /// The private key is not one PKCS#8 structure in DER.
    #[error("the private key cannot be read: give PKCS#8 in DER")]
    BadPrivateKey,
    /// The public key is not one SubjectPublicKeyInfo in DER, or is damaged.
    #[error(
        "the public key cannot be read: give one SubjectPublicKeyInfo in DER, an elliptic-curve \
         point uncompressed"
    )]
    BadPublicKey,
    /// The private key does not expose its public key.
    #[error(
        "the private key does not expose its public key: pass the public key or the certificate \
         along with it"
    )]
    NoPublicKey,
    /// The key failed to sign when it was tried.
    #[error("the private key failed to sign: check the module or device that holds it")]
    Signing,
}

/// No proof was made.
#[derive(Debug, thiserror::Error)]
#[error("{kind}")]
pub struct MintError {
    kind: MintErrorKind,
    source: Option<rustls::Error>,
}

impl MintError {
    /// What went wrong.
    pub fn kind(&self) -> MintErrorKind {
        self.kind
    }
}

impl From<MintErrorKind> for MintError {
    fn from(kind: MintErrorKind) -> Self {
        Self { kind, source: None }
    }
}

impl From<SignError> for MintError {
    fn from(error: SignError) -> Self {
        let source = match error {
            SignError::Key(source) => Some(source),
            SignError::NoScheme | SignError::Malformed => None,
        };
        Self {
            kind: MintErrorKind::Signing,
            source,
        }
    }
}

/// Why no proof was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum MintErrorKind {
    /// The private key failed. Trying again makes sense if the key lives in a device or a service.
    #[error("the private key failed to sign the proof: check the module or device that holds it")]
    Signing,
    /// The URI of the request makes the proof longer than [`MAX_PROOF_BYTES`]; no server would
    /// accept it.
    #[error("the request's URI is too long for a proof of {MAX_PROOF_BYTES} bytes: shorten it")]
    TooLong,
}
