use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::{STEP, Stamp, Watch};

const WRITTEN: &str = "0123456789";

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder =
            std::env::temp_dir().join(format!("bowline-watch-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Whether the change is seen, and then nothing more. On tokio's own clock: the files are real, and no
/// test waits for a second.
async fn is_seen(folder: &Folder, change: impl FnOnce(&Folder)) -> bool {
    let files = [folder.at("tls.crt"), folder.at("tls.key")];
    let mut watch = Watch::start(&files, None);
    change(folder);
    let soon = Duration::from_secs(10);
    let is_seen = tokio::time::timeout(soon, watch.changed()).await.is_ok();
    let again = tokio::time::timeout(soon, watch.changed()).await.is_ok();
    assert!(!again, "one change is seen twice");
    is_seen
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_written_replaced_removed_or_new_is_seen() {
    let folder = Folder::new("plain");
    let written = |folder: &Folder| fs::write(folder.at("tls.crt"), WRITTEN).unwrap();
    assert!(is_seen(&folder, written).await, "new");
    assert!(!is_seen(&folder, written).await, "the same once more");
    let in_place = |folder: &Folder| {
        let before = fs::metadata(folder.at("tls.crt")).unwrap();
        // As long, at once, and with the former time of modification.
        fs::write(folder.at("tls.crt"), "9876543210").unwrap();
        let file = File::options().append(true).open(folder.at("tls.crt"));
        file.unwrap()
            .set_modified(before.modified().unwrap())
            .unwrap();
    };
    assert!(is_seen(&folder, in_place).await, "in place");
    let replaced = |folder: &Folder| {
        fs::write(folder.at("new"), WRITTEN).unwrap();
        fs::rename(folder.at("new"), folder.at("tls.crt")).unwrap();
    };
    assert!(is_seen(&folder, replaced).await, "replaced");
    let removed = |folder: &Folder| fs::remove_file(folder.at("tls.crt")).unwrap();
    assert!(is_seen(&folder, removed).await, "removed");
    let others = |folder: &Folder| fs::write(folder.at("access.log"), WRITTEN).unwrap();
    assert!(!is_seen(&folder, others).await, "another file");
}

#[tokio::test(start_paused = true)]
async fn a_link_that_is_swapped_on_the_way_is_seen() {
    let folder = Folder::new("kubernetes");
    for (version, content) in [("..1", "1"), ("..2", "2")] {
        fs::create_dir(folder.at(version)).unwrap();
        for name in ["tls.crt", "tls.key"] {
            fs::write(folder.at(version).join(name), content).unwrap();
        }
    }
    symlink("..1", folder.at("..data")).unwrap();
    symlink("..data/tls.crt", folder.at("tls.crt")).unwrap();
    symlink("..data/tls.key", folder.at("tls.key")).unwrap();
    let swapped = |folder: &Folder| {
        symlink("..2", folder.at("..new")).unwrap();
        fs::rename(folder.at("..new"), folder.at("..data")).unwrap();
    };
    assert!(is_seen(&folder, swapped).await);
}

#[test]
fn what_has_just_changed_has_no_stamp() {
    let folder = Folder::new("stamp");
    fs::write(folder.at("file"), WRITTEN).unwrap();
    let metadata = fs::metadata(folder.at("file")).unwrap();
    let changed = metadata.modified().unwrap();
    let at = |now: SystemTime| Stamp::of(&metadata, now);
    assert_eq!(at(changed + STEP), None);
    assert!(at(changed + STEP + Duration::from_millis(1)).is_some());
    assert_eq!(at(changed - Duration::from_secs(1)), None, "of the future");
}
