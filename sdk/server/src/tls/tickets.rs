//! Session tickets with an exact lifetime (RS-1).

use std::sync::Arc;
use std::time::Duration;

use rustls::server::ProducesTickets;

use super::{MAX_TICKET_LIFETIME, TlsError, TlsErrorKind};
use crate::Clock;

/// rustls's own tickets, with the time of issue encrypted into each.
///
/// rustls limits lifetimes by rotating keys, and rotates them when a ticket is issued or read. On a
/// server that was idle for a day, the first old ticket to return is therefore still accepted. The
/// time of issue makes the limit exact; rustls still rotates its keys.
#[derive(Debug)]
pub(super) struct ShortLivedTickets {
    inner: Arc<dyn ProducesTickets>,
    lifetime: u32,
    clock: Clock,
}

impl ShortLivedTickets {
    pub(super) fn new(lifetime: Duration, clock: Clock) -> Result<Self, TlsError> {
        if lifetime > MAX_TICKET_LIFETIME {
            return Err(TlsError::new(
                TlsErrorKind::TicketLifetime,
                format!(
                    "a ticket lifetime of {lifetime:?} is too long: the maximum is {MAX_TICKET_LIFETIME:?}"
                ),
            ));
        }
        Ok(Self {
            inner: rustls::crypto::aws_lc_rs::Ticketer::new().map_err(TlsError::configuration)?,
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
        let mut stamped = self.clock.now().as_secs().to_be_bytes().to_vec();
        stamped.extend_from_slice(session);
        self.inner.encrypt(&stamped)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let stamped = self.inner.decrypt(ticket)?;
        let (issued_at, session) = stamped.split_first_chunk()?;
        let age = self
            .clock
            .now()
            .as_secs()
            .checked_sub(u64::from_be_bytes(*issued_at))?;
        (age <= u64::from(self.lifetime)).then(|| session.to_vec())
    }
}

#[cfg(test)]
mod tests;
