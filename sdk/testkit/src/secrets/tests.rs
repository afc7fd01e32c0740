use super::*;
use crate::pki::{KeyKind, Pki};

#[test]
fn each_secret_is_a_line_and_is_written_once() {
    let path = std::env::temp_dir().join(format!("bowline-secrets-{}", std::process::id()));
    for _ in 0..2 {
        let mut file = SecretFile::open(&path).unwrap();
        for _ in 0..3 {
            file.record("token", b"a-token").unwrap();
            file.record("key", &[0xff, 0]).unwrap();
        }
    }
    let written = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(written, "token YS10b2tlbg\nkey _wA\n".repeat(2));
}

#[test]
fn the_private_part_of_a_key_is_its_scalar() {
    let pki = Pki::new();
    for (kind, len) in [
        (KeyKind::P256, Some(32)),
        (KeyKind::P384, Some(48)),
        (KeyKind::Ed25519, Some(32)),
        (KeyKind::Rsa2048, None),
    ] {
        let key = pki.client("a", kind).key();
        let der = key.secret_der();
        assert_eq!(
            private_part(der).len(),
            len.unwrap_or(der.len()),
            "{kind:?}"
        );
    }
}

#[test]
fn the_exporter_value_is_read_from_the_proof() {
    let payload = URL_SAFE_NO_PAD.encode(r#"{"ekm":"AQID","ath":"x"}"#);
    assert_eq!(
        exporter(format!("e30.{payload}.c2ln").as_bytes()),
        Some(vec![1, 2, 3])
    );
    assert_eq!(exporter(b"no proof"), None);
}
