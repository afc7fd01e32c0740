//! RS-5: the header, and the signature by the key of this connection's certificate.

use bowline_proof::Check;
use serde_json::json;

use super::{
    Fixture, assert_refused, claims, header, per_request, proof, verify_text, verify_with, with,
};
use crate::fixture::{ATTACKER, ED25519, P256, P384, RSA, base64url, from_base64url, without};

#[test]
fn another_typ_is_refused() {
    for typ in [
        json!("dpop+jwt"),
        json!("JWT"),
        json!("tls-binding-proof"),
        json!("application/application/tls-binding-proof+jwt"),
        json!("text/tls-binding-proof+jwt"),
        json!(" tls-binding-proof+jwt"),
        json!(""),
        json!(null),
    ] {
        let mut header = header(&P256);
        header["typ"] = typ;
        assert_refused(verify_with(&header, &claims()), Check::ProofType);
    }
    assert_refused(
        verify_with(&without(header(&P256), "typ"), &claims()),
        Check::ProofType,
    );
}

/// The signature stays one of the right key, so that nothing but the name is wrong.
#[test]
fn an_algorithm_that_does_not_fit_the_key_is_refused() {
    for (identity, signed_as) in [
        (&P256, "ES256"),
        (&P384, "ES384"),
        (&ED25519, "EdDSA"),
        (&RSA, "PS256"),
    ] {
        for algorithm in [
            "none", "None", "HS256", "HS384", "HS512", "ES256", "ES384", "ES512", "ES256K",
            "EdDSA", "Ed25519", "Ed448", "PS256", "PS384", "RS256", "RS1", "es256", "",
        ] {
            let fits = match signed_as {
                "EdDSA" => ["EdDSA", "Ed25519"].contains(&algorithm),
                "PS256" => ["PS256", "RS256"].contains(&algorithm),
                _ => algorithm == signed_as,
            };
            if fits {
                continue;
            }
            let mut header = header(identity);
            header["alg"] = json!(algorithm);
            let text = identity.jws(signed_as, &header.to_string(), &claims().to_string());
            let refusal = identity
                .verifier()
                .verify(text.as_bytes(), &Fixture::default().expected());
            assert_refused(refusal, Check::ProofAlgorithm);
        }
    }
    assert_refused(
        verify_with(&without(header(&P256), "alg"), &claims()),
        Check::ProofAlgorithm,
    );
}

#[test]
fn an_unsecured_jws_is_refused() {
    let mut header = header(&P256);
    header["alg"] = json!("none");
    let text = format!(
        "{}.{}.",
        base64url(header.to_string()),
        base64url(claims().to_string())
    );
    assert_refused(verify_text(&text), Check::ProofAlgorithm);
}

#[test]
fn rsa_algorithms_do_not_stand_in_for_each_other() {
    for (named, signed_as) in [("PS256", "RS256"), ("RS256", "PS256")] {
        let mut header = header(&RSA);
        header["alg"] = json!(named);
        let text = RSA.jws(signed_as, &header.to_string(), &claims().to_string());
        let refusal = RSA
            .verifier()
            .verify(text.as_bytes(), &Fixture::default().expected());
        assert_refused(refusal, Check::ProofSignature);
    }
}

#[test]
fn another_certificates_thumbprint_is_refused() {
    for value in [
        json!(ATTACKER.thumbprint().to_string()),
        json!(format!("{}=", P256.thumbprint())),
        json!(P256.thumbprint().to_string().to_lowercase()),
        json!(""),
        json!(null),
    ] {
        let mut header = header(&P256);
        header["x5t#S256"] = value;
        assert_refused(verify_with(&header, &claims()), Check::ProofThumbprint);
    }
    let absent = without(header(&P256), "x5t#S256");
    assert_refused(verify_with(&absent, &claims()), Check::ProofThumbprint);
}

#[test]
fn another_keys_signature_is_refused() {
    let text = ATTACKER.jws("ES256", &header(&P256).to_string(), &claims().to_string());
    assert_refused(verify_text(&text), Check::ProofSignature);
}

#[test]
fn a_payload_changed_after_signing_is_refused() {
    let text = proof(&header(&P256), &with("padding", json!(1)));
    let mut parts: Vec<_> = text.split('.').collect();
    let other = base64url(claims().to_string());
    parts[1] = &other;
    assert_refused(verify_text(&parts.join(".")), Check::ProofSignature);
}

#[test]
fn an_ecdsa_signature_must_be_fixed_width() {
    let text = proof(&header(&P256), &claims());
    let (input, signature) = text.rsplit_once('.').unwrap();
    let fixed = from_base64url(signature);
    let integer = |part: &[u8]| [&[2, 33, 0], part].concat();
    let der = [vec![0x30, 70], integer(&fixed[..32]), integer(&fixed[32..])].concat();
    for other in [
        der,
        fixed[..63].to_vec(),
        [&fixed[..], &[0]].concat(),
        vec![0; 64],
        Vec::new(),
    ] {
        let text = format!("{input}.{}", base64url(other));
        assert_refused(verify_text(&text), Check::ProofSignature);
    }
}

#[test]
fn no_single_character_of_a_proof_can_be_changed() {
    let good = proof(&header(&P256), &per_request());
    for position in 0..good.len() {
        for replacement in [b'A', b'B', b'_', b'.', b'=', b' ', 0, 0xFF] {
            let mut changed = good.clone().into_bytes();
            if changed[position] != replacement {
                changed[position] = replacement;
                let verified = P256
                    .verifier()
                    .verify(&changed, &Fixture::default().expected());
                assert!(verified.is_err(), "{position} as {replacement}");
            }
        }
    }
}
