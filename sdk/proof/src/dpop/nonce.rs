//! The nonce that a server wants in the next proof (RFC 9449 §8).

use std::{fmt, sync::Arc};

use http::{HeaderMap, HeaderValue};

use super::NONCE_HEADER;

/// A longer nonce is ignored, so that a client's memory for each server is bounded.
const MAX_NONCE_BYTES: usize = 1024;

/// A nonce that a server issued, opaque to the client. Clones are cheap.
///
/// `Debug` shows nothing of it, as for everything else that goes into a proof.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Nonce(Arc<str>);

impl Nonce {
    /// # Errors
    /// The text is empty, longer than 1024 bytes, or has a character that is not an `NQCHAR` (RFC
    /// 9449 §8.1, RFC 6749 §A): printable ASCII without space, `"` and `\`.
    pub fn new(text: &str) -> Result<Self, InvalidNonce> {
        let is_nqchar = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
        if text.is_empty() || text.len() > MAX_NONCE_BYTES || !text.bytes().all(is_nqchar) {
            return Err(InvalidNonce);
        }
        Ok(Self(text.into()))
    }

    /// The nonce in the `DPoP-Nonce` field of a response. `None` if the field is malformed, or if
    /// there are several, which §8 forbids.
    pub fn from_response(headers: &HeaderMap) -> Option<Self> {
        let mut fields = headers.get_all(NONCE_HEADER).iter();
        match (fields.next(), fields.next()) {
            (Some(field), None) => Self::new(field.to_str().ok()?).ok(),
            _ => None,
        }
    }

    /// The nonce as the `nonce` claim has it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The value of [`NONCE_HEADER`].
    pub fn header_value(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).expect("printable ASCII")
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nonce(redacted)")
    }
}

/// The text is not a DPoP nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a DPoP nonce is 1 to {MAX_NONCE_BYTES} printable ASCII characters without space, quote and \
     backslash"
)]
pub struct InvalidNonce;
