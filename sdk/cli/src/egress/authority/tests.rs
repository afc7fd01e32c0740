use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::*;

fn authority() -> Authority {
    Authority::new(["tools.example", "api.example"]).expect("an authority")
}

/// A directory that goes with it.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("bowline-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        Self(dir)
    }

    fn open(&self, names: &[&str]) -> Result<Authority, AuthorityError> {
        Authority::open(&self.0, names.iter().copied())
    }

    fn roots(&self) -> usize {
        let text = fs::read_to_string(self.0.join("root.pem")).expect("the roots");
        text.matches("BEGIN CERTIFICATE").count()
    }

    /// The files with keys.
    fn pairs(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.0).expect("the directory");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        paths.filter(|path| !path.ends_with("root.pem")).collect()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_name_that_is_not_allowed_gets_no_leaf() {
    let authority = authority();
    for name in [
        "other.example",
        "www.tools.example",
        "example",
        "*.tools.example",
        "127.0.0.1",
    ] {
        assert!(authority.leaf(name, SystemTime::now()).is_err(), "{name}");
    }
}

#[test]
fn a_leaf_is_issued_anew_in_the_middle_of_its_life() {
    let authority = authority();
    let now = SystemTime::now();
    let first = authority.leaf("api.example", now).expect("a leaf");
    let soon = authority
        .leaf("api.example", now + LEAF_USE - HOUR)
        .expect("a leaf");
    assert!(Arc::ptr_eq(&first, &soon));
    let later = authority
        .leaf("api.example", now + LEAF_USE)
        .expect("a leaf");
    assert!(!Arc::ptr_eq(&first, &later));
    let set_back = authority.leaf("api.example", now).expect("a leaf");
    assert!(!Arc::ptr_eq(&later, &set_back), "the clock was set back");
}

#[test]
fn no_debug_shows_a_key() {
    let text = format!("{:?}", authority());
    assert_eq!(
        text,
        r#"Authority { names: ["api.example", "tools.example"], .. }"#
    );
}

#[test]
fn gw_6_a_kept_authority_is_the_same_after_a_restart() {
    let dir = Dir::new("authority-kept");
    let first = dir.open(&["tools.example"]).expect("an authority");
    let root = first.root();
    let text = crate::causes::with_causes(&dir.open(&["tools.example"]).expect_err("locked"));
    assert!(text.contains("another egress"), "{text}");
    drop(first);
    let second = dir.open(&["tools.example"]).expect("an authority");
    assert_eq!(second.root(), root);
    assert_eq!((dir.roots(), dir.pairs().len()), (1, 1));
    let mode = |path: &PathBuf| fs::metadata(path).expect("a file").permissions().mode() & 0o777;
    assert_eq!(mode(&dir.0), 0o700);
    assert_eq!(mode(&dir.pairs()[0]), 0o600);
    let root = fs::read_to_string(dir.0.join("root.pem")).expect("the roots");
    assert!(!root.contains("PRIVATE KEY"));
}

#[test]
fn gw_6_a_new_pair_comes_30_days_before_the_old_one_ends_and_is_used_when_it_has_to_be() {
    let dir = Dir::new("authority-overlap");
    let authority = dir.open(&["tools.example"]).expect("an authority");
    let (now, root) = (SystemTime::now(), authority.root());
    let names = || ["tools.example"];
    let issuer = |at: SystemTime| {
        let leaf = authority.leaf("tools.example", at).expect("a leaf");
        leaf.cert[1].clone()
    };
    let first = issuer(now);
    assert!(!authority.be_for(names(), now + 59 * DAY).expect("kept"));
    assert_eq!(dir.roots(), 1);
    assert!(authority.be_for(names(), now + 61 * DAY).expect("kept"));
    assert_eq!((dir.roots(), dir.pairs().len()), (2, 2));
    assert_ne!(authority.root(), root);
    // Agents that started before know the first root alone.
    assert_eq!(issuer(now + 61 * DAY), first);
    assert_eq!(issuer(now + 88 * DAY), first);
    assert_ne!(issuer(now + 90 * DAY), first);
    assert!(!authority.be_for(names(), now + 91 * DAY).expect("kept"));
    assert_eq!((dir.roots(), dir.pairs().len()), (1, 1));
}

#[test]
fn gw_6_other_names_need_another_root_and_no_pair_may_sign_for_a_name_of_before() {
    let dir = Dir::new("authority-names");
    let authority = dir.open(&["a.example"]).expect("an authority");
    let (now, first) = (SystemTime::now(), authority.root());
    assert!(
        authority
            .be_for(["a.example", "b.example"], now)
            .expect("kept")
    );
    assert_eq!(dir.roots(), 2);
    assert!(authority.leaf("b.example", now).is_ok());
    assert!(authority.be_for(["b.example"], now).expect("kept"));
    assert_eq!(dir.roots(), 1);
    assert_ne!(authority.root(), first);
    assert!(authority.leaf("a.example", now).is_err());
}

#[test]
fn a_directory_that_others_can_write_to_is_refused() {
    let dir = Dir::new("authority-open");
    fs::create_dir(&dir.0).expect("a directory");
    fs::set_permissions(&dir.0, PermissionsExt::from_mode(0o777)).expect("its mode");
    assert!(dir.open(&["a.example"]).is_err());
    fs::set_permissions(&dir.0, PermissionsExt::from_mode(0o755)).expect("its mode");
    dir.open(&["a.example"]).expect("an authority");
    // What is no pair is left out and removed.
    fs::write(dir.0.join("pair-1.pem"), "no pair").expect("a file");
    dir.open(&["a.example"]).expect("an authority");
    assert_eq!(dir.pairs().len(), 1);
}
