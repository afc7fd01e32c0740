//! Stateless nonces: each is a keyed hash of the period in which it is issued.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::{hmac, rand::SystemRandom};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bowline_proof::dpop::Nonce;
use rustls_pki_types::UnixTime;

use crate::NodeSecrets;

/// Issues nonces for DPoP proofs and recognises them (RFC 9449 §8, §9).
///
/// Time is divided into periods, each with one nonce, the same for all clients. A nonce is issued
/// during its period and accepted during that period and the next. It cannot be predicted without
/// the secret, so a proof that was made in advance is accepted for two periods at most; for three
/// where nodes share the secret, because a node also accepts the nonce of the coming period, which
/// a node whose clock is ahead has issued.
pub struct DpopNonces {
    /// The first makes nonces; those of all are accepted.
    secrets: Vec<hmac::Key>,
    are_shared: bool,
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
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
        Self::with_keys(vec![secret], true, period)
    }

    /// With secrets that all nodes of this origin share: the first makes nonces, and those of all
    /// are accepted.
    #[must_use]
    pub fn shared(secrets: &NodeSecrets, period: Duration) -> Self {
        Self::with_keys(secrets.keys(), true, period)
    }

    /// With a random secret that lives as long as this value: for a single node. Nonces from before
    /// a restart are refused, which costs each client one additional 401 response.
    #[must_use]
    pub fn random(period: Duration) -> Self {
        // Only a broken system has no random bytes, and a predictable secret would be worse than a
        // panic.
        let secret = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .expect("the system's random source");
        Self::with_keys(vec![secret], false, period)
    }

    fn with_keys(secrets: Vec<hmac::Key>, are_shared: bool, period: Duration) -> Self {
        Self {
            secrets,
            are_shared,
            period: period.as_secs().max(1),
        }
    }

    /// The nonce to issue.
    pub(crate) fn newest(&self, now: UnixTime) -> Nonce {
        nonce(&self.secrets[0], now.as_secs() / self.period)
    }

    /// What is accepted now.
    pub(crate) fn accepted(&self, now: UnixTime) -> AcceptedNonces {
        let current = now.as_secs() / self.period;
        // The first period, in 1970, has no predecessor; it is then listed twice.
        let mut periods = vec![current, current.saturating_sub(1)];
        if self.are_shared {
            periods.push(current.saturating_add(1));
        }
        let of_period = |period: &u64| {
            let period = *period;
            self.secrets.iter().map(move |secret| nonce(secret, period))
        };
        AcceptedNonces {
            nonces: periods.iter().flat_map(of_period).collect(),
            secrets: self.secrets.len(),
            periods,
            length: self.period,
        }
    }
}

/// The nonces that are accepted at a time.
pub(crate) struct AcceptedNonces {
    /// For each period those of all secrets; the one to issue is the first.
    nonces: Vec<Nonce>,
    secrets: usize,
    periods: Vec<u64>,
    length: u64,
}

impl AcceptedNonces {
    pub(crate) fn all(&self) -> &[Nonce] {
        &self.nonces
    }

    /// The nonce that a client should have instead of this one, if there is a newer one.
    pub(crate) fn newer_than(&self, nonce: Option<&str>) -> Option<Nonce> {
        match self.position(nonce) {
            Some(0) => None,
            // By a node whose clock is ahead.
            Some(at) if self.periods[at / self.secrets] > self.periods[0] => None,
            _ => self.nonces.first().cloned(),
        }
    }

    /// The last second in which this one, which is accepted now, is accepted.
    pub(crate) fn until(&self, nonce: Option<&str>) -> UnixTime {
        let newest = self.periods.iter().max();
        let period = match self.position(nonce) {
            Some(at) => Some(&self.periods[at / self.secrets]),
            None => newest,
        };
        let next = period.copied().unwrap_or_default().saturating_add(2);
        let end = next.saturating_mul(self.length).saturating_sub(1);
        UnixTime::since_unix_epoch(Duration::from_secs(end))
    }

    fn position(&self, nonce: Option<&str>) -> Option<usize> {
        let nonce = nonce?;
        self.nonces.iter().position(|known| known.as_str() == nonce)
    }
}

fn nonce(secret: &hmac::Key, period: u64) -> Nonce {
    let mut hash = hmac::Context::with_key(secret);
    hash.update(PURPOSE);
    hash.update(&period.to_be_bytes());
    let hash = hash.sign();
    Nonce::new(&URL_SAFE_NO_PAD.encode(&hash.as_ref()[..NONCE_BYTES]))
        .expect("base64url is made of NQCHARs")
}

/// Does not show the secrets.
impl fmt::Debug for DpopNonces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DpopNonces")
            .field("period", &self.period)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
