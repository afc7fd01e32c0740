//! Stateless nonces: each is a keyed hash of the period in which it is issued.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::{hmac, rand::SystemRandom};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bowline_proof::dpop::Nonce;
use rustls_pki_types::UnixTime;

/// Issues nonces for DPoP proofs and recognises them (RFC 9449 §8, §9).
///
/// Time is divided into periods, each with one nonce, the same for all clients. A nonce is issued
/// during its period and accepted during that period and the next. It cannot be predicted without
/// the secret, so a proof that was made in advance is accepted for two periods at most.
pub struct DpopNonces {
    secret: hmac::Key,
    period: u64,
}

/// Domain separation, in case the secret is also used elsewhere.
const PURPOSE: &[u8] = b"bowline DPoP nonce";

/// 128 bits of the hash cannot be guessed.
const NONCE_BYTES: usize = 16;

impl DpopNonces {
    /// With a secret that all nodes of this origin share, so that each accepts the others' nonces.
    /// A new nonce is issued every `period`, in whole seconds and at least one.
    #[must_use]
    pub fn new(secret: &[u8; 32], period: Duration) -> Self {
        Self::with_key(hmac::Key::new(hmac::HMAC_SHA256, secret), period)
    }

    /// With a random secret that lives as long as this value: for a single node. Nonces from before
    /// a restart are refused, which costs each client one additional 401 response.
    #[must_use]
    pub fn random(period: Duration) -> Self {
        // Only a broken system has no random bytes, and a predictable secret would be worse than a
        // panic.
        let secret = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .expect("the system's random source");
        Self::with_key(secret, period)
    }

    fn with_key(secret: hmac::Key, period: Duration) -> Self {
        Self {
            secret,
            period: period.as_secs().max(1),
        }
    }

    /// The nonces that are accepted now: that of this period, which is also the one to issue, and
    /// that of the previous one.
    pub(crate) fn accepted(&self, now: UnixTime) -> [Nonce; 2] {
        let period = now.as_secs() / self.period;
        // The first period, in 1970, has no predecessor; it is then listed twice.
        [period, period.saturating_sub(1)].map(|period| self.nonce(period))
    }

    /// The last second in which a nonce is accepted that is accepted now: the newest one, or the
    /// one before.
    pub(crate) fn accepted_until(&self, now: UnixTime, is_newest: bool) -> UnixTime {
        let periods = now.as_secs() / self.period + 1 + u64::from(is_newest);
        let end = periods.saturating_mul(self.period).saturating_sub(1);
        UnixTime::since_unix_epoch(Duration::from_secs(end))
    }

    fn nonce(&self, period: u64) -> Nonce {
        let mut hash = hmac::Context::with_key(&self.secret);
        hash.update(PURPOSE);
        hash.update(&period.to_be_bytes());
        let hash = hash.sign();
        Nonce::new(&URL_SAFE_NO_PAD.encode(&hash.as_ref()[..NONCE_BYTES]))
            .expect("base64url is made of NQCHARs")
    }
}

/// Does not show the secret.
impl fmt::Debug for DpopNonces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DpopNonces")
            .field("period", &self.period)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
