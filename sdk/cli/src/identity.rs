//! A client certificate and its private key, and a DPoP key, read from files.

use std::path::Path;
use std::time::SystemTime;

use bowline::Identity;
use bowline::client::DpopKey;

use crate::failure::Failure;
use crate::secret;
use crate::text::rough;

/// Reads them. `key_option` is the option that named the key's file.
///
/// # Errors
/// They cannot be used now, or every user of the machine can read the key.
pub(crate) fn read(certificate: &Path, key: &Path, key_option: &str) -> Result<Identity, Failure> {
    let identity = Identity::from_pem_files(certificate, key).map_err(Failure::usage)?;
    secret::refuse_world_readable(key_option, key)?;
    let file = certificate.display();
    if let Ok(since) = SystemTime::now().duration_since(identity.not_after()) {
        return Err(Failure::usage(format!(
            "the certificate in {file} expired {} ago: give a newer one, or set the clock",
            rough(since.as_secs())
        )));
    }
    if let Some(leaf) = identity.chain().first()
        && let Ok(verifier) = bowline_proof::ProofVerifier::new(leaf)
        && let Ok(now) = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)
        && let Some(early) = verifier.not_before().as_secs().checked_sub(now.as_secs())
        && early > 0
    {
        return Err(Failure::usage(format!(
            "the certificate in {file} is valid only in {}: set the clock",
            rough(early)
        )));
    }
    Ok(identity)
}

/// Reads a DPoP key. `option` is the one that named its file.
///
/// # Errors
/// It cannot be used, or every user of the machine can read it.
pub(crate) fn dpop_key(option: &str, path: &Path) -> Result<DpopKey, Failure> {
    let file = path.display();
    let text = secret::read_file(option, path)?;
    let key = bowline_proof::pem::private_key(&text)
        .map_err(|e| Failure::usage(format!("{option}: cannot read {file}: {e}")))?;
    let key = DpopKey::from_pkcs8(&key.secret_der().into()).map_err(|_| {
        Failure::usage(format!(
            "{option}: the key in {file} cannot be used: give a PKCS #8 key of P-256, P-384, \
             Ed25519 or RSA (`openssl pkcs8 -topk8 -nocrypt` converts it)"
        ))
    })?;
    secret::refuse_world_readable(option, path)?;
    Ok(key)
}
