//! Sees that a file of the configuration has changed.
//!
//! What is watched are folders, not files: a file that is replaced (`rename`) is another file, and
//! where a file is reached through links (Kubernetes swaps the link `..data`), each link on the way
//! can change. An event only leads to a look at the contents, which decide.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest;
use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout_at};

/// After an event this much time must pass without another one: certificate and key are written one
/// after the other.
const QUIET: Duration = Duration::from_millis(200);

/// An event is looked at after this time even if others follow all the time.
const PATIENCE: Duration = Duration::from_secs(3);

/// As many as Linux follows.
const MAX_LINKS: usize = 40;

pub(super) struct Watch {
    /// `None` where the system has no watcher to give; the log has said so.
    watcher: Option<RecommendedWatcher>,
    event: Arc<Notify>,
    /// The paths whose events count.
    relevant: Arc<Mutex<HashSet<PathBuf>>>,
    folders: BTreeSet<PathBuf>,
    files: Vec<PathBuf>,
    /// Of the contents when they were last looked at.
    seen: Contents,
}

/// A digest of the contents of each file, `None` for one that cannot be read.
type Contents = Vec<Option<Vec<u8>>>;

impl Watch {
    pub(super) fn start(files: &[PathBuf], config: Option<&Path>) -> Self {
        let event = Arc::new(Notify::new());
        let relevant: Arc<Mutex<HashSet<PathBuf>>> = Arc::default();
        let watcher = watcher(event.clone(), relevant.clone())
            .inspect_err(|error| {
                tracing::warn!(%error, "files cannot be watched: changes are seen on SIGHUP only");
            })
            .ok();
        let mut watch = Self {
            watcher,
            event,
            relevant,
            folders: BTreeSet::new(),
            files: Vec::new(),
            seen: Vec::new(),
        };
        watch.look_at(files, config);
        watch
    }

    /// Watches these files from now on, and remembers their contents.
    pub(super) fn look_at(&mut self, files: &[PathBuf], config: Option<&Path>) {
        self.files = files.to_vec();
        self.files.extend(config.map(Path::to_owned));
        self.follow();
        self.seen = contents(&self.files);
    }

    /// Completes when the contents of a file have changed.
    pub(super) async fn changed(&mut self) {
        loop {
            self.event.notified().await;
            self.settle().await;
            // The links may lead elsewhere now.
            self.follow();
            let now = contents(&self.files);
            if now != self.seen {
                self.seen = now;
                return;
            }
        }
    }

    async fn settle(&self) {
        let patience = Instant::now() + PATIENCE;
        loop {
            let quiet = sleep(QUIET);
            tokio::select! {
                () = quiet => return,
                more = timeout_at(patience, self.event.notified()) => if more.is_err() {
                    return;
                }
            }
        }
    }

    /// Watches the folders on the way to each file.
    fn follow(&mut self) {
        let mut relevant = HashSet::new();
        let mut needed = BTreeSet::new();
        for file in &self.files {
            let way = way_to(file);
            if let Some(folder) = way.last().and_then(|last| last.parent()) {
                needed.insert(folder.to_owned());
            }
            relevant.extend(way);
        }
        let folders: BTreeSet<PathBuf> = relevant
            .iter()
            .filter_map(|path| path.parent())
            .map(Path::to_owned)
            .collect();
        *self.relevant.lock().unwrap_or_else(PoisonError::into_inner) = relevant;
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        for gone in self.folders.difference(&folders) {
            // It may not exist any more.
            let _ = watcher.unwatch(gone);
        }
        for folder in &folders {
            // Those watched already too: at the same path there may be another folder now.
            let watched = watcher.watch(folder, RecursiveMode::NonRecursive);
            match watched {
                Ok(()) => {}
                Err(error) if needed.contains(folder) && !self.folders.contains(folder) => {
                    let folder = folder.display();
                    tracing::warn!(
                        "{folder} cannot be watched ({error}): changes there are seen on SIGHUP \
                         only"
                    );
                }
                Err(error) => tracing::debug!(folder = %folder.display(), %error, "not watched"),
            }
        }
        self.folders = folders;
    }
}

fn watcher(
    event: Arc<Notify>,
    relevant: Arc<Mutex<HashSet<PathBuf>>>,
) -> notify::Result<RecommendedWatcher> {
    notify::recommended_watcher(move |happened: notify::Result<Event>| {
        let counts = match happened {
            Ok(happened) => {
                let relevant = relevant.lock().unwrap_or_else(PoisonError::into_inner);
                happened.need_rescan()
                    || may_change(happened.kind)
                        && happened.paths.iter().any(|path| relevant.contains(path))
            }
            // Events may have been lost.
            Err(_) => true,
        };
        if counts {
            event.notify_one();
        }
    })
}

/// Reading a file, as this process does, is an event too.
fn may_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

fn contents(files: &[PathBuf]) -> Contents {
    let digest = |content: Vec<u8>| digest::digest(&digest::SHA256, &content).as_ref().to_vec();
    let read = |path: &PathBuf| std::fs::read(path).ok().map(digest);
    files.iter().map(read).collect()
}

/// Each path that is looked up on the way to a file, links included, the file itself last.
fn way_to(file: &Path) -> Vec<PathBuf> {
    let Ok(file) = std::path::absolute(file) else {
        return Vec::new();
    };
    let (mut at, mut way, mut links) = (PathBuf::from("/"), Vec::new(), 0);
    let mut rest: Vec<OsString> = reversed(&file);
    while let Some(name) = rest.pop() {
        if name == ".." {
            at.pop();
            continue;
        }
        at.push(&name);
        way.push(at.clone());
        if let Ok(target) = std::fs::read_link(&at) {
            links += 1;
            if links > MAX_LINKS {
                break;
            }
            at.pop();
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            rest.extend(reversed(&target));
        }
    }
    way
}

/// The names of a path, the last one first.
fn reversed(path: &Path) -> Vec<OsString> {
    let names = path.components().rev().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    names.collect()
}

#[cfg(test)]
mod tests;
