//! The JWS header, its key, and the signature.

use bowline_proof::dpop::DpopCheck;
use serde_json::json;

use super::{
    Fixture, assert_refused, claims, header, header_for, jwk, proof, thumbprint, verify_header,
};
use crate::fixture::{
    ATTACKER, P256, RSA, accepted_algorithms, base64url, from_base64url, without,
};

#[test]
fn every_kind_of_key_and_algorithm_is_accepted() {
    for (identity, algorithm) in accepted_algorithms() {
        let text = identity.jws(
            algorithm,
            &header_for(identity, algorithm).to_string(),
            &claims().to_string(),
        );
        let fixture = Fixture {
            key: Some(thumbprint(identity)),
            ..Fixture::default()
        };
        assert_eq!(
            fixture.verify(&text).unwrap().key,
            thumbprint(identity),
            "{algorithm}"
        );
    }
}

#[test]
fn anything_but_one_compact_jws_of_json_objects_is_refused() {
    let good = proof(&header(), &claims());
    let parts: Vec<&str> = good.split('.').collect();
    for text in [
        String::new(),
        ".".into(),
        "..".into(),
        parts[..2].join("."),
        format!("{good}."),
        format!("{good}.{}", parts[2]),
        format!("{good},{good}"),
        format!("{good} "),
        format!("{}=.{}.{}", parts[0], parts[1], parts[2]),
        format!("{}.{}.{}=", parts[0], parts[1], parts[2]),
        P256.jws("ES256", "[]", &claims().to_string()),
        P256.jws("ES256", "{", &claims().to_string()),
        P256.jws("ES256", &header().to_string(), "{"),
        P256.jws("ES256", &header().to_string(), ""),
    ] {
        assert_refused(Fixture::default().verify(&text), DpopCheck::Syntax);
    }
    let long = super::with("pad", json!("p".repeat(8 * 1024)));
    assert_refused(
        Fixture::default().verify(&proof(&header(), &long)),
        DpopCheck::Syntax,
    );
    assert_refused(
        Fixture::default().verify_bytes(b"\xff.\xff.\xff"),
        DpopCheck::Syntax,
    );
}

#[test]
fn critical_extensions_are_refused() {
    for crit in [json!(["exp"]), json!([]), json!(null)] {
        let mut header = header();
        header["crit"] = crit;
        assert_refused(verify_header(&header), DpopCheck::Syntax);
    }
}

#[test]
fn another_typ_is_refused() {
    for typ in [
        "tls-binding-proof+jwt",
        "JWT",
        "dpop",
        "text/dpop+jwt",
        " dpop+jwt",
        "",
    ] {
        let mut header = header();
        header["typ"] = json!(typ);
        assert_refused(verify_header(&header), DpopCheck::Type);
    }
    assert_refused(verify_header(&without(header(), "typ")), DpopCheck::Type);
    for typ in ["DPoP+JWT", "application/dpop+jwt"] {
        let mut header = header();
        header["typ"] = json!(typ);
        assert!(verify_header(&header).is_ok(), "{typ}");
    }
}

/// The signature stays good, so that only the name is wrong.
#[test]
fn an_unknown_or_symmetric_algorithm_is_refused() {
    for algorithm in [
        "none", "None", "HS256", "HS512", "ES512", "ES256K", "PS512", "RS1", "es256", "",
    ] {
        let mut header = header();
        header["alg"] = json!(algorithm);
        assert_refused(verify_header(&header), DpopCheck::Algorithm);
    }
    assert_refused(
        verify_header(&without(header(), "alg")),
        DpopCheck::Algorithm,
    );
}

#[test]
fn an_algorithm_of_another_kind_of_key_is_refused() {
    for algorithm in ["ES384", "EdDSA", "PS256", "RS256"] {
        let mut header = header();
        header["alg"] = json!(algorithm);
        assert_refused(verify_header(&header), DpopCheck::Jwk);
    }
}

#[test]
fn a_header_without_a_usable_public_key_is_refused() {
    assert_refused(verify_header(&without(header(), "jwk")), DpopCheck::Jwk);
    let x = jwk(&P256)["x"].as_str().unwrap().to_owned();
    for (member, value) in [
        ("kty", json!("oct")),
        ("kty", json!("OKP")),
        ("kty", json!("ec")),
        ("crv", json!("P-384")),
        ("crv", json!("P-521")),
        ("crv", json!("secp256k1")),
        ("x", json!("")),
        ("x", json!(format!("{x}="))),
        ("x", json!(format!("A{x}"))),
        // Not on the curve.
        ("x", json!(base64url([1; 32]))),
        ("y", json!(base64url([0; 32]))),
    ] {
        let mut header = header();
        header["jwk"][member] = value.clone();
        assert_refused(verify_header(&header), DpopCheck::Jwk);
    }
    for member in ["kty", "crv", "x", "y"] {
        let mut header = header();
        header["jwk"] = without(header["jwk"].clone(), member);
        assert_refused(verify_header(&header), DpopCheck::Jwk);
    }
    // A wrong type, or a duplicated member: nobody can tell what was meant.
    for jwk in [json!(null), json!("x"), json!([]), json!({"kty": 1})] {
        let mut header = header();
        header["jwk"] = jwk;
        assert_refused(verify_header(&header), DpopCheck::Syntax);
    }
    let doubled = header()
        .to_string()
        .replacen("\"jwk\":{", "\"jwk\":{\"x\":\"AA\",", 1);
    let text = P256.jws("ES256", &doubled, &claims().to_string());
    assert_refused(Fixture::default().verify(&text), DpopCheck::Syntax);
}

/// Unknown members change nothing, and neither does the order: the thumbprint is over the required
/// ones.
#[test]
fn other_members_of_the_key_are_ignored() {
    let mut header = header();
    header["jwk"]["kid"] = json!("k-1");
    header["jwk"]["key_ops"] = json!(["verify"]);
    header["kid"] = json!([]);
    assert_eq!(verify_header(&header).unwrap().key, thumbprint(&P256));
}

#[test]
fn a_jwk_with_a_private_member_is_refused_whatever_its_value() {
    for member in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
        for value in [json!(base64url([7; 32])), json!(""), json!(null), json!([])] {
            let mut header = header();
            header["jwk"][member] = value;
            assert_refused(verify_header(&header), DpopCheck::PrivateKey);
        }
    }
}

#[test]
fn a_weak_rsa_key_is_refused() {
    let n = from_base64url(jwk(&RSA)["n"].as_str().unwrap());
    let mut weak = header_for(&RSA, "PS256");
    // One bit short of 2048.
    weak["jwk"]["n"] = json!(base64url([&[0x7F], &n[1..]].concat()));
    let text = RSA.jws("PS256", &weak.to_string(), &claims().to_string());
    let fixture = Fixture {
        key: None,
        ..Fixture::default()
    };
    assert_refused(fixture.verify(&text), DpopCheck::Jwk);
}

#[test]
fn a_signature_by_another_key_is_refused() {
    let text = ATTACKER.jws("ES256", &header().to_string(), &claims().to_string());
    assert_refused(Fixture::default().verify(&text), DpopCheck::Signature);

    let good = proof(&header(), &claims());
    let (input, signature) = good.rsplit_once('.').unwrap();
    let bytes = from_base64url(signature);
    let mut flipped = bytes.clone();
    flipped[40] ^= 1;
    for wrong in [
        flipped,
        bytes[..63].to_vec(),
        [&bytes[..], &[0]].concat(),
        vec![0; 64],
        vec![],
    ] {
        let text = format!("{input}.{}", base64url(wrong));
        assert_refused(Fixture::default().verify(&text), DpopCheck::Signature);
    }
    // The payload of another proof.
    let other = proof(&header(), &super::with("jti", json!("j-2")));
    let payload = other.split('.').nth(1).unwrap();
    let header = good.split('.').next().unwrap();
    assert_refused(
        Fixture::default().verify(&format!("{header}.{payload}.{signature}")),
        DpopCheck::Signature,
    );
}

/// The attacker who stole a token has another key, and can make a good proof with it.
#[test]
fn a_good_proof_by_another_key_than_the_tokens_is_refused() {
    let text = ATTACKER.jws(
        "ES256",
        &header_for(&ATTACKER, "ES256").to_string(),
        &claims().to_string(),
    );
    assert_refused(Fixture::default().verify(&text), DpopCheck::KeyBinding);
}
