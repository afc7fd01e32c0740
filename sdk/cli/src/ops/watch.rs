//! Sees that a file of the configuration has changed.
//!
//! The files are looked at once a second, as a token file is. The system's notifications would come sooner, but
//! they do not cross network file systems, a machine has only so many to give, and they come for
//! everything that happens in a file's folder: with the access log in the folder of the certificate,
//! each request woke this process once more. Links on the way to a file need no care either, such as
//! Kubernetes' `..data`, which is swapped.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;
use tokio::time::{Instant, sleep};

const EVERY: Duration = Duration::from_secs(1);

/// After a change the contents must stay as they are for this time: certificate and key are written
/// one after the other.
const QUIET: Duration = Duration::from_millis(200);

/// A change counts after this time even if others follow all the time.
const PATIENCE: Duration = Duration::from_secs(3);

/// File systems count time in steps. Of a file that changed this short a time ago the system may say
/// the same after another change.
const STEP: Duration = Duration::from_secs(2);

pub(super) struct Watch {
    files: Vec<File>,
}

/// A file as it was when it was last looked at.
#[derive(Clone)]
struct File {
    path: PathBuf,
    /// While it stays the same, the file need not be read. `None`: it must be.
    stamp: Option<Stamp>,
    /// `None` if it could not be read.
    digest: Option<Vec<u8>>,
}

/// What the system says of a file, links followed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    /// Of the last change of contents, owner or mode, which no program can set. Seconds and nanoseconds.
    changed: (i64, i64),
}

impl Watch {
    pub(super) fn start(files: &[PathBuf], config: Option<&Path>) -> Self {
        let mut watch = Self { files: Vec::new() };
        watch.look_at(files, config);
        watch
    }

    /// Watches these files from now on, and remembers their contents.
    pub(super) fn look_at(&mut self, files: &[PathBuf], config: Option<&Path>) {
        let files = files.iter().map(PathBuf::as_path).chain(config);
        self.files = files.map(File::new).collect();
    }

    /// Completes when the contents of a file have changed.
    pub(super) async fn changed(&mut self) {
        loop {
            sleep(EVERY).await;
            let mut now = look(self.files.clone()).await;
            if differ(&now, &self.files) {
                now = settled(now).await;
            }
            let changed = differ(&now, &self.files);
            self.files = now;
            if changed {
                return;
            }
        }
    }
}

/// Waits until the contents stay as they are.
async fn settled(mut files: Vec<File>) -> Vec<File> {
    let patience = Instant::now() + PATIENCE;
    while Instant::now() < patience {
        sleep(QUIET).await;
        let later = look(files.clone()).await;
        let changed = differ(&later, &files);
        files = later;
        if !changed {
            break;
        }
    }
    files
}

/// A file system that does not answer holds up the reload, and nothing else.
async fn look(files: Vec<File>) -> Vec<File> {
    let look = tokio::task::spawn_blocking(|| files.into_iter().map(File::again).collect());
    look.await.expect("looking at files does not panic")
}

fn differ(now: &[File], former: &[File]) -> bool {
    let former = former.iter().map(|file| &file.digest);
    now.iter().map(|file| &file.digest).ne(former)
}

impl File {
    fn new(path: &Path) -> Self {
        let file = Self {
            path: path.to_owned(),
            stamp: None,
            digest: None,
        };
        file.again()
    }

    /// As it is now.
    fn again(self) -> Self {
        // First: what changes during the reading has another stamp at the next look.
        let metadata = fs::metadata(&self.path).ok();
        let stamp = metadata.and_then(|metadata| Stamp::of(&metadata, SystemTime::now()));
        if stamp.is_some() && stamp == self.stamp {
            return self;
        }
        let content = fs::read(&self.path).ok();
        let digest = content.map(|content| digest::digest(&digest::SHA256, &content));
        Self {
            stamp,
            digest: digest.map(|digest| digest.as_ref().to_vec()),
            path: self.path,
        }
    }
}

impl Stamp {
    /// `None` where the next change may leave it as it is.
    fn of(metadata: &Metadata, now: SystemTime) -> Option<Self> {
        let changed = Duration::new(
            metadata.ctime().try_into().ok()?,
            metadata.ctime_nsec().try_into().ok()?,
        );
        let since = now.duration_since(UNIX_EPOCH + changed).ok()?;
        (since > STEP).then(|| Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.size(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

#[cfg(test)]
mod tests;
