//! A key that takes as long as one in an HSM or a KMS, while it is told to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustls::sign::{Signer, SigningKey};
use rustls::{SignatureAlgorithm, SignatureScheme};
use rustls_pki_types::SubjectPublicKeyInfoDer;

pub(crate) const SIGNING_TAKES: Duration = Duration::from_millis(300);

/// Whether the key is slow, and how often it has signed slowly.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slow {
    pub(crate) is_slow: Arc<AtomicBool>,
    pub(crate) signatures: Arc<AtomicU64>,
}

#[derive(Debug)]
pub(crate) struct SlowKey {
    pub(crate) key: Arc<dyn SigningKey>,
    pub(crate) slow: Slow,
}

impl SigningKey for SlowKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let signer = self.key.choose_scheme(offered)?;
        let slow = self.slow.clone();
        Some(Box::new(SlowSigner { signer, slow }))
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        self.key.public_key()
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.key.algorithm()
    }
}

#[derive(Debug)]
struct SlowSigner {
    signer: Box<dyn Signer>,
    slow: Slow,
}

impl Signer for SlowSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        if self.slow.is_slow.load(Ordering::Relaxed) {
            std::thread::sleep(SIGNING_TAKES);
            self.slow.signatures.fetch_add(1, Ordering::Relaxed);
        }
        self.signer.sign(message)
    }

    fn scheme(&self) -> SignatureScheme {
        self.signer.scheme()
    }
}
