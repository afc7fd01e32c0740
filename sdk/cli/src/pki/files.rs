//! Files that did not exist before, and that go again if not all of them can be written.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// The files written so far. Dropped without [`keep`](Self::keep), it removes them.
#[derive(Default)]
pub(super) struct NewFiles(Vec<PathBuf>);

impl NewFiles {
    /// Says early, and before anything is written, that a file is there already.
    pub(super) fn must_not_exist(&self, path: &Path) -> Result<(), Failure> {
        match fs::symlink_metadata(path) {
            Ok(_) => Err(exists(path)),
            // Everything else is told when the file is made.
            Err(_) => Ok(()),
        }
    }

    pub(super) fn public(&mut self, path: &Path, text: &str) -> Result<(), Failure> {
        self.write(path, text, OpenOptions::new())
    }

    /// A file that its owner alone can read, from its first moment on.
    pub(super) fn private(&mut self, path: &Path, text: &str) -> Result<(), Failure> {
        #[allow(unused_mut, reason = "modes are of Unix")]
        let mut options = OpenOptions::new();
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        self.write(path, text, options)
    }

    pub(super) fn keep(mut self) {
        self.0.clear();
    }

    fn write(&mut self, path: &Path, text: &str, mut how: OpenOptions) -> Result<(), Failure> {
        let failed = |error: std::io::Error| match error.kind() {
            ErrorKind::AlreadyExists => exists(path),
            _ => Failure::failed(format!("{} cannot be written: {error}", path.display())),
        };
        // `create_new` is O_EXCL: another process cannot have put a link there in between.
        let mut file = how
            .write(true)
            .create_new(true)
            .open(path)
            .map_err(failed)?;
        self.0.push(path.to_owned());
        file.write_all(text.as_bytes()).map_err(failed)?;
        file.sync_all().map_err(failed)
    }
}

impl Drop for NewFiles {
    fn drop(&mut self) {
        for path in &self.0 {
            // What cannot be removed either is told by the next run.
            let _ = fs::remove_file(path);
        }
    }
}

pub(super) fn make_directory(dir: &Path) -> Result<(), Failure> {
    fs::create_dir_all(dir)
        .map_err(|error| Failure::failed(format!("{} cannot be made: {error}", dir.display())))
}

fn exists(path: &Path) -> Failure {
    Failure::failed(format!(
        "{} is there already and is not overwritten: name another directory or certificate, or \
         remove the file first",
        path.display()
    ))
}
