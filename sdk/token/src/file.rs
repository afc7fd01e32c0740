//! A token in a file that another program replaces: an agent, a sidecar, Kubernetes.
//!
//! The file is read when a token is asked for, at most once in an interval, and not when the file
//! system says that it has changed. Change notices do not cross network and overlay file systems,
//! and they concern the directory entry that was there when the watch began: where a file is
//! swapped by a symlink two directories up, as Kubernetes does, they miss it. Reading a few
//! kilobytes a second, while callers ask for tokens, misses nothing.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bowline_http_client::AccessToken;
use bowline_http_client::bind::TokenSourceId;
use futures_util::future::BoxFuture;
use zeroize::Zeroizing;

use crate::blocking_pool::BlockingPool;
use crate::cache::{Cache, CachedToken, Certificate, Times, TokenIssuer, Trigger};
use crate::observe::Observed;
use crate::shared::backoff::Backoff;
use crate::source::new_source_id;
use crate::{Clock, Counts, Error, ErrorKind, Observer, Token, TokenSource};

/// A source that reads its token from a file, and its successors from the same path.
///
/// The file holds the access token and nothing else but white space around it. One that is replaced
/// as a whole (renamed into place, or behind a symlink that now leads elsewhere) counts at once.
/// One that was written into counts when it was read twice without a change, so that half a token
/// is not taken for one. While it is missing, empty or unreadable, the last token stays in use
/// until it expires. A JWT that has expired is not used, even if it is still in the file.
#[derive(Clone)]
pub struct TokenFile(Arc<Cache<Reader>>);

/// How a [`TokenFile`] reads.
#[derive(Clone)]
#[non_exhaustive]
pub struct TokenFileOptions {
    /// How long the file is not read again. Default 1 s.
    pub interval: Duration,
    /// Where the time comes from.
    pub clock: Clock,
    /// Gets each [`Event`](crate::Event). Default: none.
    pub observer: Option<Arc<dyn Observer>>,
}

impl Default for TokenFileOptions {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            clock: Clock::default(),
            observer: None,
        }
    }
}

impl std::fmt::Debug for TokenFileOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenFileOptions")
            .field("interval", &self.interval)
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}

impl TokenFile {
    /// The source that reads this file, for the first time at the first call.
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
            last: Mutex::default(),
            blocking_pool: BlockingPool::new(MAX_READS),
        };
        let backoff = Backoff {
            first: options.interval,
            max: options.interval,
        };
        let cache = Cache::new(Arc::new(reader), options.clock, backoff);
        Self(Arc::new(cache.observed(Observed(options.observer))))
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
    last: Mutex<LastRead>,
    blocking_pool: BlockingPool,
}

/// What the last read found.
#[derive(Default)]
struct LastRead {
    /// The token in use.
    token: Option<Token>,
    /// The file that it was read from.
    file: Option<FileId>,
    /// What the file holds now; it may be half written.
    candidate: Option<AccessToken>,
}

/// Tells one file from another at the same path (device and inode), where the system can.
#[derive(Clone, Copy, PartialEq, Eq)]
struct FileId(u64, u64);

/// A longer file does not hold a token: [`AccessToken`] takes 64 KiB.
const MAX_BYTES: u64 = 80 * 1024;

/// A file system that hangs blocks one thread at most.
const MAX_READS: usize = 1;

/// A read that takes longer has failed: the file system does not answer.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

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
            let (token, file) = match tokio::time::timeout(READ_TIMEOUT, reading).await {
                Ok(Some(read)) => read?,
                Ok(None) => return Err(self.error("reading the token file panicked")),
                Err(_) => {
                    return Err(self.error(&format!(
                        "the token file was not read within {READ_TIMEOUT:?}"
                    )));
                }
            };
            self.choose(token, file, trigger)
        })
    }
}

impl Reader {
    fn read(&self) -> Result<(AccessToken, Option<FileId>), Error> {
        let unreadable = |error: io::Error| {
            let message = format!("the token file {} cannot be read", self.path.display());
            Error::with_source(ErrorKind::File, message, error)
        };
        let file = open(&self.path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        // Room for all of it at once: a buffer that grows leaves copies of the token in memory.
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
            Error::with_source(ErrorKind::File, message, e)
        })?;
        Ok((token, id(&metadata)))
    }

    /// Chooses between the token in use and what was just read, which may be half written.
    ///
    /// What was read counts if there is no other token, if it is in another file than before (one
    /// that was renamed into place), or if two reads in a row found the same.
    fn choose(
        &self,
        read: AccessToken,
        file: Option<FileId>,
        trigger: Trigger,
    ) -> Result<CachedToken, Error> {
        let now = self.clock.now();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let is_valid = |token: &Token| token.expires_at().is_none_or(|at| now < at);
        let in_use = last.token.clone().filter(is_valid);
        let is_whole = !matches!(trigger, Trigger::Refresh(_))
            || file.is_some() && last.file != file
            || last.candidate.as_ref() == Some(&read);
        let token = match in_use {
            Some(token) if *token.access_token() == read || !is_whole => token,
            _ => Token::new(read.clone(), self.id),
        };
        if *token.access_token() == read {
            last.file = file;
        }
        last.candidate = Some(read);
        if !is_valid(&token) {
            return Err(self.error("the token in the file has expired and was not replaced"));
        }
        last.token = Some(token.clone());
        let next_read = now.checked_add(self.interval);
        let times = Times {
            refresh_at: next_read,
            stale_at: next_read,
        };
        Ok(CachedToken::new(token, times))
    }

    fn error(&self, what: &str) -> Error {
        Error::new(ErrorKind::File, format!("{what}: {}", self.path.display()))
    }
}

/// Refuses a pipe: opening it would wait for a writer.
#[cfg(unix)]
fn open(path: &Path) -> io::Result<File> {
    let metadata = std::fs::metadata(path)?;
    if metadata.is_file() {
        File::open(path)
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a regular file",
        ))
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
