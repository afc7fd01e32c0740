//! A key that signs only when it is let.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use rustls::sign::{Signer, SigningKey};
use rustls::{SignatureAlgorithm, SignatureScheme};
use rustls_pki_types::SubjectPublicKeyInfoDer;

/// Signs only while it is open.
#[derive(Debug)]
pub(crate) struct Gate {
    key: Arc<dyn SigningKey>,
    door: Arc<Door>,
}

#[derive(Debug, Default)]
pub(crate) struct Door {
    closed: Mutex<bool>,
    moved: Condvar,
}

impl Door {
    pub(crate) fn close(&self, closed: bool) {
        *self.closed.lock().unwrap() = closed;
        self.moved.notify_all();
    }

    fn pass(&self) {
        let closed = self.closed.lock().unwrap();
        drop(self.moved.wait_while(closed, |closed| *closed).unwrap());
    }
}

impl SigningKey for Gate {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let signer = self.key.choose_scheme(offered)?;
        let door = self.door.clone();
        Some(Box::new(GateSigner { signer, door }))
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        self.key.public_key()
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.key.algorithm()
    }
}

#[derive(Debug)]
struct GateSigner {
    signer: Box<dyn Signer>,
    door: Arc<Door>,
}

impl Signer for GateSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        self.door.pass();
        self.signer.sign(message)
    }

    fn scheme(&self) -> SignatureScheme {
        self.signer.scheme()
    }
}

impl Gate {
    pub(crate) fn new(key: Arc<dyn SigningKey>, door: Arc<Door>) -> Self {
        Self { key, door }
    }
}

/// A guard against hanging, not a measure.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what)
        .await
        .expect("it hangs behind the slow key")
}
