//! The certificate and key that authenticate this client, in the handshake and in every proof
//! (PR-4).

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bowline_proof::{KeyError, ProofKey, ProofVerifier, Thumbprint, pem};
use rustls::crypto::CryptoProvider;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use crate::conn::offload::OffRuntime;
use crate::conn::signing_queue::SigningQueue;
use crate::error::{Error, ErrorKind};

/// A client certificate with its private key.
///
/// One key does two things: it authenticates the TLS handshake, and it signs the proofs for the
/// connections that it authenticated (PR-4). Any [`SigningKey`] will do, so the key may live in a
/// file, an HSM or another process.
pub struct Identity {
    certified: Arc<CertifiedKey>,
    proof_key: ProofKey,
    signings: Arc<SigningQueue>,
    not_after: SystemTime,
}

impl Identity {
    /// Reads a PEM certificate chain (leaf first) and a PEM private key (PKCS#8, PKCS#1 or SEC1).
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`], naming the file at fault, or both where the key does not fit
    /// the certificate.
    pub fn from_pem_files(
        certificates: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Result<Self, Error> {
        let (certificates, key) = (certificates.as_ref(), key.as_ref());
        let names = Names {
            certificate: certificates.display().to_string(),
            key: key.display().to_string(),
        };
        let chain = read_file(certificates)?;
        let private = Zeroizing::new(read_file(key)?);
        Self::from_named_pem(&chain, &private, &names)
    }

    /// Like [`Identity::from_pem_files`], from memory.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`].
    pub fn from_pem(certificates: &[u8], key: &[u8]) -> Result<Self, Error> {
        Self::from_named_pem(certificates, key, &Names::in_memory())
    }

    fn from_named_pem(certificates: &[u8], key: &[u8], names: &Names) -> Result<Self, Error> {
        // No error of a parser goes along as a source: it would quote the key (EX-7).
        let unreadable = |name: &str, e: pem::PemError| {
            Error::new(ErrorKind::Configuration, format!("cannot read {name}: {e}"))
        };
        let chain =
            pem::certificates(certificates).map_err(|e| unreadable(&names.certificate, e))?;
        let private = pem::private_key(key).map_err(|e| unreadable(&names.key, e))?;
        Self::from_der(chain, private, names)
    }

    /// An identity whose key is wherever `key` signs.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] if the chain is empty, the key is of an unsupported kind, or
    /// does not fit the leaf.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: Arc<dyn SigningKey>,
    ) -> Result<Self, Error> {
        Self::assemble(chain, key, &Names::in_memory())
    }

    /// `x5t#S256` of the certificate (PR-3).
    pub fn thumbprint(&self) -> Thumbprint {
        self.proof_key.thumbprint()
    }

    /// The key that signs proofs: for `bowline-token`, which signs assertions with it.
    #[doc(hidden)]
    pub fn proof_key(&self) -> &ProofKey {
        &self.proof_key
    }

    /// When the certificate stops being valid.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// The certificate chain, leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    /// Who signs proofs with the key.
    pub(crate) fn signings(&self) -> &Arc<SigningQueue> {
        &self.signings
    }

    /// What the handshake presents.
    pub(crate) fn certified(&self) -> Arc<CertifiedKey> {
        self.certified.clone()
    }

    fn from_der(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        names: &Names,
    ) -> Result<Self, Error> {
        let key = provider()
            .key_provider
            .load_private_key(key)
            // Without a source: see `from_named_pem`.
            .map_err(|_| {
                let message = format!(
                    "cannot use the private key in {}: it is no key that TLS can sign with, or is \
                     damaged",
                    names.key
                );
                Error::new(ErrorKind::Configuration, message)
            })?;
        Self::assemble(chain, key, names)
    }

    fn assemble(
        chain: Vec<CertificateDer<'static>>,
        key: Arc<dyn SigningKey>,
        names: &Names,
    ) -> Result<Self, Error> {
        let Some(leaf) = chain.first() else {
            return Err(Error::new(
                ErrorKind::Configuration,
                format!("{} holds no certificate", names.certificate),
            ));
        };
        let proof_key = ProofKey::new(leaf, key.clone()).map_err(|e: KeyError| {
            config(
                format!(
                    "the private key in {} cannot be used with the certificate in {}",
                    names.key, names.certificate
                ),
                e,
            )
        })?;
        let not_after = ProofVerifier::new(leaf)
            .map(|certificate| certificate.not_after())
            .map_err(|e| {
                config(
                    format!("cannot use the certificate in {}", names.certificate),
                    e,
                )
            })?;
        Ok(Self {
            not_after: SystemTime::UNIX_EPOCH + Duration::from_secs(not_after.as_secs()),
            certified: Arc::new(CertifiedKey::new(chain, Arc::new(OffRuntime(key)))),
            proof_key,
            signings: Arc::default(),
        })
    }
}

/// Where a certificate and a key came from, for messages.
struct Names {
    certificate: String,
    key: String,
}

impl Names {
    fn in_memory() -> Self {
        Self {
            certificate: "the certificate chain given".into(),
            key: "the key given".into(),
        }
    }
}

fn config(
    message: impl Into<String>,
    source: impl std::error::Error + Send + Sync + 'static,
) -> Error {
    Error::with_source(ErrorKind::Configuration, message, source)
}

/// A file of certificates or keys.
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|e| config(format!("cannot read {}", path.display()), e))
}

/// Named explicitly everywhere: the process-wide default belongs to the application.
pub(crate) fn provider() -> CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("thumbprint", &self.thumbprint())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
