//! SHA-256 hashes that name a certificate (`x5t#S256`) and a DPoP key (`jkt`).

use std::{fmt, str::FromStr};

use rustls_pki_types::CertificateDer;

use crate::encoding::{base64url, bytes32, sha256};

/// SHA-256 over the DER of a certificate (RFC 8705 §3.1, PR-3).
///
/// `Display` and [`FromStr`] use the form of `x5t#S256`: base64url without padding, 43 characters.
/// It is public information and may be logged.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Thumbprint([u8; 32]);

impl Thumbprint {
    /// The thumbprint of `certificate`.
    pub fn from_certificate(certificate: &CertificateDer<'_>) -> Self {
        Self(sha256(certificate))
    }
}

/// The text is not base64url, without padding, of 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a certificate thumbprint is 43 characters of base64url without padding")]
pub struct InvalidThumbprint;

/// The SHA-256 thumbprint of a public key as a JWK (RFC 7638), which a token's `cnf.jkt` names (RFC
/// 9449 §6.1).
///
/// `Display` and [`FromStr`] use the form of `jkt`: base64url without padding, 43 characters. It is
/// public information and may be logged.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct JwkThumbprint([u8; 32]);

impl JwkThumbprint {
    /// `jwk` is the JSON of RFC 7638 §3: the required members only, in order, without white space.
    pub(crate) fn from_canonical(jwk: &str) -> Self {
        Self(sha256(jwk.as_bytes()))
    }
}

/// The text is not base64url, without padding, of 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a JWK thumbprint is 43 characters of base64url without padding")]
pub struct InvalidJwkThumbprint;

/// The form in which both are written and read.
macro_rules! base64url_form {
    ($Thumbprint:ident, $Invalid:ident) => {
        impl $Thumbprint {
            /// The 32 bytes of the hash.
            pub fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Display for $Thumbprint {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&base64url(&self.0))
            }
        }

        impl fmt::Debug for $Thumbprint {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $Thumbprint {
            type Err = $Invalid;

            fn from_str(text: &str) -> Result<Self, $Invalid> {
                bytes32(text).map(|bytes| Self(*bytes)).ok_or($Invalid)
            }
        }
    };
}

base64url_form!(Thumbprint, InvalidThumbprint);
base64url_form!(JwkThumbprint, InvalidJwkThumbprint);
