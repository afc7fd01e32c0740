use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;

const A: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const B: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

fn keys(lines: &[&str]) -> Result<TicketKeys, TlsError> {
    let keys = key_lines::parse(lines.join("\n").as_bytes()).map_err(wrong)?;
    TicketKeys::new(&keys, "keys")
}

#[test]
fn a_ticket_is_read_with_each_key_of_the_file_and_with_no_other() {
    let old = keys(&[A, B]).unwrap();
    let new = keys(&["# replaced today", B, "", A]).unwrap();
    let ticket = old.encrypt(b"a session").unwrap();
    assert_eq!(new.decrypt(&ticket).as_deref(), Some(&b"a session"[..]));
    assert_ne!(
        old.encrypt(b"a session").unwrap(),
        ticket,
        "each has a nonce of its own"
    );

    let others = keys(&[B, &STANDARD.encode([2; 32])]).unwrap();
    assert_eq!(others.decrypt(&ticket), None);
    for cut in 0..ticket.len() {
        assert_eq!(old.decrypt(&ticket[..cut]), None);
    }
    for index in 0..ticket.len() {
        let mut changed = ticket.clone();
        changed[index] ^= 1;
        assert_eq!(old.decrypt(&changed), None, "byte {index}");
    }
}

#[test]
fn what_is_wrong_with_the_keys_is_said_without_a_key() {
    let many: Vec<String> = (0..9).map(|byte| STANDARD.encode([byte; 32])).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for (lines, message) in [
        (&[][..], "at least two keys"),
        (&[A], "at least two keys"),
        (&[A, A], "line 2 repeats a key"),
        (&[A, "c2hvcnQ="], "line 2 is not the base64 of 32 bytes"),
        (&[A, "%%%"], "line 2 is not the base64 of 32 bytes"),
        (&many, "there are 9 keys"),
    ] {
        let error = keys(lines).unwrap_err();
        assert_eq!(error.kind(), TlsErrorKind::TicketKeys);
        assert!(error.to_string().contains(message), "{error}");
        assert!(!error.to_string().contains(A), "{error}");
    }
}

#[cfg(unix)]
#[test]
fn rs_1_a_file_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let path = std::env::temp_dir().join(format!("bowline-ticket-keys-{}", std::process::id()));
    std::fs::write(&path, format!("{A}\n{B}\n")).unwrap();
    let with_mode = |mode| {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        TicketKeys::from_file(&path).map_err(|error| error.to_string())
    };
    let refused = with_mode(0o640).unwrap_err();
    let accepted = with_mode(0o600);
    std::fs::remove_file(&path).unwrap();
    assert!(refused.contains("mode 0640"), "{refused}");
    assert!(accepted.is_ok());
    assert_eq!(
        TicketKeys::from_file(&path).unwrap_err().kind(),
        TlsErrorKind::Unreadable
    );
}
