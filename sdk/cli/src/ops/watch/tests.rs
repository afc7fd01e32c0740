use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use notify::EventKind;
use notify::event::{AccessKind, AccessMode, CreateKind};

use super::{may_change, way_to};

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder =
            std::env::temp_dir().join(format!("bowline-watch-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        Self(fs::canonicalize(folder).unwrap())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn every_link_on_the_way_is_looked_at() {
    let folder = Folder::new("kubernetes");
    let at = |name: &str| folder.0.join(name);
    fs::create_dir(at("..2026_11_26")).unwrap();
    fs::write(at("..2026_11_26/tls.crt"), "1").unwrap();
    symlink("..2026_11_26", at("..data")).unwrap();
    symlink("..data/tls.crt", at("tls.crt")).unwrap();
    let way = way_to(&at("tls.crt"));
    for looked_up in ["tls.crt", "..data", "..2026_11_26", "..2026_11_26/tls.crt"] {
        assert!(way.contains(&at(looked_up)), "{looked_up}: {way:?}");
    }
    assert_eq!(way.last(), Some(&at("..2026_11_26/tls.crt")));
}

#[test]
fn links_that_lead_up_or_round_end() {
    let folder = Folder::new("round");
    let at = |name: &str| folder.0.join(name);
    fs::create_dir(at("live")).unwrap();
    fs::create_dir(at("archive")).unwrap();
    fs::write(at("archive/cert.pem"), "1").unwrap();
    symlink("../archive/cert.pem", at("live/cert.pem")).unwrap();
    assert_eq!(
        way_to(&at("live/cert.pem")).last(),
        Some(&at("archive/cert.pem"))
    );
    symlink("round", at("round")).unwrap();
    assert!(way_to(&at("round")).len() < 100);
}

#[test]
fn reading_is_no_change() {
    assert!(!may_change(EventKind::Access(AccessKind::Open(
        AccessMode::Any
    ))));
    assert!(!may_change(EventKind::Access(AccessKind::Close(
        AccessMode::Read
    ))));
    assert!(may_change(EventKind::Access(AccessKind::Close(
        AccessMode::Write
    ))));
    assert!(may_change(EventKind::Create(CreateKind::File)));
}
