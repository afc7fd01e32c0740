//! Secrets that the nodes of one service share.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::hmac;

use crate::key_lines::{self, KeyFileError, SharedKey};

/// More generations are a mistake.
const MAX_SECRETS: usize = 4;

/// Secrets that the nodes of one service share: by them each recognises the others' nonces
/// ([`DpopNonces::shared`](crate::DpopNonces::shared)), and finds the used proofs that the others
/// have put into a store that they share.
///
/// The first makes nonces, and all of them count. To replace it, add the new one as the *second* on
/// every node; then, on every node, move it to the front; remove the old one when everything from
/// before has expired: seven minutes with the default windows. A node that knows only the new
/// secret while another knows only the old one would accept what the other has seen.
#[derive(Clone)]
pub struct NodeSecrets(Arc<[SharedKey]>);

impl NodeSecrets {
    /// From a file with one secret a line: the base64 of 32 random bytes, as
    /// `openssl rand -base64 32` writes it. Empty lines, and lines that start with `#`, mean
    /// nothing. One to four secrets, none twice.
    ///
    /// # Errors
    /// The file cannot be read; others than its owner may read it (it must have mode 0600 or less);
    /// or its content is not as described.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, InvalidNodeSecrets> {
        let path = path.as_ref();
        let file = path.display();
        let wrong = |message, source| InvalidNodeSecrets { message, source };
        let secrets = key_lines::read(path).map_err(|error| match error {
            KeyFileError::Unreadable(error) => wrong(format!("{file} cannot be read"), Some(error)),
            KeyFileError::Mode(mode) => wrong(
                format!(
                    "{file} has mode {mode:04o}: who knows its secrets can make nonces, so only \
                     its owner may read it; run `chmod 600` on it"
                ),
                None,
            ),
            KeyFileError::Content(what) => wrong(format!("{file}: {what}"), None),
        })?;
        Self::from_keys(secrets, &file.to_string())
    }

    /// These secrets, each of 32 random bytes.
    ///
    /// # Errors
    /// There is none, or more than four.
    pub fn new(secrets: impl IntoIterator<Item = [u8; 32]>) -> Result<Self, InvalidNodeSecrets> {
        let secrets = secrets.into_iter().map(SharedKey::new).collect();
        Self::from_keys(secrets, "the secrets of the nodes")
    }

    fn from_keys(secrets: Vec<SharedKey>, name: &str) -> Result<Self, InvalidNodeSecrets> {
        let message = match secrets.len() {
            1..=MAX_SECRETS => return Ok(Self(secrets.into())),
            0 => format!(
                "{name}: there is no secret; append one by `openssl rand -base64 32`, the same on \
                 every node"
            ),
            many => format!("{name}: there are {many} secrets, and at most {MAX_SECRETS} are read"),
        };
        Err(InvalidNodeSecrets {
            message,
            source: None,
        })
    }

    /// As keys of HMAC-SHA-256, in their order. What is hashed must start with what it is for.
    pub(crate) fn keys(&self) -> Vec<hmac::Key> {
        let key = |secret: &SharedKey| hmac::Key::new(hmac::HMAC_SHA256, &secret[..]);
        self.0.iter().map(key).collect()
    }
}

/// Does not show the secrets.
impl fmt::Debug for NodeSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeSecrets")
            .field("secrets", &self.0.len())
            .finish_non_exhaustive()
    }
}

/// The secrets of the nodes cannot be used. The message says why, and quotes none.
#[derive(Debug)]
pub struct InvalidNodeSecrets {
    message: String,
    source: Option<io::Error>,
}

impl fmt::Display for InvalidNodeSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for InvalidNodeSecrets {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests;
