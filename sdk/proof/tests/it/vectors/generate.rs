//! Writes `conformance/vectors`.

use std::fs;

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{
    ALGORITHMS, Accepted, EXPORTER, HANDSHAKE_AT, JTI, NOW, ORIGIN, PATH, Refused, Request, TARGET,
    TOKEN, Vectors, exporter, mint, path, read,
};
use crate::fixture::{Identity, base64url, from_base64url, sha256, with, without};

/// Keeps the keys and certificates of existing files. ECDSA and PSS signatures differ each time.
#[test]
#[ignore = "rewrites conformance/vectors"]
fn regenerate() {
    for algorithm in ALGORITHMS {
        let path = path(algorithm);
        let (certificate_pem, private_key_pem) = if path.exists() {
            let vectors = read(algorithm);
            (vectors.certificate_pem, vectors.private_key_pem)
        } else {
            new_pair(algorithm)
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
    let other = Identity::generate(key_kind(algorithm));
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

    let doubled_claim = reusable().to_string().replacen('{', "{\"iat\":1,", 1);
    let other_x5t = base64url(sha256(&other.certificate));
    let other_ath = base64url(sha256(b"another"));
    let other_origin = "https://other.example.com/v1/mcp";
    let other_path = "https://mcp.example.com/v1/other";
    let signed_by_other = other.jws(algorithm, &good_header.to_string(), &reusable().to_string());
    let protected = input.split_once('.').unwrap().0;
    let payload_changed = [protected, &base64url(per_request().to_string()), signature].join(".");

    let mut groups = vec![
        (
            "RS-5 proof_syntax",
            vec![
                ("not_a_jws", "proof".to_owned()),
                ("no_signature_part", input.to_owned()),
                ("padded_base64", format!("{input}.{signature}=")),
                (
                    "over_8_kib",
                    of_reusable("padding", json!("a".repeat(6200))),
                ),
                (
                    "header_is_an_array",
                    jws(&json!(["tls-binding-proof+jwt"]), &reusable()),
                ),
                ("crit", of_header("crit", json!(["exp"]))),
                ("doubled_claim", of_payload(&doubled_claim)),
                ("ekm_absent", jws(&good_header, &without(reusable(), "ekm"))),
                ("iat_is_text", of_reusable("iat", json!(NOW.to_string()))),
                ("jti_empty", of_per_request("jti", json!(""))),
                (
                    "jti_too_long",
                    of_per_request("jti", json!("j".repeat(257))),
                ),
            ],
        ),
        (
            "RS-5 proof_type",
            vec![
                ("typ_of_dpop", of_header("typ", json!("dpop+jwt"))),
                ("typ_absent", of_header("typ", json!(null))),
            ],
        ),
        (
            "RS-5 proof_algorithm",
            vec![
                ("alg_none", of_header("alg", json!("none"))),
                ("alg_hmac", of_header("alg", json!("HS256"))),
                ("alg_of_another_key", of_header("alg", json!(misfit))),
            ],
        ),
        (
            "RS-5 proof_thumbprint",
            vec![(
                "x5t_of_another_certificate",
                of_header("x5t#S256", json!(other_x5t)),
            )],
        ),
        (
            "RS-5 proof_signature",
            vec![
                ("signed_by_another_key", signed_by_other),
                ("payload_changed", payload_changed),
            ],
        ),
        (
            "RS-6 exporter",
            vec![
                (
                    "ekm_of_another_connection",
                    of_reusable("ekm", json!(base64url([7; 32]))),
                ),
                (
                    "ekm_too_short",
                    of_reusable("ekm", json!(base64url([0; 31]))),
                ),
            ],
        ),
        (
            "RS-7 token_hash",
            vec![("ath_of_another_token", of_reusable("ath", json!(other_ath)))],
        ),
        (
            "RS-8 issued_at",
            vec![
                (
                    "per_request_too_old",
                    of_per_request("iat", json!(NOW - 301)),
                ),
                ("per_request_ahead", of_per_request("iat", json!(NOW + 61))),
                (
                    "older_than_the_connection",
                    of_reusable("iat", json!(HANDSHAKE_AT - 301)),
                ),
                (
                    "iat_with_a_fraction",
                    of_reusable("iat", json!(NOW as f64 + 0.5)),
                ),
            ],
        ),
        (
            "RS-9 method",
            vec![
                ("htm_of_another_method", of_per_request("htm", json!("GET"))),
                ("htm_in_lower_case", of_per_request("htm", json!("post"))),
            ],
        ),
        (
            "RS-9 target_uri",
            vec![
                (
                    "htu_of_another_origin",
                    of_per_request("htu", json!(other_origin)),
                ),
                (
                    "htu_of_another_path",
                    of_per_request("htu", json!(other_path)),
                ),
                (
                    "htu_with_a_query",
                    of_per_request("htu", json!(format!("{TARGET}?x=1"))),
                ),
            ],
        ),
    ];
    if algorithm.starts_with("ES") {
        let fixed = from_base64url(signature);
        let integers = fixed
            .chunks(fixed.len() / 2)
            .map(|part| [&[2, part.len() as u8 + 1, 0], part].concat());
        let content = integers.collect::<Vec<_>>().concat();
        let der = [&[0x30, content.len() as u8], &content[..]].concat();
        let proof = format!("{input}.{}", base64url(der));
        groups.push(("RS-5 proof_signature", vec![("signature_in_der", proof)]));
    }
    if let Some(other) = match algorithm {
        "PS256" => Some("RS256"),
        "RS256" => Some("PS256"),
        _ => None,
    } {
        let proof = identity.jws(other, &good_header.to_string(), &reusable().to_string());
        groups.push((
            "RS-5 proof_signature",
            vec![("signed_with_the_other_padding", proof)],
        ));
    }
    groups
        .into_iter()
        .flat_map(|(check, proofs)| {
            let (check, reason) = check.split_once(' ').unwrap();
            proofs.into_iter().map(move |(name, proof)| Refused {
                name: name.into(),
                check: check.into(),
                reason: reason.into(),
                error: "invalid_proof".into(),
                proof,
            })
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
    let ath = base64url(sha256(TOKEN.as_bytes()));
    json!({"ath": ath, "ekm": base64url(exporter(EXPORTER)), "iat": NOW})
}

pub(super) fn per_request() -> Value {
    let mut claims = reusable();
    claims["jti"] = json!(JTI);
    claims["htm"] = json!("POST");
    claims["htu"] = json!(TARGET);
    claims
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
