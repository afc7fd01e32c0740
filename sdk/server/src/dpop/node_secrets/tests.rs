use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;

fn from_lines(lines: &[&str], mode: u32) -> Result<NodeSecrets, InvalidNodeSecrets> {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::atomic::{AtomicUsize, Ordering};
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("bowline-node-secrets-{}-{number}", std::process::id());
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, lines.join("\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    let secrets = NodeSecrets::from_file(&path);
    std::fs::remove_file(&path).unwrap();
    secrets
}

#[cfg(unix)]
#[test]
fn a_file_with_secrets_is_read_and_each_mistake_in_it_is_named_without_a_secret() {
    let lines: Vec<String> = (0..5).map(|byte| STANDARD.encode([byte; 32])).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let read = from_lines(&["# of today", lines[1], "", lines[0]], 0o600).unwrap();
    assert_eq!(*read.0[0], [1; 32]);
    assert_eq!(*read.0[1], [0; 32]);
    assert_eq!(format!("{read:?}"), "NodeSecrets { secrets: 2, .. }");
    for (lines, mode, message) in [
        (&[][..], 0o600, "there is no secret"),
        (&lines[..], 0o600, "there are 5 secrets"),
        (&[lines[0], lines[0]], 0o600, "line 2 repeats"),
        (&["c2hvcnQ="], 0o600, "line 1 is not the base64 of 32 bytes"),
        (&lines[..1], 0o640, "mode 0640"),
    ] {
        let error = from_lines(lines, mode).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
        assert!(!error.contains("AAAA"), "{error}");
    }
    let missing = NodeSecrets::from_file("/nowhere/secrets").unwrap_err();
    assert!(missing.to_string().contains("/nowhere/secrets"));
    assert!(missing.source().is_some());
}
