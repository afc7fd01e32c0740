//! The payload, in a proof whose signature is good.

use bowline_proof::{
    Windows,
    dpop::{DpopCheck, Nonce},
};
use serde_json::json;

use super::{Fixture, NOW, TOKEN, assert_refused, claims, header, proof, verify_claims, with};
use crate::fixture::{P256, base64url, sha256, without};

#[test]
fn a_proof_without_a_fault_is_accepted() {
    let verified = verify_claims(&claims()).unwrap();
    assert_eq!(
        (verified.jti.as_str(), verified.issued_at.as_secs()),
        ("j-1", NOW)
    );
}

#[test]
fn each_claim_is_required_and_of_its_type() {
    for claim in ["jti", "htm", "htu", "iat", "ath"] {
        assert_refused(verify_claims(&without(claims(), claim)), DpopCheck::Claims);
        for value in [json!(null), json!([]), json!(true)] {
            assert_refused(verify_claims(&with(claim, value)), DpopCheck::Claims);
        }
    }
    assert_refused(verify_claims(&with("jti", json!(""))), DpopCheck::Claims);
    assert_refused(
        verify_claims(&with("jti", json!("j".repeat(257)))),
        DpopCheck::Claims,
    );
    assert_refused(
        verify_claims(&with("nonce", json!(null))),
        DpopCheck::Claims,
    );
    assert_refused(verify_claims(&with("iat", json!(-1))), DpopCheck::Claims);
    assert_refused(verify_claims(&json!([])), DpopCheck::Claims);
    // One reader would use the first, another the last.
    let doubled = claims().to_string().replacen('{', r#"{"jti":"j-2","#, 1);
    assert_refused(
        Fixture::default().verify(&P256.jws("ES256", &header().to_string(), &doubled)),
        DpopCheck::Claims,
    );
}

#[test]
fn at_a_token_endpoint_no_ath_is_required() {
    let fixture = Fixture {
        key: None,
        ..Fixture::default()
    };
    for claims in [without(claims(), "ath"), with("ath", json!("whatever"))] {
        assert!(fixture.verify(&proof(&header(), &claims)).is_ok());
    }
}

#[test]
fn unknown_claims_are_ignored() {
    assert!(verify_claims(&with("cnf", json!({"x": 1}))).is_ok());
    assert!(verify_claims(&with("nonce", json!("of another server"))).is_ok());
}

#[test]
fn another_method_is_refused() {
    for htm in ["GET", "post", "", "POST "] {
        assert_refused(verify_claims(&with("htm", json!(htm))), DpopCheck::Method);
    }
}

#[test]
fn another_target_is_refused() {
    for htu in [
        "https://api.example.com/thing",
        "https://api.example.com/things/",
        "https://api.example.com/",
        "https://api.example.com:8443/things",
        "http://api.example.com/things",
        "https://evil.example.com/things",
        "https://api.example.com@evil.example.com/things",
        "https://user@api.example.com/things",
        "https://api.example.com/%2fthings",
        "https://api.example.com/things%",
        // The session-binding draft's example; not a URI.
        "/things",
        "things",
        "",
    ] {
        assert_refused(
            verify_claims(&with("htu", json!(htu))),
            DpopCheck::TargetUri,
        );
    }
}

/// §4.3: normalised, and its query and fragment ignored.
#[test]
fn another_spelling_of_the_target_is_accepted() {
    for htu in [
        "HTTPS://API.example.com:443/things",
        "https://api.example.com/./x/../th%69ngs",
        "https://api.example.com/things?page=2",
        "https://api.example.com/things#top",
        "http://internal:8080/things",
    ] {
        assert!(verify_claims(&with("htu", json!(htu))).is_ok(), "{htu}");
    }
}

#[test]
fn a_proof_is_accepted_from_300_s_ago_to_60_s_ahead_by_default() {
    for (iat, is_accepted) in [
        (NOW - 301, false),
        (NOW - 300, true),
        (NOW + 60, true),
        (NOW + 61, false),
        (0, false),
        (u64::MAX, false),
    ] {
        let found = verify_claims(&with("iat", json!(iat)));
        assert_eq!(found.is_ok(), is_accepted, "{iat}");
        if !is_accepted {
            assert_refused(found, DpopCheck::IssuedAt);
        }
    }
    let second = std::time::Duration::from_secs(1);
    let mut windows = Windows::default();
    windows.past = 5 * second;
    windows.future = second;
    let fixture = Fixture {
        windows,
        ..Fixture::default()
    };
    for (iat, is_accepted) in [
        (NOW - 6, false),
        (NOW - 5, true),
        (NOW + 1, true),
        (NOW + 2, false),
    ] {
        assert_eq!(
            fixture
                .verify(&proof(&header(), &with("iat", json!(iat))))
                .is_ok(),
            is_accepted
        );
    }
}

#[test]
fn a_time_may_have_a_fraction() {
    let verified = verify_claims(&with("iat", json!(NOW as f64 + 0.9))).unwrap();
    assert_eq!(verified.issued_at.as_secs(), NOW);
    assert_refused(
        verify_claims(&with("iat", json!(1e300))),
        DpopCheck::IssuedAt,
    );
}

#[test]
fn another_tokens_hash_is_refused() {
    for ath in [
        base64url(sha256(b"another-token")),
        base64url(sha256(format!("DPoP {TOKEN}").as_bytes())),
        base64url(&sha256(TOKEN.as_bytes())[..31]),
        TOKEN.to_owned(),
        String::new(),
    ] {
        assert_refused(
            verify_claims(&with("ath", json!(ath))),
            DpopCheck::TokenHash,
        );
    }
}

#[test]
fn a_required_nonce_must_be_one_that_the_server_issued() {
    let nonce = |text| Nonce::new(text).unwrap();
    let fixture = Fixture {
        nonces: Some(vec![nonce("new"), nonce("old")]),
        ..Fixture::default()
    };
    for given in ["new", "old"] {
        let verified = fixture
            .verify(&proof(&header(), &with("nonce", json!(given))))
            .unwrap();
        assert_eq!(verified.nonce.as_deref(), Some(given));
    }
    for claims in [
        claims(),
        with("nonce", json!("older")),
        with("nonce", json!("NEW")),
        with("nonce", json!("")),
    ] {
        assert_refused(fixture.verify(&proof(&header(), &claims)), DpopCheck::Nonce);
    }
    // No nonce is accepted before the server has issued one.
    let fixture = Fixture {
        nonces: Some(vec![]),
        ..Fixture::default()
    };
    assert_refused(
        fixture.verify(&proof(&header(), &with("nonce", json!("new")))),
        DpopCheck::Nonce,
    );
}

#[test]
fn a_nonce_must_match_its_syntax() {
    for text in ["!", "eyJ7S_zG.eyJH0-Z.HX4w-7v", "~", &"n".repeat(1024)] {
        assert_eq!(Nonce::new(text).unwrap().as_str(), text);
        assert_eq!(Nonce::new(text).unwrap().header_value(), text);
    }
    for text in ["", " ", "a b", "\"", "\\", "ä", "\n", &"n".repeat(1025)] {
        assert!(Nonce::new(text).is_err(), "{text:?}");
    }
}

/// §8: there must not be more than one.
#[test]
fn a_nonce_is_read_if_there_is_exactly_one() {
    let nonce_of = |fields: &[&[u8]]| {
        let mut headers = http::HeaderMap::new();
        for field in fields {
            headers.append("dpop-nonce", http::HeaderValue::from_bytes(field).unwrap());
        }
        Nonce::from_response(&headers).map(|nonce| nonce.as_str().to_owned())
    };
    assert_eq!(nonce_of(&[b"n-1"]), Some("n-1".to_owned()));
    for fields in [
        &[][..],
        &[b"n-1" as &[u8], b"n-1"],
        &[b""],
        &[b"n 1"],
        &[b"\xff"],
    ] {
        assert_eq!(nonce_of(fields), None);
    }
}
