//! A token in a file that somebody else replaces: an agent, a sidecar, Kubernetes.
//!
//! The file is read when a token is asked for, at most once in an interval, and not when the file
//! system says that it has changed. Change notices do not cross network and overlay file systems,
//! and are about the directory entry that was there when somebody began to watch: where a file is
//! swapped by a symlink two directories up, as Kubernetes does, they miss it. Reading a few
//! kilobytes a second, while somebody asks, misses nothing.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bowline_client::AccessToken;
use bowline_client::bind::TokenSourceId;
use futures_util::future::BoxFuture;
use zeroize::Zeroizing;

use crate::blocking_pool::BlockingPool;
use crate::cache::{Cache, CachedToken, Certificate, Times, TokenIssuer, Trigger};
use crate::shared::backoff::Backoff;
use crate::source::new_source_id;
use crate::{Clock, Counts, Error, ErrorKind, Token, TokenSource};

/// A source that reads its token from a file, and its successors from the same path.
///
/// The file holds the access token and nothing else but white space around it. One that is replaced
/// as a whole (renamed into place, or behind a symlink that now leads elsewhere) counts at once.
/// One that was written into counts when it was read twice without a change, so that half a token
/// is not taken for one. While it is missing, empty or unreadable, the last token stays in use
/// until it expires. A JWT that has expired is no token, even if it still stands there.
#[derive(Clone)]
pub struct TokenFile(Arc<Cache<Reader>>);

/// How a [`TokenFile`] reads.
#[derive(Clone, Debug)]
pub struct TokenFileOptions {
    /// How long what was read is taken to be what is there. Default 1 s.
    pub interval: Duration,
    /// Where the time comes from.
    pub clock: Clock,
}

impl Default for TokenFileOptions {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            clock: Clock::default(),
        }
    }
}

impl TokenFile {
    /// The source that reads this file, for the first time when it is first asked.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self::with(path, TokenFileOptions::default())
    }

    /// The same with other options.
    pub fn with(path: impl Into<PathBuf>, options: TokenFileOptions) -> Self {
        let reader = Reader {
            path: path.into(),
            id: new_source_id(),
            interval: options.interval,
            clock: options.clock.clone(),
            seen: Mutex::default(),
            blocking_pool: BlockingPool::new(MAX_READING),
        };
        let backoff = Backoff {
            first: options.interval,
            max: options.interval,
        };
        Self(Arc::new(Cache::new(
            Arc::new(reader),
            options.clock,
            backoff,
        )))
    }

    /// What this source has counted so far.
    pub fn counts(&self) -> Counts {
        self.0.counts()
    }
}

impl TokenSource for TokenFile {
    fn id(&self) -> TokenSourceId {
        self.0.issuer().id
    }

    /// # Errors
    /// [`ErrorKind::File`], with the path.
    fn token(&self) -> BoxFuture<'_, Result<Token, Error>> {
        Box::pin(self.0.token(Certificate::NONE))
    }

    fn refused(&self, token: &Token) {
        self.0.refused(token);
    }
}

impl std::fmt::Debug for TokenFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TokenFile")
            .field(&self.0.issuer().path)
            .finish()
    }
}

struct Reader {
    path: PathBuf,
    id: TokenSourceId,
    interval: Duration,
    clock: Clock,
    seen: Mutex<Seen>,
    blocking_pool: BlockingPool,
}

/// What was there when it was last read.
#[derive(Default)]
struct Seen {
    /// The token in use.
    token: Option<Token>,
    /// The file that it was in.
    file: Option<FileId>,
    /// What the file holds now, and who knows whether that is all of it.
    candidate: Option<AccessToken>,
}

/// What tells one file from another at the same path; nothing where the system has no such thing.
#[derive(Clone, Copy, PartialEq, Eq)]
struct FileId(u64, u64);

/// A longer file holds no token ([`AccessToken`] takes 64 KiB) but something else.
const MAX_BYTES: u64 = 80 * 1024;

/// A file system that hangs leaves one thread behind, and no more.
const MAX_READING: usize = 1;

/// A file system that does not answer.
const PATIENCE: Duration = Duration::from_secs(5);

impl TokenIssuer for Reader {
    fn issue(
        self: Arc<Self>,
        _: Certificate,
        trigger: Trigger,
    ) -> BoxFuture<'static, Result<CachedToken, Error>> {
        Box::pin(async move {
            if self.blocking_pool.is_full() {
                return Err(
                    self.error("the token file is still being read, and the file system is silent")
                );
            }
            let reader = self.clone();
            let reading = self.blocking_pool.run(move || reader.read());
            let (token, file) = match tokio::time::timeout(PATIENCE, reading).await {
                Ok(Some(read)) => read?,
                Ok(None) => return Err(self.error("reading the token file panicked")),
                Err(_) => {
                    return Err(
                        self.error(&format!("the token file was not read within {PATIENCE:?}"))
                    );
                }
            };
            self.take(token, file, trigger)
        })
    }
}

impl Reader {
    fn read(&self) -> Result<(AccessToken, Option<FileId>), Error> {
        let unreadable = |error: io::Error| {
            let message = format!("the token file {} cannot be read", self.path.display());
            Error::because(ErrorKind::File, message, error)
        };
        let file = open(&self.path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        // Room for all of it at once: a buffer that grows leaves copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_BYTES as usize + 1));
        file.take(MAX_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(unreadable)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(self.error(&format!("the token file is longer than {MAX_BYTES} bytes")));
        }
        let text = std::str::from_utf8(&bytes)
            .map_err(|_| self.error("the token file holds something else than text"))?;
        let text = text.trim_ascii();
        if text.is_empty() {
            return Err(self.error("the token file is empty"));
        }
        let token = AccessToken::new(text).map_err(|e| {
            let message = format!(
                "the token file {} does not hold one access token and nothing else",
                self.path.display()
            );
            Error::because(ErrorKind::File, message, e)
        })?;
        Ok((token, id(&metadata)))
    }

    /// Decides whether what was read is the token now.
    fn take(
        &self,
        read: AccessToken,
        file: Option<FileId>,
        trigger: Trigger,
    ) -> Result<CachedToken, Error> {
        let now = self.clock.now();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let is_valid = |token: &Token| token.expires_at().is_none_or(|at| now < at);
        let in_use = seen.token.clone().filter(is_valid);
        let is_whole = trigger == Trigger::Miss
            || file.is_some() && seen.file != file
            || seen.candidate.as_ref() == Some(&read);
        let token = match in_use {
            Some(token) if *token.access_token() == read || !is_whole => token,
            _ => Token::new(read.clone(), self.id),
        };
        if *token.access_token() == read {
            seen.file = file;
        }
        seen.candidate = Some(read);
        if !is_valid(&token) {
            return Err(self.error("the token in the file has expired, and nobody has replaced it"));
        }
        seen.token = Some(token.clone());
        let next_look = now.checked_add(self.interval);
        Ok(CachedToken {
            token,
            times: Times {
                refresh_at: next_look,
                stale_at: next_look,
            },
            is_refused: false,
        })
    }

    fn error(&self, what: &str) -> Error {
        Error::new(ErrorKind::File, format!("{what}: {}", self.path.display()))
    }
}

/// Does not wait for a writer, if the path leads to a pipe.
#[cfg(unix)]
fn open(path: &Path) -> io::Result<File> {
    let metadata = std::fs::metadata(path)?;
    match metadata.is_file() {
        true => File::open(path),
        false => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a regular file",
        )),
    }
}

#[cfg(not(unix))]
fn open(path: &Path) -> io::Result<File> {
    File::open(path)
}

#[cfg(unix)]
fn id(metadata: &Metadata) -> Option<FileId> {
    use std::os::unix::fs::MetadataExt;
    Some(FileId(metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn id(_: &Metadata) -> Option<FileId> {
    None
}
