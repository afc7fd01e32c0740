//! Writes `conformance/vectors`.

use std::fs;

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{
    ALGORITHMS, Accepted, EXPORTER, HANDSHAKE_AT, JTI, NOW, ORIGIN, PATH, Refused, Request, TARGET,
    TOKEN, Vectors, exporter, mint, path, read,
};
use crate::common::{Identity, base64url, from_base64url, sha256};

/// Keeps the keys and certificates that are there. ECDSA and PSS signatures come out different each
/// time.
#[test]
#[ignore = "rewrites conformance/vectors"]
fn regenerate() {
    for algorithm in ALGORITHMS {
        let path = path(algorithm);
        let (certificate_pem, private_key_pem) = match path.exists() {
            true => {
                let vectors = read(algorithm);
                (vectors.certificate_pem, vectors.private_key_pem)
            }
            false => new_pair(algorithm),
        };
        let identity = Identity::from_pem(&certificate_pem, &private_key_pem);
        let vectors = Vectors {
            about: "TLS-session-binding proofs; see README.md. The private key is for tests only."
                .into(),
            algorithm: algorithm.into(),
            certificate_pem,
            private_key_pem,
            thumbprint: base64url(sha256(&identity.certificate)),
            access_token: TOKEN.into(),
            exporter_hex: EXPORTER.into(),
            now: NOW,
            handshake_at: HANDSHAKE_AT,
            request: Request {
                method: "POST".into(),
                path: PATH.into(),
            },
            origins: vec![ORIGIN.into()],
            accepted: accepted(algorithm, &identity),
            refused: refused(algorithm, &identity),
        };
        let text = serde_json::to_string_pretty(&vectors).unwrap();
        fs::write(path, text + "\n").unwrap();
    }
}

fn accepted(algorithm: &str, identity: &Identity) -> Vec<Accepted> {
    let sign = |claims: &Value| {
        identity.jws(
            algorithm,
            &header(algorithm, identity).to_string(),
            &claims.to_string(),
        )
    };
    let mut proofs = match algorithm {
        // Verified, never minted (PR-2).
        "RS256" => vec![
            ("reusable", sign(&reusable())),
            ("per_request", sign(&per_request())),
        ],
        _ => mint(identity),
    };
    proofs.push((
        "per_request_bare_path",
        sign(&with(per_request(), "htu", PATH)),
    ));
    proofs.push(("per_request_htu_to_normalise", {
        sign(&with(
            per_request(),
            "htu",
            "HTTPS://MCP.Example.com:443/x/../%761/mcp",
        ))
    }));
    proofs.push(("jti_only", sign(&with(reusable(), "jti", JTI))));
    proofs.push(("unknown_claim", sign(&with(reusable(), "sub", "agent"))));
    proofs.push(("reusable_as_old_as_the_connection", {
        sign(&with(reusable(), "iat", HANDSHAKE_AT - 300))
    }));
    if algorithm == "EdDSA" {
        let header = with(header(algorithm, identity), "alg", "Ed25519");
        proofs.push((
            "alg_of_rfc_9864",
            identity.jws(algorithm, &header.to_string(), &reusable().to_string()),
        ));
    }
    proofs
        .into_iter()
        .map(|(name, proof)| {
            let mut parts = proof
                .split('.')
                .map(|part| serde_json::from_slice(&from_base64url(part)).unwrap_or_default());
            let (header, claims): (Value, Value) = (parts.next().unwrap(), parts.next().unwrap());
            Accepted {
                name: name.into(),
                reusable: ["jti", "htm", "htu"]
                    .iter()
                    .all(|claim| claims.get(claim).is_none()),
                header,
                claims,
                proof,
            }
        })
        .collect()
}

fn refused(algorithm: &str, identity: &Identity) -> Vec<Refused> {
    let good_header = header(algorithm, identity);
    let stranger = Identity::generate(key_kind(algorithm));
    let jws = |header: &Value, claims: &Value| {
        identity.jws(algorithm, &header.to_string(), &claims.to_string())
    };
    let of_header =
        |member: &str, value: Value| jws(&with(good_header.clone(), member, value), &reusable());
    let of_reusable =
        |claim: &str, value: Value| jws(&good_header, &with(reusable(), claim, value));
    let of_per_request =
        |claim: &str, value: Value| jws(&good_header, &with(per_request(), claim, value));
    let of_payload = |payload: &str| identity.jws(algorithm, &good_header.to_string(), payload);
    let good = jws(&good_header, &reusable());
    let (input, signature) = good.rsplit_once('.').unwrap();
    let misfit = if algorithm == "ES256" {
        "ES384"
    } else {
        "ES256"
    };

    let mut rows = vec![
        ("not_a_jws", "RS-5 proof_syntax", "proof".to_owned()),
        ("no_signature_part", "RS-5 proof_syntax", input.to_owned()),
        (
            "padded_base64",
            "RS-5 proof_syntax",
            format!("{input}.{signature}="),
        ),
        (
            "over_8_kib",
            "RS-5 proof_syntax",
            of_reusable("padding", json!("a".repeat(6200))),
        ),
        (
            "header_is_an_array",
            "RS-5 proof_syntax",
            jws(&json!(["tls-binding-proof+jwt"]), &reusable()),
        ),
        (
            "crit",
            "RS-5 proof_syntax",
            of_header("crit", json!(["exp"])),
        ),
        (
            "doubled_claim",
            "RS-5 proof_syntax",
            of_payload(&reusable().to_string().replacen('{', "{\"iat\":1,", 1)),
        ),
        (
            "ekm_absent",
            "RS-5 proof_syntax",
            jws(&good_header, &json!({"ath": reusable()["ath"], "iat": NOW})),
        ),
        (
            "iat_is_text",
            "RS-5 proof_syntax",
            of_reusable("iat", json!(NOW.to_string())),
        ),
        (
            "jti_empty",
            "RS-5 proof_syntax",
            of_per_request("jti", json!("")),
        ),
        (
            "jti_too_long",
            "RS-5 proof_syntax",
            of_per_request("jti", json!("j".repeat(257))),
        ),
        (
            "typ_of_dpop",
            "RS-5 proof_type",
            of_header("typ", json!("dpop+jwt")),
        ),
        (
            "typ_absent",
            "RS-5 proof_type",
            of_header("typ", json!(null)),
        ),
        (
            "alg_none",
            "RS-5 proof_algorithm",
            of_header("alg", json!("none")),
        ),
        (
            "alg_hmac",
            "RS-5 proof_algorithm",
            of_header("alg", json!("HS256")),
        ),
        (
            "alg_of_another_key",
            "RS-5 proof_algorithm",
            of_header("alg", json!(misfit)),
        ),
        (
            "x5t_of_another_certificate",
            "RS-5 proof_thumbprint",
            of_header("x5t#S256", json!(base64url(sha256(&stranger.certificate)))),
        ),
        (
            "signed_by_another_key",
            "RS-5 proof_signature",
            stranger.jws(algorithm, &good_header.to_string(), &reusable().to_string()),
        ),
        (
            "payload_changed",
            "RS-5 proof_signature",
            [
                input.split_once('.').unwrap().0,
                &base64url(per_request().to_string()),
                signature,
            ]
            .join("."),
        ),
        (
            "ekm_of_another_connection",
            "RS-6 exporter",
            of_reusable("ekm", json!(base64url([7; 32]))),
        ),
        (
            "ekm_too_short",
            "RS-6 exporter",
            of_reusable("ekm", json!(base64url([0; 31]))),
        ),
        (
            "ath_of_another_token",
            "RS-7 token_hash",
            of_reusable("ath", json!(base64url(sha256(b"another")))),
        ),
        (
            "per_request_too_old",
            "RS-8 issued_at",
            of_per_request("iat", json!(NOW - 301)),
        ),
        (
            "per_request_ahead",
            "RS-8 issued_at",
            of_per_request("iat", json!(NOW + 61)),
        ),
        (
            "older_than_the_connection",
            "RS-8 issued_at",
            of_reusable("iat", json!(HANDSHAKE_AT - 301)),
        ),
        (
            "iat_with_a_fraction",
            "RS-8 issued_at",
            of_reusable("iat", json!(NOW as f64 + 0.5)),
        ),
        (
            "htm_of_another_method",
            "RS-9 method",
            of_per_request("htm", json!("GET")),
        ),
        (
            "htm_in_lower_case",
            "RS-9 method",
            of_per_request("htm", json!("post")),
        ),
        (
            "htu_of_another_origin",
            "RS-9 target_uri",
            of_per_request("htu", json!("https://other.example.com/v1/mcp")),
        ),
        (
            "htu_of_another_path",
            "RS-9 target_uri",
            of_per_request("htu", json!("https://mcp.example.com/v1/other")),
        ),
        (
            "htu_with_a_query",
            "RS-9 target_uri",
            of_per_request("htu", json!(format!("{TARGET}?x=1"))),
        ),
    ];
    if algorithm.starts_with("ES") {
        let fixed = from_base64url(signature);
        let integers = fixed
            .chunks(fixed.len() / 2)
            .map(|part| [&[2, part.len() as u8 + 1, 0], part].concat());
        let content = integers.collect::<Vec<_>>().concat();
        let der = [&[0x30, content.len() as u8], &content[..]].concat();
        rows.push((
            "signature_in_der",
            "RS-5 proof_signature",
            format!("{input}.{}", base64url(der)),
        ));
    }
    if let Some(other) = match algorithm {
        "PS256" => Some("RS256"),
        "RS256" => Some("PS256"),
        _ => None,
    } {
        let signed = identity.jws(other, &good_header.to_string(), &reusable().to_string());
        rows.push((
            "signed_with_the_other_padding",
            "RS-5 proof_signature",
            signed,
        ));
    }
    rows.into_iter()
        .map(|(name, check, proof)| {
            let (check, reason) = check.split_once(' ').unwrap();
            Refused {
                name: name.into(),
                check: check.into(),
                reason: reason.into(),
                proof,
            }
        })
        .collect()
}

fn header(algorithm: &str, identity: &Identity) -> Value {
    json!({
        "typ": "tls-binding-proof+jwt",
        "alg": algorithm,
        "x5t#S256": base64url(sha256(&identity.certificate)),
    })
}

fn reusable() -> Value {
    json!({"ath": base64url(sha256(TOKEN.as_bytes())), "ekm": base64url(exporter(EXPORTER)), "iat": NOW})
}

fn per_request() -> Value {
    let mut claims = reusable();
    claims["jti"] = json!(JTI);
    claims["htm"] = json!("POST");
    claims["htu"] = json!(TARGET);
    claims
}

fn with(mut object: Value, member: &str, value: impl Into<Value>) -> Value {
    object[member] = value.into();
    object
}

fn new_pair(algorithm: &str) -> (String, String) {
    let identity = Identity::generate(key_kind(algorithm));
    let pem = |label: &str, der: &[u8]| {
        let text = STANDARD.encode(der);
        let lines: Vec<_> = text
            .as_bytes()
            .chunks(64)
            .map(|line| str::from_utf8(line).unwrap())
            .collect();
        format!(
            "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
            lines.join("\n")
        )
    };
    let mut private_key = identity.pkcs8.secret_pkcs8_der().to_vec();
    if algorithm == "EdDSA" {
        // Version 1 of PKCS #8: not every library reads version 2.
        let key = Ed25519KeyPair::from_pkcs8(&private_key).unwrap();
        private_key = key.to_pkcs8v1().unwrap().as_ref().to_vec();
    }
    (
        pem("CERTIFICATE", &identity.certificate),
        pem("PRIVATE KEY", &private_key),
    )
}

fn key_kind(algorithm: &str) -> &'static rcgen::SignatureAlgorithm {
    match algorithm {
        "ES256" => &rcgen::PKCS_ECDSA_P256_SHA256,
        "ES384" => &rcgen::PKCS_ECDSA_P384_SHA384,
        "EdDSA" => &rcgen::PKCS_ED25519,
        _ => &rcgen::PKCS_RSA_SHA256,
    }
}
