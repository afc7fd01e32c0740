use serde_json::json;

use super::*;

#[test]
fn rsa_keys_under_2048_bits_are_ignored() {
    for (first, bytes, usable) in [
        (0x80, 256, 1),
        (0x7f, 256, 0),
        (0xff, 255, 0),
        (0x01, 257, 1),
        (0xff, 128, 0),
    ] {
        // With leading zeros, which must not count.
        let mut modulus = vec![0; bytes + 2];
        modulus[2] = first;
        let document = json!({ "keys": [{ "kty": "RSA", "e": "AQAB", "n": URL_SAFE_NO_PAD.encode(modulus) }] });
        let keys = KeySet::parse(document.to_string().into_bytes(), NonZeroUsize::MIN).unwrap();
        assert_eq!(keys.len(), usable, "{bytes} bytes from {first:#x}");
    }
}
