//! `Session-Binding-Receipt` (GW-2, GW-7): with it an ingress tells the egress beside it that a
//! request's token was verified with its proof, so that the egress may exchange it.
//!
//! The field is an RFC 9651 dictionary:
//!
//! ```text
//! Session-Binding-Receipt: v=1, class=session, ath="fUHyO2r2…", exp=1767225600, mac=:aGVs…=:
//! ```
//!
//! | member | meaning |
//! |---|---|
//! | `v` | `1`: this format |
//! | `class` | what was verified; `session` and nothing else |
//! | `ath` | base64url of SHA-256 of the token, as in a proof (PR-5): 43 characters |
//! | `exp` | seconds since the epoch; from then on the receipt is not valid |
//! | `mac` | HMAC-SHA-256, with the shared key, of the bytes before `, mac=` after a line `bowline receipt` (with its line feed) |
//!
//! Both ends write it in exactly this order and spacing, so that there is one text for one receipt;
//! a verifier compares the text and parses nothing that it has not verified.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bowline::server::TokenHash;
use http::HeaderValue;

/// The field's name.
pub(crate) const RECEIPT: &str = "session-binding-receipt";

/// Separates this use of the key from any other.
const PURPOSE: &[u8] = b"bowline receipt\n";

const MIN_KEY: usize = 32;

/// The key that an ingress and an egress share.
#[derive(Clone)]
pub(crate) struct ReceiptKey(hmac::Key);

impl ReceiptKey {
    /// # Errors
    /// It has fewer than 32 bytes.
    pub(crate) fn new(key: &[u8]) -> Result<Self, String> {
        match key.len() {
            MIN_KEY.. => Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, key))),
            short => Err(format!(
                "the key has {short} bytes and needs {MIN_KEY}: make one with `openssl rand -hex 32`"
            )),
        }
    }

    /// A receipt for this token, which was verified with its proof on its connection.
    pub(crate) fn issue(&self, token: &TokenHash, expires_at: u64) -> HeaderValue {
        let signed = signed_part(token, expires_at);
        let mac = STANDARD.encode(self.mac(&signed));
        HeaderValue::try_from(format!("{signed}, mac=:{mac}:")).expect("printable ASCII")
    }

    /// Whether it is a receipt for this token, of this key, that is valid at this time: for the
    /// egress.
    ///
    /// # Errors
    /// Why not.
    #[cfg_attr(
        not(any(test, target_os = "linux")),
        expect(dead_code, reason = "for the egress")
    )]
    pub(crate) fn verify(
        &self,
        receipt: &HeaderValue,
        token: &TokenHash,
        now: u64,
    ) -> Result<(), InvalidReceipt> {
        let receipt = receipt.to_str().map_err(|_| InvalidReceipt::Malformed)?;
        let (signed, mac) = receipt
            .strip_suffix(':')
            .and_then(|receipt| receipt.rsplit_once(", mac=:"))
            .ok_or(InvalidReceipt::Malformed)?;
        let mac = STANDARD
            .decode(mac)
            .map_err(|_| InvalidReceipt::Malformed)?;
        let text = [PURPOSE, signed.as_bytes()].concat();
        hmac::verify(&self.0, &text, &mac).map_err(|_| InvalidReceipt::Mac)?;
        let expires_at = signed
            .rsplit_once(", exp=")
            .and_then(|(_, exp)| exp.parse().ok())
            .ok_or(InvalidReceipt::Malformed)?;
        if signed != signed_part(token, expires_at) {
            return Err(InvalidReceipt::OtherToken);
        }
        match now < expires_at {
            true => Ok(()),
            false => Err(InvalidReceipt::Expired),
        }
    }

    fn mac(&self, signed: &str) -> hmac::Tag {
        hmac::sign(&self.0, &[PURPOSE, signed.as_bytes()].concat())
    }
}

fn signed_part(token: &TokenHash, expires_at: u64) -> String {
    let token = URL_SAFE_NO_PAD.encode(token.as_bytes());
    format!("v=1, class=session, ath=\"{token}\", exp={expires_at}")
}

/// When a receipt ends: with the token, but no later than `lifetime` from now.
pub(crate) fn expires_at(now: u64, lifetime: Duration, token_expires_at: Option<u64>) -> u64 {
    let latest = now.saturating_add(lifetime.as_secs());
    token_expires_at.map_or(latest, |at| at.min(latest))
}

/// Why a receipt is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidReceipt {
    #[error("the receipt is malformed")]
    Malformed,
    #[error("the receipt is not of the shared key")]
    Mac,
    #[error("the receipt is for another token")]
    OtherToken,
    #[error("the receipt has expired")]
    Expired,
}

/// Shows no key.
impl fmt::Debug for ReceiptKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReceiptKey")
    }
}

#[cfg(test)]
mod tests;
