//! Session tickets with an exact lifetime, counted from the last full handshake (RS-1).

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use rustls::server::ProducesTickets;
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{SignatureAlgorithm, SignatureScheme};
use rustls_pki_types::SubjectPublicKeyInfoDer;

use super::{MAX_TICKET_LIFETIME, TicketKeys, TlsError, TlsErrorKind};
use crate::Clock;

tokio::task_local! {
    /// Seconds since the epoch: when the session was authenticated that this handshake resumes.
    /// `None` in a full handshake, or as long as that is not decided.
    static AUTHENTICATED_AT: Cell<Option<u64>>;
}

/// Runs one handshake. Outside of this no ticket is accepted.
pub(crate) async fn handshake<F: Future>(handshake: F) -> F::Output {
    AUTHENTICATED_AT.scope(Cell::new(None), handshake).await
}

/// rustls's own tickets, with the time of the last *full* handshake encrypted into each.
///
/// rustls limits lifetimes by rotating keys, and rotates them when a ticket is issued or read. On a
/// server that was idle for a day, the first old ticket to return is therefore still accepted. And
/// it sends new tickets in resumed handshakes too, so that a stolen session could renew itself for
/// ever. The sealed time makes the limit exact, however many tickets succeed one another (RFC 8446
/// section 4.6.1): `decrypt` notes it for this handshake, and `encrypt` seals what was noted. In a
/// full handshake nothing is noted, see [`clearing`], and the time is now.
///
/// Upstream: <https://github.com/rustls/rustls/pull/2786> (after 0.23) bounds what an idle server
/// accepts; the sealed time stays, since its cap is exact.
#[derive(Debug)]
pub(super) struct ShortLivedTickets {
    inner: Arc<dyn ProducesTickets>,
    lifetime: u32,
    clock: Clock,
}

impl ShortLivedTickets {
    pub(super) fn new(
        lifetime: Duration,
        shared: Option<TicketKeys>,
        clock: Clock,
    ) -> Result<Self, TlsError> {
        if lifetime > MAX_TICKET_LIFETIME {
            return Err(TlsError::new(
                TlsErrorKind::TicketLifetime,
                format!(
                    "a ticket lifetime of {lifetime:?} is too long: the maximum is {MAX_TICKET_LIFETIME:?}"
                ),
            ));
        }
        Ok(Self {
            inner: match shared {
                Some(keys) => Arc::new(keys),
                None => {
                    rustls::crypto::aws_lc_rs::Ticketer::new().map_err(TlsError::configuration)?
                }
            },
            lifetime: lifetime.as_secs().try_into().unwrap_or(u32::MAX),
            clock,
        })
    }
}

impl ProducesTickets for ShortLivedTickets {
    fn enabled(&self) -> bool {
        self.lifetime > 0
    }

    fn lifetime(&self) -> u32 {
        self.lifetime
    }

    fn encrypt(&self, session: &[u8]) -> Option<Vec<u8>> {
        let authenticated_at = AUTHENTICATED_AT
            .try_with(Cell::get)
            .ok()?
            .unwrap_or_else(|| self.clock.now().as_secs());
        let mut stamped = authenticated_at.to_be_bytes().to_vec();
        stamped.extend_from_slice(session);
        self.inner.encrypt(&stamped)
    }

    /// `None` if the session is too old, so that a full handshake follows.
    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let stamped = self.inner.decrypt(ticket)?;
        let (authenticated_at, session) = stamped.split_first_chunk()?;
        let authenticated_at = u64::from_be_bytes(*authenticated_at);
        let age = self.clock.now().as_secs().checked_sub(authenticated_at)?;
        if age > u64::from(self.lifetime) {
            return None;
        }
        // rustls stops at the first ticket that it can use, so the last one noted is the one used.
        AUTHENTICATED_AT
            .try_with(|noted| noted.set(Some(authenticated_at)))
            .ok()?;
        Some(session.to_vec())
    }
}

/// The same certificate and key, and whenever the key signs, what was noted is cleared.
///
/// rustls may read a ticket and then not use it, for example because it is another server name's;
/// it does not say so. But the server signs in full handshakes and in no others, and it does so
/// after it has read tickets and before it issues any.
pub(super) fn clearing(identity: &CertifiedKey) -> CertifiedKey {
    CertifiedKey {
        key: Arc::new(ClearingKey(identity.key.clone())),
        ..identity.clone()
    }
}

#[derive(Debug)]
struct ClearingKey(Arc<dyn SigningKey>);

#[derive(Debug)]
struct ClearingSigner(Box<dyn Signer>);

impl SigningKey for ClearingKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let signer = self.0.choose_scheme(offered)?;
        Some(Box::new(ClearingSigner(signer)))
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        self.0.public_key()
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.0.algorithm()
    }
}

impl Signer for ClearingSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        // Outside of a handshake nothing is noted.
        let _ = AUTHENTICATED_AT.try_with(|noted| noted.set(None));
        self.0.sign(message)
    }

    fn scheme(&self) -> SignatureScheme {
        self.0.scheme()
    }
}

#[cfg(test)]
mod tests;
