//! JWS signatures by a rustls [`SigningKey`] (RFC 7515, RFC 7518).

use std::sync::Arc;

use rustls::sign::SigningKey;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::{algorithm::Algorithm, encoding::base64url};

/// A private key and the one algorithm that it signs with here. Clones share the key.
#[derive(Clone)]
pub(crate) struct Signer {
    pub(crate) key: Arc<dyn SigningKey>,
    pub(crate) algorithm: Algorithm,
}

impl Signer {
    /// A compact JWS: `protected`, which is encoded already, the claims, and the signature.
    pub(crate) fn sign_jws(
        &self,
        protected: &str,
        claims: &impl Serialize,
    ) -> Result<Zeroizing<String>, SignError> {
        let payload = serde_json::to_vec(claims).expect("strings and numbers serialise");
        let payload = base64url(&Zeroizing::new(payload));
        let mut text = Zeroizing::new(format!("{protected}.{payload}"));
        let signature = self.sign(text.as_bytes())?;
        text.push('.');
        text.push_str(&base64url(&signature));
        Ok(text)
    }

    /// A JWS signature over `message`.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let signature = self
            .key
            .choose_scheme(&[self.algorithm.scheme()])
            .ok_or(SignError::NoScheme)?
            .sign(message)
            .map_err(SignError::Key)?;
        match self.algorithm {
            Algorithm::Es256 => fixed_width(&signature, 32).ok_or(SignError::Malformed),
            Algorithm::Es384 => fixed_width(&signature, 48).ok_or(SignError::Malformed),
            Algorithm::EdDsa | Algorithm::Ps256 | Algorithm::Rs256 => Ok(signature),
        }
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

// TLS carries ECDSA signatures as DER, JWS as fixed-width `r‖s` (RFC 7518 §3.4, PR-4). These forty
// lines stay because the crates that convert them either bring a second elliptic-curve stack
// (`ecdsa`, `p256`) or accept integers that are not minimal (`asn1-rs`).

/// Turns `SEQUENCE { INTEGER r, INTEGER s }` into `r‖s`, each left-padded to `width` bytes.
///
/// `None` for anything but strict DER of two positive integers that fit. The sequence of a P-384
/// signature has at most 102 bytes of content, so only the short form of lengths is right.
fn fixed_width(der: &[u8], width: usize) -> Option<Vec<u8>> {
    let (sequence, rest) = element(0x30, der)?;
    let (r, after_r) = element(0x02, sequence)?;
    let (s, after_s) = element(0x02, after_r)?;
    if !rest.is_empty() || !after_s.is_empty() {
        return None;
    }
    let mut signature = Vec::with_capacity(2 * width);
    for integer in [positive(r)?, positive(s)?] {
        let padding = width.checked_sub(integer.len())?;
        signature.resize(signature.len() + padding, 0);
        signature.extend_from_slice(integer);
    }
    Some(signature)
}

/// The content of the element that `der` starts with, and what follows it.
fn element(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    match der {
        [found, length @ 0..0x80, rest @ ..] if *found == tag => {
            rest.split_at_checked(usize::from(*length))
        }
        _ => None,
    }
}

/// The magnitude of a minimally encoded integer above zero.
fn positive(content: &[u8]) -> Option<&[u8]> {
    match *content {
        [0, 0x80..=0xFF, ..] => Some(&content[1..]),
        [1..=0x7F, ..] => Some(content),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
