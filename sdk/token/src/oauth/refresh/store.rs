//! What a source does with its seed file, and what it keeps in memory of it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::file::{Found, Locked, Reserved, SeedFile};
use super::seed::Seed;
use crate::blocking_pool::BlockingPool;
use crate::{Error, ErrorKind, OAuthErrorCode};

/// Whose refresh token a seed holds: see [`Builder::refresh`](crate::Builder::refresh).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SeedOwner {
    /// The client.
    pub client_id: String,
    /// The issuer identifier of the authorization server, or its token endpoint.
    pub issuer: String,
}

impl SeedOwner {
    /// Reads it in a seed file.
    ///
    /// # Errors
    /// [`ErrorKind::File`]: there is no seed, others may read it, or it is malformed.
    pub fn read(seed: impl Into<PathBuf>) -> Result<Self, Error> {
        let seed = SeedFile::new(seed.into()).read()?;
        Ok(Self {
            client_id: seed.client_id().to_owned(),
            issuer: seed.issuer().to_owned(),
        })
    }
}

/// The seed of a source.
pub(in crate::oauth) struct SeedStore {
    file: Arc<SeedFile>,
    blocking_pool: BlockingPool,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    /// The hash of a refresh token that the server does not accept, and its error.
    refused: Option<(String, Error)>,
    /// An answer that could not be written.
    unwritten: Option<Seed>,
}

/// A file system that hangs blocks this many threads at most.
const MAX_FILE_JOBS: usize = 4;

/// What is done with a file fails after this time: the file system does not answer.
const FILE_TIMEOUT: Duration = Duration::from_secs(5);

/// Between two attempts to take the lock; as much again is left to chance.
const LOCK_INTERVAL: Duration = Duration::from_millis(20);

impl SeedStore {
    pub(in crate::oauth) fn new(path: PathBuf) -> Self {
        Self {
            file: Arc::new(SeedFile::new(path)),
            blocking_pool: BlockingPool::new(MAX_FILE_JOBS),
            memory: Mutex::default(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }

    /// The seed, without a lock.
    pub(super) async fn read(&self) -> Result<Seed, Error> {
        let file = self.file.clone();
        self.with_file("reading the seed", move || file.read())
            .await
    }

    pub(super) async fn lock(&self, limit: Duration) -> Result<Locked, Error> {
        let until = Instant::now() + limit;
        loop {
            let file = self.file.clone();
            let locking = self.with_file("locking the seed", move || file.try_lock());
            if let Some(locked) = locking.await? {
                return Ok(locked);
            }
            if Instant::now() >= until {
                let message = format!(
                    "another process has locked the seed {} for {limit:?}: end that process, if it \
                     hangs",
                    self.path().display()
                );
                return Err(Error::new(ErrorKind::File, message));
            }
            tokio::time::sleep(LOCK_INTERVAL + LOCK_INTERVAL.mul_f64(fastrand::f64())).await;
        }
    }

    /// The seed under its lock; first writes what could not be written before.
    pub(super) async fn read_locked(&self, locked: Locked) -> Result<(Locked, Found), Error> {
        let unwritten = self.memory().unwritten.clone();
        let read = move || {
            let found = locked.read()?;
            let Some(unwritten) = unwritten.filter(|next| next.is_successor_of(&found.seed)) else {
                return Ok((locked, found));
            };
            let locked = locked.reserve(&found.seed)?.replace(&unwritten)?;
            let found = Found {
                seed: unwritten,
                is_unanswered: false,
            };
            Ok((locked, found))
        };
        let read = self.with_file("reading the seed", read).await?;
        self.memory().unwritten = None;
        Ok(read)
    }

    /// Replaces the seed. What cannot be written is kept for the next attempt.
    pub(super) async fn replace(&self, reserved: Reserved, seed: Seed) -> Result<(), Error> {
        self.memory().unwritten = Some(seed.clone());
        let replace = move || reserved.replace(&seed).map(drop);
        self.with_file("replacing the seed", replace).await?;
        self.memory().unwritten = None;
        Ok(())
    }

    pub(super) async fn with_file<T: Send + 'static>(
        &self,
        what: &str,
        job: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let failed = |how: String| {
            let message = format!("{}: {what} {how}", self.path().display());
            Error::new(ErrorKind::File, message)
        };
        match tokio::time::timeout(FILE_TIMEOUT, self.blocking_pool.run(job)).await {
            Ok(Some(done)) => done,
            Ok(None) => Err(failed("panicked".to_owned())),
            Err(_) => Err(failed(format!(
                "did not end within {FILE_TIMEOUT:?}: the file system is silent"
            ))),
        }
    }

    /// The error, if the server does not accept this seed's refresh token.
    pub(super) fn refusal(&self, seed: &Seed) -> Result<(), Error> {
        match &self.memory().refused {
            Some((hash, error)) if *hash == seed.hash() => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// An answer without a new refresh token and without an access token that can be used.
    pub(super) async fn note_refusal(
        &self,
        reserved: Reserved,
        seed: &Seed,
        error: &Error,
        is_unanswered: bool,
    ) {
        let ErrorKind::Refused(code) = error.kind() else {
            return; // whether the refresh token was used up is not known
        };
        let is_over = code == OAuthErrorCode::InvalidGrant;
        if is_over {
            self.memory().refused = Some((seed.hash(), error.clone()));
        }
        // The mark of an unanswered request is what tells other processes why.
        if !(is_over && is_unanswered) {
            let give_up = move || {
                reserved.give_up();
                Ok(())
            };
            let _ = self.with_file("giving the seed back", give_up).await;
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for SeedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SeedStore").field(&self.path()).finish()
    }
}
