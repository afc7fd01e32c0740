//! The private key behind a client certificate, ready to sign proofs.

use std::{fmt, sync::Arc};

use rustls::sign::SigningKey;
use rustls_pki_types::CertificateDer;
use serde::Serialize;

use super::{PROOF_TYPE, Proof, ProofClaims};
use crate::{
    Algorithm, AssertionKey, KeyError, MintError, Thumbprint, certificate::Certificate,
    encoding::base64url, sign::Signer,
};

/// The key that authenticates the handshake and signs the proofs of its connections (PR-4).
///
/// Clones are cheap and share the key. `Debug` shows the algorithm and the certificate's
/// thumbprint.
#[derive(Clone)]
pub struct ProofKey(Arc<Inner>);

struct Inner {
    signer: Signer,
    thumbprint: Thumbprint,
    /// The JWS protected header, encoded: the same for every proof of this key.
    protected: String,
}

impl ProofKey {
    /// Pairs a client certificate (the leaf) with its private key, wherever that key lives.
    ///
    /// If the key exposes its public key, that is compared with the certificate's. Otherwise the
    /// key signs a fixed message once, and the signature is verified.
    ///
    /// # Errors
    /// [`KeyErrorKind`](crate::KeyErrorKind) says what is wrong, and with which of the two.
    pub fn new(
        certificate: &CertificateDer<'_>,
        key: Arc<dyn SigningKey>,
    ) -> Result<Self, KeyError> {
        let certificate = Certificate::parse(certificate)?;
        let signer = certificate.public_key.signer(&certificate.spki, key)?;
        let header = Header {
            typ: PROOF_TYPE,
            alg: signer.algorithm.name(),
            x5t_s256: certificate.thumbprint.to_string(),
        };
        Ok(Self(Arc::new(Inner {
            signer,
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
        self.0.signer.algorithm
    }

    /// The same key for client assertions (`private_key_jwt`): for a client that has registered the
    /// public key of its certificate.
    pub fn assertion_key(&self) -> AssertionKey {
        AssertionKey::from_signer(self.0.signer.clone())
    }

    /// Makes and signs one proof. Blocks until the key has signed, which can take long if it lives
    /// in an HSM or a KMS.
    ///
    /// # Errors
    /// The key failed to sign, or the proof would be longer than
    /// [`MAX_PROOF_BYTES`](crate::MAX_PROOF_BYTES).
    pub fn mint(&self, claims: &ProofClaims<'_>) -> Result<Proof, MintError> {
        Proof::sign(&self.0.signer, &self.0.protected, claims)
    }
}

impl fmt::Debug for ProofKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProofKey")
            .field("algorithm", &self.algorithm())
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
