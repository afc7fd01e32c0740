use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

#[test]
fn a_directory_is_private_and_what_others_left_is_swept() {
    let base = std::env::temp_dir().join(format!("bowline-sweep-{}", std::process::id()));
    fs::create_dir(&base).expect("a directory");
    let used = PrivateDirectory::new_in(&base).expect("a directory");
    used.write("a.pem", b"x").expect("a file");
    assert!(used.write("a.pem", b"x").is_err(), "nothing is overwritten");
    let mode = |path: &Path| {
        fs::metadata(path)
            .expect("it is there")
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(mode(used.path()), 0o700);
    assert_eq!(mode(&used.path().join("a.pem")), 0o600);

    // As a killed run leaves it.
    let left = base.join(format!("{PREFIX}0123456789abcdef"));
    fs::create_dir(&left).expect("a directory");
    fs::write(left.join("a.pem"), "x").expect("a file");
    let elsewhere = base.join("elsewhere");
    fs::create_dir(&elsewhere).expect("a directory");
    let link = base.join(format!("{PREFIX}00000000000000aa"));
    symlink(&elsewhere, &link).expect("a link");
    let file = base.join(format!("{PREFIX}00000000000000bb"));
    fs::write(&file, "x").expect("a file");

    // Somebody else's, whose name begins alike.
    let alike = base.join(format!("{PREFIX}of-mine"));
    fs::create_dir(&alike).expect("a directory");

    sweep(&base);
    assert!(!left.exists());
    for kept in [used.path(), &elsewhere, &link, &file, &alike] {
        assert!(kept.exists(), "{}", kept.display());
    }
    let path = used.path().to_owned();
    drop(used);
    assert!(!path.exists());
    fs::remove_dir_all(&base).expect("the directory");
}
