//! A seed file, which several processes read and replace.
//!
//! | file | holds |
//! |---|---|
//! | `NAME` | the seed, always whole: it is only ever replaced by renaming |
//! | `.NAME.next` | its successor: a mark while a request is under way, then the answer |
//! | `.NAME.lock` | nothing; its advisory lock says who may send the refresh token and replace the seed |
//!
//! Everything here blocks.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use zeroize::Zeroizing;

use super::seed::{LeftBehind, MAX_BYTES, Seed};
use crate::{Error, ErrorKind};

/// A seed file at a path, which may be a symlink to it.
pub(super) struct SeedFile(PathBuf);

/// The seed file, locked until this is dropped.
pub(super) struct Locked {
    path: PathBuf,
    directory: PathBuf,
    next: PathBuf,
    _lock: File,
}

/// What a locked seed file holds.
pub(super) struct Found {
    pub(super) seed: Seed,
    /// A request with it was sent, and no answer was written.
    pub(super) is_unanswered: bool,
}

/// A locked seed file, and the place for its successor.
pub(super) struct Reserved {
    locked: Locked,
    next: File,
}

impl SeedFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// The seed, without a lock.
    ///
    /// # Errors
    /// [`ErrorKind::File`].
    pub(super) fn read(&self) -> Result<Seed, Error> {
        read_seed(&self.resolved()?)
    }

    /// Takes the lock, unless somebody has it.
    ///
    /// # Errors
    /// [`ErrorKind::File`].
    pub(super) fn try_lock(&self) -> Result<Option<Locked>, Error> {
        let path = self.resolved()?;
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(failed(
                &path,
                "the seed is no file",
                io::ErrorKind::InvalidInput.into(),
            ));
        };
        let beside = |end: &str| {
            let mut beside = OsString::from(".");
            beside.push(name);
            beside.push(end);
            directory.join(beside)
        };
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(beside(".lock"))
            .map_err(|error| not_replaceable(&path, error))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(failed(&path, "the seed cannot be locked", error.into())),
        }
        Ok(Some(Locked {
            next: beside(".next"),
            directory: directory.to_owned(),
            path,
            _lock: lock,
        }))
    }

    /// The file itself: renaming onto a symlink would replace the symlink.
    fn resolved(&self) -> Result<PathBuf, Error> {
        std::fs::canonicalize(&self.0)
            .map_err(|error| failed(&self.0, "the seed cannot be read", error))
    }
}

impl Locked {
    /// The seed. A successor that a process has written, and was killed before it put it in place,
    /// is put in place now.
    ///
    /// # Errors
    /// [`ErrorKind::File`].
    pub(super) fn read(&self) -> Result<Found, Error> {
        let seed = read_seed(&self.path)?;
        let found = |seed, is_unanswered| {
            Ok(Found {
                seed,
                is_unanswered,
            })
        };
        let left_behind = match read_private(&self.next) {
            Ok(bytes) => Seed::left_behind(&bytes, &seed),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return found(seed, false),
            Err(error) => {
                return Err(failed(
                    &self.next,
                    "what was left beside the seed cannot be read",
                    error,
                ));
            }
        };
        match left_behind {
            LeftBehind::Successor(next) => {
                let put = File::open(&self.next).and_then(|file| self.put_in_place(&file));
                put.map_err(|error| not_replaceable(&self.path, error))?;
                found(*next, false)
            }
            LeftBehind::Unanswered => found(seed, true),
            LeftBehind::Outdated => found(seed, false),
        }
    }

    /// Makes the file that will replace the seed, as large as it may become, before the refresh
    /// token is sent: a file system that is read-only or full is noticed while there is nothing to
    /// lose. What stands in it tells later processes that a request was under way.
    ///
    /// # Errors
    /// [`ErrorKind::File`].
    pub(super) fn reserve(self, seed: &Seed) -> Result<Reserved, Error> {
        match self.create(seed) {
            Ok(next) => Ok(Reserved { locked: self, next }),
            Err(error) => Err(not_replaceable(&self.path, error)),
        }
    }

    fn create(&self, seed: &Seed) -> io::Result<File> {
        match std::fs::remove_file(&self.next) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut next = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&self.next)?;
        next.write_all(&seed.mark())?;
        next.sync_all()?;
        crash_point("reserved");
        Ok(next)
    }

    fn put_in_place(&self, next: &File) -> io::Result<()> {
        next.sync_all()?;
        crash_point("synced");
        std::fs::rename(&self.next, &self.path)?;
        crash_point("renamed");
        File::open(&self.directory)?.sync_all()
    }
}

impl Reserved {
    /// Replaces the seed, and gives the lock back.
    ///
    /// # Errors
    /// [`ErrorKind::File`].
    pub(super) fn replace(self, seed: &Seed) -> Result<Locked, Error> {
        match self.write(seed) {
            Ok(()) => Ok(self.locked),
            Err(error) => {
                let what = "the seed could not be replaced: the answer of the authorization server \
                            is kept in memory and written when that is possible again, so do not \
                            end this process before";
                Err(failed(&self.locked.path, what, error))
            }
        }
    }

    fn write(&self, seed: &Seed) -> io::Result<()> {
        let json = seed.to_json();
        crash_point("answered");
        // One call, so that a process that is killed leaves all of it or nothing. Its white space
        // at the end, until the file is cut, is no part of JSON.
        self.next.write_all_at(&json, 0)?;
        crash_point("written");
        self.next.set_len(json.len() as u64)?;
        self.locked.put_in_place(&self.next)
    }

    /// Ends without an answer to keep: the refresh token was not used.
    pub(super) fn give_up(self) {
        // Left behind, it would only make a later message less exact.
        let _ = std::fs::remove_file(&self.locked.next);
    }
}

fn read_seed(path: &Path) -> Result<Seed, Error> {
    let bytes =
        read_private(path).map_err(|error| failed(path, "the seed cannot be read", error))?;
    Seed::parse(&bytes, path)
}

/// Reads a file that belongs to this user, and that nobody else may read or write.
fn read_private(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let refused = |why: String| Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    // Opening a pipe would wait for a writer.
    if !std::fs::symlink_metadata(path)?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a regular file",
        ));
    }
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    let own = rustix::process::geteuid().as_raw();
    if metadata.uid() != own {
        return refused(format!(
            "it belongs to the user {}, and this process runs as {own}",
            metadata.uid()
        ));
    }
    if metadata.mode() & 0o077 != 0 {
        return refused(format!(
            "other users may read or write it (mode {:o}): run `chmod 600` on it, and sign in anew \
             if others were here",
            metadata.mode() & 0o777
        ));
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_BYTES + 1));
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("it is longer than {MAX_BYTES} bytes"),
        ));
    }
    Ok(bytes)
}

fn not_replaceable(path: &Path, error: io::Error) -> Error {
    let what = "the seed cannot be replaced, so its refresh token was not sent (a server may accept \
                it once): keep it in a directory that this process can write to";
    failed(path, what, error)
}

fn failed(path: &Path, what: &str, error: io::Error) -> Error {
    let message = format!("{}: {what}", path.display());
    Error::with_source(ErrorKind::File, message, error)
}

/// Where a test kills the process.
#[cfg(not(test))]
fn crash_point(_: &str) {}

#[cfg(test)]
use super::tests::crash_point;
