//! Writes the secrets that a test makes to a file, so that `tools/leaks.py` can search for them in
//! everything that the tests print (EX-7).
//!
//! Nothing is written unless the environment variable `BOWLINE_TEST_SECRETS` names a file. Then
//! what the process logs is printed as well, at every level. A line is a kind, a space, and the
//! secret in base64url. The testkit records the keys and tokens that it makes and what its TLS
//! servers are sent; peers that a test writes itself call [`record_request`].

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{LazyLock, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bowline_proof::PROOF_HEADER;
use bowline_proof::dpop::DPOP_HEADER;
use http::HeaderMap;
use http::header::AUTHORIZATION;

const VARIABLE: &str = "BOWLINE_TEST_SECRETS";

/// A file of secrets, each once.
struct SecretFile {
    file: File,
    written: HashSet<String>,
}

static FILE: LazyLock<Option<Mutex<SecretFile>>> = LazyLock::new(|| {
    let path = std::env::var_os(VARIABLE)?;
    crate::log::print();
    let file = SecretFile::open(Path::new(&path));
    Some(Mutex::new(file.unwrap_or_else(|e| {
        panic!("the file that {VARIABLE} names cannot be opened: {e}")
    })))
});

/// Records a secret of a kind.
///
/// # Panics
/// If the file cannot be written.
pub fn record(kind: &'static str, secret: &[u8]) {
    if let Some(file) = &*FILE {
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        file.record(kind, secret)
            .expect("the file of secrets is writable");
    }
}

/// Records the private part of a key in PKCS #8, without the public one, which is no secret.
///
/// # Panics
/// As [`record`].
pub fn record_key(pkcs8: &[u8]) {
    record("key", private_part(pkcs8));
}

/// Records what a request carries: its access token, its proofs, and the exporter value in them.
///
/// # Panics
/// As [`record`].
pub fn record_request(fields: &HeaderMap) {
    if FILE.is_none() {
        return;
    }
    let values = |name| fields.get_all(name).iter().map(|value| value.as_bytes());
    for credentials in values(AUTHORIZATION) {
        let token = credentials.split(|byte| *byte == b' ').next_back();
        record("token", token.unwrap_or_default());
    }
    for proof in values(PROOF_HEADER) {
        record("proof", proof);
        if let Some(exporter) = exporter(proof) {
            record("exporter", &exporter);
        }
    }
    for proof in values(DPOP_HEADER) {
        record("dpop", proof);
    }
}

/// The exporter value in a session-binding proof.
fn exporter(proof: &[u8]) -> Option<Vec<u8>> {
    let payload = proof.split(|byte| *byte == b'.').nth(1)?;
    let claims = URL_SAFE_NO_PAD.decode(payload).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&claims).ok()?;
    URL_SAFE_NO_PAD.decode(claims.get("ekm")?.as_str()?).ok()
}

/// The private scalar of an EC or Ed25519 key; of another kind, all of it.
fn private_part(pkcs8: &[u8]) -> &[u8] {
    // ECPrivateKey (RFC 5915): version 1, then an OCTET STRING. CurvePrivateKey (RFC 8410): an
    // OCTET STRING in another.
    for before in [&b"\x02\x01\x01\x04"[..], b"\x04\x22\x04"] {
        let found = pkcs8
            .windows(before.len())
            .position(|window| window == before);
        let Some(rest) = found.and_then(|at| pkcs8.get(at + before.len()..)) else {
            continue;
        };
        if let Some((len, rest)) = rest.split_first()
            && let Some(scalar) = rest.get(..usize::from(*len))
        {
            return scalar;
        }
    }
    pkcs8
}

impl SecretFile {
    fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            file: OpenOptions::new().create(true).append(true).open(path)?,
            written: HashSet::new(),
        })
    }

    /// In one write, so that the lines of several processes do not mix.
    fn record(&mut self, kind: &str, secret: &[u8]) -> io::Result<()> {
        let line = format!("{kind} {}\n", URL_SAFE_NO_PAD.encode(secret));
        if self.written.insert(line.clone()) {
            self.file.write_all(line.as_bytes())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
