//! The private directory of one `bowline run`.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

const PREFIX: &str = "bowline-run-";

/// A directory that only this user can look into; removed when it is dropped. Its lock shows that
/// it is in use, so that the next run removes what a killed one has left.
#[derive(Debug)]
pub(crate) struct PrivateDirectory {
    path: PathBuf,
    _lock: File,
}

impl PrivateDirectory {
    /// In the user's runtime directory, else in the temporary one; first removes what killed runs
    /// have left in both.
    pub(crate) fn new() -> io::Result<Self> {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let runtime = runtime.filter(|dir| fs::metadata(dir).is_ok_and(|found| is_private(&found)));
        let temporary = std::env::temp_dir();
        // A run that was killed may have had another environment.
        sweep(&temporary);
        if let Some(runtime) = &runtime {
            sweep(runtime);
        }
        Self::new_in(runtime.as_ref().unwrap_or(&temporary))
    }

    fn new_in(base: &Path) -> io::Result<Self> {
        for _ in 0..100 {
            let path = base.join(format!("{PREFIX}{:016x}", fastrand::u64(..)));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(error),
            }
            let lock = File::open(&path)?;
            flock(&lock, FlockOperation::LockExclusive)?;
            // A sweep may have come between.
            let is_there = fs::symlink_metadata(&path)
                .is_ok_and(|found| lock.metadata().is_ok_and(|own| own.ino() == found.ino()));
            if is_there {
                return Ok(Self { path, _lock: lock });
            }
        }
        Err(io::Error::other("no private directory can be made"))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn write(&self, name: &str, text: &[u8]) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        options.open(self.path.join(name))?.write_all(text)
    }
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(%error, "{} is left", self.path.display());
        }
    }
}

/// As [`PrivateDirectory::new`] names them: others may begin alike.
fn is_ours(name: &str) -> bool {
    let number = name.strip_prefix(PREFIX);
    number.is_some_and(|number| number.len() == 16 && number.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn is_private(found: &Metadata) -> bool {
    is_own_directory(found) && found.mode() & 0o077 == 0
}

fn is_own_directory(found: &Metadata) -> bool {
    found.is_dir() && found.uid() == rustix::process::geteuid().as_raw()
}

/// Removes what killed runs have left: directories of this user, no links, whose lock is free.
fn sweep(base: &Path) {
    let Ok(entries) = fs::read_dir(base) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let is_named = entry.file_name().to_str().is_some_and(is_ours);
        let is_own =
            is_named && fs::symlink_metadata(&path).is_ok_and(|found| is_own_directory(&found));
        let Some(lock) = is_own.then(|| open_directory(&path)).flatten() else {
            continue;
        };
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            // What cannot be removed is tried again by the next run.
            let _ = fs::remove_dir_all(&path);
        }
    }
}

fn open_directory(path: &Path) -> Option<File> {
    use rustix::fs::{Mode, OFlags, open};
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    open(path, flags, Mode::empty()).ok().map(File::from)
}

#[cfg(test)]
mod tests;
