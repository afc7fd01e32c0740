//! Signing that may be slow (an HSM, a TPM, another process) must not stop the runtime's other
//! tasks.
//!
//! rustls signs synchronously inside the handshake, so the key it gets is wrapped; proofs are
//! signed on tokio's blocking threads (see `bind::session`).
//!
//! Upstream: <https://github.com/rustls/rustls/issues/1976>.

use std::sync::Arc;

use rustls::sign::{Signer, SigningKey};
use rustls::{SignatureAlgorithm, SignatureScheme};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use tokio::runtime::{Handle, RuntimeFlavor};

/// A key that hands its worker's other tasks to another thread while it signs.
#[derive(Debug)]
pub(crate) struct OffRuntime(pub(crate) Arc<dyn SigningKey>);

impl SigningKey for OffRuntime {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let signer = self.0.choose_scheme(offered)?;
        Some(Box::new(OffRuntimeSigner(signer)))
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        self.0.public_key()
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.0.algorithm()
    }
}

#[derive(Debug)]
struct OffRuntimeSigner(Box<dyn Signer>);

impl Signer for OffRuntimeSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        // A runtime of one thread has nowhere to move its tasks to: there a slow key does stop
        // them.
        let can_move =
            Handle::try_current().is_ok_and(|h| h.runtime_flavor() == RuntimeFlavor::MultiThread);
        if can_move {
            tokio::task::block_in_place(|| self.0.sign(message))
        } else {
            self.0.sign(message)
        }
    }

    fn scheme(&self) -> SignatureScheme {
        self.0.scheme()
    }
}
