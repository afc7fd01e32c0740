//! The name of a DPoP key: `jkt`.

use std::{fmt, str::FromStr};

use aws_lc_rs::digest::{SHA256, digest};

use crate::encoding::{base64url, bytes32};

/// The SHA-256 thumbprint of a public key as a JWK (RFC 7638), which a token's `cnf.jkt` names (RFC
/// 9449 §6.1).
///
/// `Display` and [`FromStr`] use the form of `jkt`: base64url without padding, 43 characters. It is
/// public information and may be logged.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct JwkThumbprint([u8; 32]);

impl JwkThumbprint {
    /// The 32 bytes of the hash.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// `canonical` is the JSON of RFC 7638 §3: the required members only, in order, without white
    /// space.
    pub(super) fn of(canonical: &str) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, canonical.as_bytes()).as_ref());
        Self(bytes)
    }
}

impl fmt::Display for JwkThumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base64url(&self.0))
    }
}

impl fmt::Debug for JwkThumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for JwkThumbprint {
    type Err = InvalidJwkThumbprint;

    fn from_str(text: &str) -> Result<Self, InvalidJwkThumbprint> {
        bytes32(text)
            .map(|bytes| Self(*bytes))
            .ok_or(InvalidJwkThumbprint)
    }
}

/// The text is not base64url, without padding, of 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a JWK thumbprint is 43 characters of base64url without padding")]
pub struct InvalidJwkThumbprint;
