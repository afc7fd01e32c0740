use bowline::server::AccessToken;

use super::*;

const NOW: u64 = 1_767_225_600;

fn token(text: &str) -> AccessToken {
    AccessToken::new(text).unwrap()
}

fn key() -> ReceiptKey {
    ReceiptKey::new(&[7; 32]).unwrap()
}

#[test]
fn a_receipt_is_for_one_token_one_key_and_a_time() {
    let token_a = token("a");
    let receipt = key().issue(token_a.hash(), NOW + 10);
    assert_eq!(key().verify(&receipt, token_a.hash(), NOW + 9), Ok(()));
    assert_eq!(
        key().verify(&receipt, token_a.hash(), NOW + 10),
        Err(InvalidReceipt::Expired)
    );
    assert_eq!(
        key().verify(&receipt, token("b").hash(), NOW),
        Err(InvalidReceipt::OtherToken)
    );
    let other = ReceiptKey::new(&[8; 32]).unwrap();
    assert_eq!(
        other.verify(&receipt, token_a.hash(), NOW),
        Err(InvalidReceipt::Mac)
    );
}

/// The format, which another program may have to write or read.
#[test]
fn the_text_of_a_receipt() {
    let receipt = key().issue(token("a").hash(), NOW);
    let text = receipt.to_str().unwrap();
    let signed = "v=1, class=session, ath=\"ypeBEsobvcr6wjGzmiPcTaeG7_gUfE5yuYB3ha_uSLs\", \
                  exp=1767225600";
    let mac = hmac::sign(
        &hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]),
        format!("bowline receipt\n{signed}").as_bytes(),
    );
    assert_eq!(text, format!("{signed}, mac=:{}:", STANDARD.encode(mac)));
}

#[test]
fn nothing_of_a_receipt_can_be_changed() {
    let token = token("a");
    let receipt = key().issue(token.hash(), NOW);
    let text = receipt.to_str().unwrap();
    for at in 0..text.len() {
        let mut changed = text.as_bytes().to_vec();
        changed[at] ^= 1;
        let Ok(changed) = HeaderValue::from_bytes(&changed) else {
            continue;
        };
        assert!(
            key().verify(&changed, token.hash(), 0).is_err(),
            "byte {at}"
        );
    }
    for odd in ["", ":", ", mac=:", "mac=::", "v=1, mac=:AAAA:"] {
        let odd = HeaderValue::from_static(odd);
        assert!(key().verify(&odd, token.hash(), 0).is_err(), "{odd:?}");
    }
}

#[test]
fn a_receipt_ends_with_its_token_and_after_its_lifetime() {
    let lifetime = Duration::from_secs(900);
    assert_eq!(expires_at(NOW, lifetime, None), NOW + 900);
    assert_eq!(expires_at(NOW, lifetime, Some(NOW + 60)), NOW + 60);
    assert_eq!(expires_at(NOW, lifetime, Some(NOW + 9000)), NOW + 900);
}

#[test]
fn a_short_key_is_refused_and_no_key_is_shown() {
    assert!(ReceiptKey::new(&[7; 31]).unwrap_err().contains("31 bytes"));
    assert_eq!(format!("{:?}", key()), "ReceiptKey");
}
