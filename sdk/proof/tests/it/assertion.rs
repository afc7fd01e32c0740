//! Client assertions (RFC 7523): what they say, and that aws-lc verifies them.

use std::time::Duration;

use aws_lc_rs::signature;
use bowline_proof::{Algorithm, AssertionClaims, AssertionKey, KeyErrorKind};
use serde_json::{Value, json};

use crate::fixture::{Identity, P256, from_base64url, minted_algorithms, time};

fn claims(at: u64) -> AssertionClaims<'static> {
    AssertionClaims {
        client_id: "agent",
        audience: "https://as.example.com",
        issued_at: time(at),
        lifetime: Duration::from_secs(60),
    }
}

fn part(assertion: &str, number: usize) -> Value {
    serde_json::from_slice(&from_base64url(assertion.split('.').nth(number).unwrap())).unwrap()
}

/// Verified by aws-lc directly.
fn is_signed_by(identity: &Identity, algorithm: Algorithm, assertion: &str) -> bool {
    let (input, encoded) = assertion.rsplit_once('.').unwrap();
    let certificate = identity.x509();
    let verification: &dyn signature::VerificationAlgorithm = match algorithm {
        Algorithm::Es256 => &signature::ECDSA_P256_SHA256_FIXED,
        Algorithm::Es384 => &signature::ECDSA_P384_SHA384_FIXED,
        Algorithm::EdDsa => &signature::ED25519,
        _ => &signature::RSA_PSS_2048_8192_SHA256,
    };
    let key = &certificate.public_key().subject_public_key.data;
    signature::UnparsedPublicKey::new(verification, key)
        .verify(input.as_bytes(), &from_base64url(encoded))
        .is_ok()
}

#[test]
fn an_assertion_names_the_client_the_server_and_its_time_and_is_signed_by_the_key() {
    for (identity, algorithm) in minted_algorithms() {
        let keys = [
            AssertionKey::new(identity.signing_key()).unwrap(),
            identity.proof_key().assertion_key(),
        ];
        for key in keys {
            assert_eq!(key.algorithm(), algorithm);
            let assertion = key.sign(&claims(1_780_000_000)).unwrap();
            assert_eq!(
                part(&assertion, 0),
                json!({ "typ": "client-authentication+jwt", "alg": algorithm.name() })
            );
            let payload = part(&assertion, 1);
            let jti = payload["jti"].as_str().unwrap().to_owned();
            assert_eq!(from_base64url(&jti).len(), 16);
            assert_eq!(
                payload,
                json!({
                    "iss": "agent",
                    "sub": "agent",
                    "aud": "https://as.example.com",
                    "iat": 1_780_000_000,
                    "exp": 1_780_000_060,
                    "jti": jti,
                })
            );
            assert!(is_signed_by(identity, algorithm, &assertion));
            assert_ne!(
                part(&key.sign(&claims(1)).unwrap(), 1)["jti"],
                payload["jti"]
            );
        }
    }
}

#[test]
fn a_kid_is_in_the_header_if_one_is_given() {
    let key = AssertionKey::new(P256.signing_key())
        .unwrap()
        .with_kid("2026-11");
    assert_eq!(part(&key.sign(&claims(0)).unwrap(), 0)["kid"], "2026-11");
}

#[test]
fn debug_shows_no_key_and_a_file_without_a_key_is_refused() {
    let key = AssertionKey::new(P256.signing_key()).unwrap().with_kid("k");
    assert_eq!(
        format!("{key:?}"),
        r#"AssertionKey { algorithm: Es256, kid: Some("k"), .. }"#
    );
    let nonsense = rustls_pki_types::PrivatePkcs8KeyDer::from(vec![1, 2, 3]).into();
    let error = AssertionKey::from_der(&nonsense).unwrap_err();
    assert_eq!(error.kind(), KeyErrorKind::BadPrivateKey);
}
