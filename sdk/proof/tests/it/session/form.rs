//! PR-9, and the form of a proof: a compact JWS of JSON objects.

use bowline_proof::{Check, MAX_PROOF_BYTES};
use serde_json::json;

use super::{
    EXPORTER, NOW, assert_ok, assert_refused, claims, header, per_request, proof, verify_claims,
    verify_text, verify_with, with,
};
use crate::fixture::{P256, base64url};

#[test]
fn a_proof_over_8_kib_is_refused_and_one_of_8_kib_is_not() {
    let padded = |bytes: usize| {
        let payload = with("padding", json!("a".repeat(bytes)));
        P256.jws("ES256", &header(&P256).to_string(), &payload.to_string())
    };
    let longest = (0..)
        .map(|shorter| padded(6000 - shorter))
        .find(|proof| proof.len() <= MAX_PROOF_BYTES)
        .unwrap();
    assert!(longest.len() > MAX_PROOF_BYTES - 3);
    assert_ok(verify_text(&longest));
    let too_long = padded(6010);
    assert!(too_long.len() > MAX_PROOF_BYTES);
    assert_refused(verify_text(&too_long), Check::ProofSyntax);
}

#[test]
fn what_is_no_compact_jws_is_refused() {
    let good = proof(&header(&P256), &claims());
    let (input, signature) = good.rsplit_once('.').unwrap();
    let (protected, payload) = input.split_once('.').unwrap();
    for text in [
        "",
        ".",
        "..",
        "...",
        "proof",
        input,
        &format!("{good}."),
        &format!("{good}.{signature}"),
        &format!(".{payload}.{signature}"),
        &format!("{protected}=.{payload}.{signature}"),
        &format!("{protected}.{payload}.{signature}="),
        &format!(" {good}"),
        &format!("{good}\n"),
        &format!("{good},{good}"),
    ] {
        assert_refused(verify_text(text), Check::ProofSyntax);
    }
}

#[test]
fn a_header_that_is_no_json_object_is_refused() {
    let as_array = json!([
        "tls-binding-proof+jwt",
        "ES256",
        P256.thumbprint().to_string(),
        null
    ]);
    for text in [
        &*as_array.to_string(),
        "",
        "{",
        "\"x\"",
        "null",
        "{}x",
        "[[[[",
        "\u{feff}{}",
    ] {
        let text = P256.jws("ES256", text, &claims().to_string());
        assert_refused(verify_text(&text), Check::ProofSyntax);
    }
    let deep = "[".repeat(4000);
    let text = format!("{}.e30.e30", base64url(deep));
    assert_refused(verify_text(&text), Check::ProofSyntax);
}

#[test]
fn a_doubled_header_member_is_refused() {
    for member in [
        "\"typ\":\"tls-binding-proof+jwt\"",
        "\"alg\":\"ES256\"",
        &format!("\"x5t#S256\":\"{}\"", P256.thumbprint()),
    ] {
        let header = header(&P256)
            .to_string()
            .replacen('{', &format!("{{{member},"), 1);
        let text = P256.jws("ES256", &header, &claims().to_string());
        assert_refused(verify_text(&text), Check::ProofSyntax);
    }
}

#[test]
fn crit_is_refused_whatever_it_says() {
    for crit in [json!(["b64"]), json!([]), json!(null), json!("exp")] {
        let mut header = header(&P256);
        header["crit"] = crit;
        assert_refused(verify_with(&header, &claims()), Check::ProofSyntax);
    }
}

#[test]
fn a_payload_without_a_required_claim_is_refused() {
    for claim in ["ath", "ekm", "iat"] {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(claim);
        assert_refused(verify_with(&header(&P256), &claims), Check::ProofSyntax);
    }
}

#[test]
fn a_claim_of_the_wrong_type_is_refused() {
    for (claim, value) in [
        ("ath", json!(1)),
        ("ekm", json!(null)),
        ("ekm", json!([EXPORTER])),
        ("iat", json!(NOW.to_string())),
        ("iat", json!(null)),
        ("jti", json!(1)),
        ("jti", json!(null)),
        ("htm", json!(["POST"])),
        ("htm", json!(null)),
        ("htu", json!({})),
        ("htu", json!(null)),
    ] {
        assert_refused(verify_claims(&with(claim, value)), Check::ProofSyntax);
    }
    let as_array = json!([claims()["ath"], claims()["ekm"], NOW]);
    assert_refused(verify_claims(&as_array), Check::ProofSyntax);
}

#[test]
fn a_doubled_claim_is_refused() {
    let per_request = per_request();
    for (name, value) in per_request.as_object().unwrap() {
        let member = format!("{{\"{name}\":{value},");
        let payload = per_request.to_string().replacen('{', &member, 1);
        let text = P256.jws("ES256", &header(&P256).to_string(), &payload);
        assert_refused(verify_text(&text), Check::ProofSyntax);
    }
}
