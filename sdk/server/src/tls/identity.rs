//! The server's certificate and key, and the roots for client certificates, read from PEM and
//! checked.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use bowline_proof::pem;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{InconsistentKeys, RootCertStore};
use rustls_pki_types::CertificateDer;

use super::{TlsError, TlsErrorKind, provider};

/// A certificate chain with its private key, checked to match.
#[derive(Clone)]
pub struct Identity(Arc<CertifiedKey>);

impl Identity {
    /// From a chain (the server's certificate first) and a key of any kind, for example in an HSM.
    ///
    /// # Errors
    /// [`TlsErrorKind::Certificate`] if the chain is empty or unreadable,
    /// [`TlsErrorKind::KeyMismatch`] if the key is another certificate's.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: Arc<dyn SigningKey>,
    ) -> Result<Self, TlsError> {
        Self::from_parts(chain, key, "the certificate chain", "the private key")
    }

    /// From PEM text: one or more certificates, and a private key (PKCS#8, PKCS#1 or SEC1).
    ///
    /// # Errors
    /// As [`Identity::new`], and [`TlsErrorKind::PrivateKey`] if there is no usable key.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        Self::from_named_pem(chain, key, "the certificate chain", "the private key")
    }

    /// From two PEM files. Errors name the files.
    ///
    /// # Errors
    /// As [`Identity::from_pem`], and [`TlsErrorKind::Unreadable`].
    pub fn from_pem_files(
        chain: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Result<Self, TlsError> {
        let (chain, key) = (chain.as_ref(), key.as_ref());
        Self::from_named_pem(
            &read(chain)?,
            &read(key)?,
            &chain.display().to_string(),
            &key.display().to_string(),
        )
    }

    pub(crate) fn certified_key(&self) -> Arc<CertifiedKey> {
        self.0.clone()
    }

    fn from_named_pem(
        chain: &[u8],
        key: &[u8],
        chain_name: &str,
        key_name: &str,
    ) -> Result<Self, TlsError> {
        let chain = certificates(chain, chain_name)?;
        let bad_key =
            |what: &str| TlsError::new(TlsErrorKind::PrivateKey, format!("{key_name}: {what}"));
        // No error of a parser goes along as a source: it would quote the key (EX-7).
        let key = pem::private_key(key).map_err(|error| bad_key(&error.to_string()))?;
        let key = provider().key_provider.load_private_key(key).map_err(|_| {
            bad_key("holds a private key that is damaged, or of a kind not supported")
        })?;
        Self::from_parts(chain, key, chain_name, key_name)
    }

    fn from_parts(
        chain: Vec<CertificateDer<'static>>,
        key: Arc<dyn SigningKey>,
        chain_name: &str,
        key_name: &str,
    ) -> Result<Self, TlsError> {
        if chain.is_empty() {
            return Err(TlsError::new(
                TlsErrorKind::Certificate,
                format!("{chain_name}: holds no certificate"),
            ));
        }
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) => Ok(Self(Arc::new(certified))),
            Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {
                Self::verified_by_signing(certified, chain_name, key_name)
            }
            Err(rustls::Error::InconsistentKeys(_)) => Err(mismatch(chain_name, key_name)),
            Err(error) => Err(TlsError::new(
                TlsErrorKind::Certificate,
                format!("{chain_name}: the first certificate cannot be read"),
            )
            .with_source(error)),
        }
    }

    /// For a key that does not give its public half: lets it sign, and verifies the signature with
    /// the certificate.
    fn verified_by_signing(
        certified: CertifiedKey,
        chain_name: &str,
        key_name: &str,
    ) -> Result<Self, TlsError> {
        match bowline_proof::ProofKey::new(&certified.cert[0], certified.key.clone()) {
            Ok(_) => Ok(Self(Arc::new(certified))),
            Err(error) => Err(mismatch(chain_name, key_name).with_source(error)),
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("certificates", &self.0.cert.len())
            .finish_non_exhaustive()
    }
}

/// The certificate authorities whose client certificates are accepted.
#[derive(Clone, Debug)]
pub struct Trust(Arc<RootCertStore>);

impl Trust {
    /// The certificate authorities in PEM text.
    ///
    /// # Errors
    /// [`TlsErrorKind::Certificate`] if there is none, or one that is not usable as a root.
    pub fn from_pem(pem: &[u8]) -> Result<Self, TlsError> {
        let name = "the root certificates";
        Self::from_named(certificates(pem, name)?, name)
    }

    /// The certificate authorities in a PEM file. Errors name the file.
    ///
    /// # Errors
    /// As [`Trust::from_pem`], and [`TlsErrorKind::Unreadable`].
    pub fn from_pem_file(path: impl AsRef<Path>) -> Result<Self, TlsError> {
        let path = path.as_ref();
        let name = path.display().to_string();
        Self::from_named(certificates(&read(path)?, &name)?, &name)
    }

    /// These certificate authorities.
    ///
    /// # Errors
    /// As [`Trust::from_pem`].
    pub fn from_der(
        roots: impl IntoIterator<Item = CertificateDer<'static>>,
    ) -> Result<Self, TlsError> {
        Self::from_named(roots, "the root certificates")
    }

    pub(crate) fn roots(&self) -> Arc<RootCertStore> {
        self.0.clone()
    }

    fn from_named(
        roots: impl IntoIterator<Item = CertificateDer<'static>>,
        name: &str,
    ) -> Result<Self, TlsError> {
        let bad = |what: &str| TlsError::new(TlsErrorKind::Certificate, format!("{name}: {what}"));
        let mut store = RootCertStore::empty();
        for root in roots {
            store.add(root).map_err(|error| {
                bad("holds a certificate that cannot be a root").with_source(error)
            })?;
        }
        if store.is_empty() {
            return Err(bad("holds no certificate"));
        }
        Ok(Self(Arc::new(store)))
    }
}

/// Any set of trust anchors that rustls can hold.
impl From<Arc<RootCertStore>> for Trust {
    fn from(roots: Arc<RootCertStore>) -> Self {
        Self(roots)
    }
}

fn certificates(text: &[u8], name: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    pem::certificates(text)
        .map_err(|error| TlsError::new(TlsErrorKind::Certificate, format!("{name}: {error}")))
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|error| {
        TlsError::new(
            TlsErrorKind::Unreadable,
            format!("{}: cannot be read", path.display()),
        )
        .with_source(error)
    })
}

fn mismatch(chain_name: &str, key_name: &str) -> TlsError {
    TlsError::new(
        TlsErrorKind::KeyMismatch,
        format!(
            "the key does not match the certificate: {key_name} is not the private key of the first certificate in {chain_name}"
        ),
    )
}
