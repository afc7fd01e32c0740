//! Keys for session tickets that several processes share (RS-1).

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::digest::{SHA256, digest};
use rustls::server::ProducesTickets;
use zeroize::Zeroizing;

use super::{TlsError, TlsErrorKind};
use crate::key_lines::{self, KeyFileError, SharedKey};

/// Tells in a ticket which key sealed it.
const NAME_LEN: usize = 8;

/// A server that has more of them keeps its tickets readable for too long.
const MAX_KEYS: usize = 8;

/// Keys with which several processes seal and read one another's session tickets, the newest first.
///
/// The first key seals tickets, and all of them read. To replace the first, add the new key as the
/// *second* everywhere, then move it to the front everywhere, and remove the old one when the
/// ticket lifetime has passed.
///
/// Who has such a key can forge a ticket with any client's certificate, and with it satisfy RFC
/// 8705 for every token (T8). Only a proof still stops them, so share keys only under
/// [`AcceptPolicy::RequireProof`](crate::AcceptPolicy::RequireProof) or
/// [`RequireSession`](crate::AcceptPolicy::RequireSession).
#[derive(Clone)]
pub struct TicketKeys(Arc<[Key]>);

struct Key {
    name: [u8; NAME_LEN],
    key: RandomizedNonceKey,
}

impl TicketKeys {
    /// From a file with one key a line: the base64 of 32 random bytes, as `openssl rand -base64 32`
    /// writes it. Empty lines, and lines that start with `#`, mean nothing. At least two keys (two
    /// generations, RS-1), at most eight, no key twice.
    ///
    /// # Errors
    /// [`TlsErrorKind::Unreadable`], and [`TlsErrorKind::TicketKeys`] if other users may read the
    /// file (it must have mode 0600 or less), or if its content is not as described.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, TlsError> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let keys = key_lines::read(path).map_err(|error| match error {
            KeyFileError::Unreadable(error) => {
                TlsError::new(TlsErrorKind::Unreadable, format!("{name} cannot be read"))
                    .with_source(error)
            }
            KeyFileError::Mode(mode) => wrong(format!(
                "{name} has mode {mode:04o}: its keys can forge a session of any client, so only \
                 its owner may read it; run `chmod 600` on it"
            )),
            KeyFileError::Content(what) => wrong(format!("{name}: {what}")),
        })?;
        Self::new(&keys, &name)
    }

    fn new(keys: &[SharedKey], name: &str) -> Result<Self, TlsError> {
        match keys.len() {
            2..=MAX_KEYS => {}
            0 | 1 => {
                return Err(wrong(format!(
                    "{name}: there must be at least two keys, so that one can be replaced without \
                     a full handshake for each client; append one by `openssl rand -base64 32`"
                )));
            }
            many => {
                return Err(wrong(format!(
                    "{name}: there are {many} keys, and at most {MAX_KEYS} are read"
                )));
            }
        }
        let keys: Option<Vec<Key>> = keys.iter().map(Key::new).collect();
        keys.map(|keys| Self(keys.into()))
            .ok_or_else(|| wrong(format!("{name}: a key cannot be used")))
    }
}

fn wrong(what: String) -> TlsError {
    TlsError::new(TlsErrorKind::TicketKeys, what)
}

impl Key {
    fn new(bytes: &SharedKey) -> Option<Self> {
        let key = RandomizedNonceKey::new(&AES_256_GCM_SIV, &bytes[..]).ok()?;
        let mut named = Zeroizing::new(b"bowline ticket key name".to_vec());
        named.extend_from_slice(&bytes[..]);
        let digest = digest(&SHA256, &named);
        let name = digest.as_ref().first_chunk().copied()?;
        Some(Self { name, key })
    }
}

/// Seals a session as: the key's name, a nonce, the ciphertext with its tag.
impl ProducesTickets for TicketKeys {
    fn enabled(&self) -> bool {
        true
    }

    /// `ShortLivedTickets`, which wraps it, has one.
    fn lifetime(&self) -> u32 {
        0
    }

    fn encrypt(&self, session: &[u8]) -> Option<Vec<u8>> {
        let Key { name, key } = self.0.first()?;
        let mut sealed = session.to_vec();
        let nonce = key
            .seal_in_place_append_tag(Aad::from(name), &mut sealed)
            .ok()?;
        Some([&name[..], nonce.as_ref(), &sealed].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk::<NAME_LEN>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let key = self.0.iter().find(|key| key.name == *name)?;
        let mut sealed = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let session = key
            .key
            .open_in_place(nonce, Aad::from(name), &mut sealed)
            .ok()?;
        Some(session.to_vec())
    }
}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketKeys")
            .field("keys", &self.0.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
