//! The directory in which a service keeps its authority: a file for each pair, with its key, for this
//! user alone, and `root.pem`, which agents are to trust.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use rustix::fs::{FlockOperation, flock};

use super::AuthorityError;
use super::pair::Pair;
use crate::pem_text;
use crate::values::folder_of;

const ROOTS: &str = "root.pem";
const PREFIX: &str = "pair-";

pub(super) struct Store {
    dir: PathBuf,
    /// Locked: two egresses would remove each other's pairs.
    _lock: File,
}

impl Store {
    pub(super) fn open(dir: &Path) -> Result<Self, AuthorityError> {
        let name = dir.display();
        let failed = |error: io::Error| AuthorityError::new(format!("{name}: {error}"));
        match DirBuilder::new().mode(0o700).create(dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made.map_err(failed)?,
        }
        let lock = Self::open_own(dir)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            AuthorityError::new(format!(
                "another egress keeps its authority in {name}: choose another directory"
            ))
        })?;
        Ok(Self {
            dir: dir.to_owned(),
            _lock: lock,
        })
    }

    /// Whether there is such a directory, or a place for it.
    pub(super) fn check(dir: &Path) -> Result<(), AuthorityError> {
        let is_missing = matches!(
            fs::symlink_metadata(dir),
            Err(error) if error.kind() == io::ErrorKind::NotFound
        );
        if !is_missing {
            return Self::open_own(dir).map(drop);
        }
        let parent = folder_of(dir);
        match fs::metadata(parent) {
            Ok(found) if found.is_dir() => Ok(()),
            _ => Err(AuthorityError::new(format!(
                "{} cannot be made: {} is no directory",
                dir.display(),
                parent.display()
            ))),
        }
    }

    fn open_own(dir: &Path) -> Result<File, AuthorityError> {
        let name = dir.display();
        let failed = |error: io::Error| AuthorityError::new(format!("{name}: {error}"));
        let opened = File::open(dir).map_err(failed)?;
        let found = opened.metadata().map_err(failed)?;
        let is_own = found.is_dir() && found.uid() == rustix::process::geteuid().as_raw();
        if !is_own || found.mode() & 0o022 != 0 {
            return Err(AuthorityError::new(format!(
                "{name} is no directory of this user in which no other can write: choose another one"
            )));
        }
        Ok(opened)
    }

    /// The pairs, the one that ends first at the beginning. One that cannot be read is left out: the
    /// log says so, and it is removed.
    pub(super) fn read(&self) -> Result<Vec<Pair>, AuthorityError> {
        let mut pairs = Vec::new();
        for path in self.files()? {
            let read = fs::read(&path).map_err(AuthorityError::new);
            match read.and_then(|text| Pair::from_pem(&text)) {
                Ok(pair) => pairs.push(pair),
                Err(error) => {
                    let error = crate::causes::with_causes(&error);
                    tracing::warn!("{} is not used: {error}", path.display());
                }
            }
        }
        pairs.sort_by_key(Pair::not_after);
        Ok(pairs)
    }

    /// Keeps these pairs and no others.
    pub(super) fn write(&self, pairs: &[&Pair]) -> Result<(), AuthorityError> {
        let mut kept = Vec::new();
        for (at, pair) in pairs.iter().enumerate() {
            let ends = pair.not_after().duration_since(UNIX_EPOCH);
            let ends = ends.map_err(AuthorityError::new)?.as_secs();
            let path = self.dir.join(format!("{PREFIX}{ends}-{at}.pem"));
            self.replace(&path, pair.to_pem().as_bytes(), 0o600)?;
            kept.push(path);
        }
        let roots = pairs.iter().map(|pair| pem_text::certificate(pair.root()));
        let roots: String = roots.collect();
        self.replace(&self.dir.join(ROOTS), roots.as_bytes(), 0o644)?;
        for path in self.files()? {
            if !kept.contains(&path) {
                fs::remove_file(&path).map_err(AuthorityError::new)?;
            }
        }
        Ok(())
    }

    fn files(&self) -> Result<Vec<PathBuf>, AuthorityError> {
        let entries = fs::read_dir(&self.dir).map_err(AuthorityError::new)?;
        let named = entries.flatten().filter(|entry| {
            let name = entry.file_name();
            let name = name.to_str().unwrap_or_default();
            name.starts_with(PREFIX) && name.ends_with(".pem")
        });
        Ok(named.map(|entry| entry.path()).collect())
    }

    /// In one step: an agent never reads half of a file.
    fn replace(&self, path: &Path, text: &[u8], mode: u32) -> Result<(), AuthorityError> {
        let new = path.with_extension("new");
        let write = || {
            // One that a killed process has left, perhaps with another mode.
            let _ = fs::remove_file(&new);
            let mut options = OpenOptions::new();
            let mut file = options.write(true).create_new(true).mode(mode).open(&new)?;
            file.write_all(text)?;
            file.sync_all()?;
            fs::rename(&new, path)
        };
        write().map_err(|error: io::Error| {
            AuthorityError::new(format!("{} cannot be written: {error}", path.display()))
        })
    }
}
