//! The form of both kinds of proof: a compact JWS of two JSON objects (RFC 7515 §7.1).

use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::encoding::{Object, from_base64url};

/// No proof is longer, in bytes: a longer one is refused before it is parsed (PR-9).
pub const MAX_PROOF_BYTES: usize = 8 * 1024;

/// The three parts of a compact JWS, still encoded.
pub(crate) struct CompactJws<'a> {
    pub(crate) header: &'a [u8],
    pub(crate) payload: &'a [u8],
    pub(crate) signature: &'a [u8],
    pub(crate) signing_input: &'a [u8],
}

impl<'a> CompactJws<'a> {
    pub(crate) fn split(proof: &'a [u8]) -> Option<Self> {
        let mut parts = proof.split(|&byte| byte == b'.');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(header), Some(payload), Some(signature), None) => Some(Self {
                header,
                payload,
                signature,
                signing_input: &proof[..header.len() + 1 + payload.len()],
            }),
            _ => None,
        }
    }
}

/// One encoded part, read as a JSON object.
pub(crate) fn object<T: DeserializeOwned>(encoded: &[u8]) -> Option<T> {
    let text = Zeroizing::new(from_base64url(encoded)?);
    let Object(value) = serde_json::from_slice(&text).ok()?;
    Some(value)
}

/// RFC 7515 §4.1.9: a media type, compared without regard to case, its `application/` usually left
/// out.
pub(crate) fn is_type(typ: &str, expected: &str) -> bool {
    const PREFIX: &str = "application/";
    let short = match typ.split_at_checked(PREFIX.len()) {
        Some((prefix, short)) if prefix.eq_ignore_ascii_case(PREFIX) => short,
        _ => typ,
    };
    short.eq_ignore_ascii_case(expected)
}
