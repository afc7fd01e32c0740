//! PR-2..PR-4: which keys may sign, that they fit their certificate, and what they sign.

use std::sync::{Arc, atomic::Ordering};

use aws_lc_rs::signature;
use bowline_proof::{
    AccessToken, ExporterValue, KeyErrorKind, MAX_PROOF_BYTES, MintErrorKind, Proof, ProofClaims,
    ProofKey, ProofVerifier, RequestClaims, Thumbprint,
};
use http::Method;
use rustls::SignatureScheme;
use rustls_pki_types::{CertificateDer, UnixTime, pem::PemObject};
use serde_json::{Value, json};

use crate::fixture::{
    ATTACKER, ED25519, FaultyKey, Identity, P256, P384, RSA, base64url, from_base64url,
    minted_algorithms, sha256,
};

#[test]
fn each_kind_of_key_mints_its_own_algorithm() {
    let names = ["ES256", "ES384", "EdDSA", "PS256"];
    for ((identity, algorithm), name) in minted_algorithms().into_iter().zip(names) {
        let key = identity.proof_key();
        assert_eq!(key.algorithm(), algorithm);
        assert_eq!(key.thumbprint(), identity.thumbprint());
        let (header, _) = parts(&mint(&key, None));
        assert_eq!(
            header,
            json!({
                "typ": "tls-binding-proof+jwt",
                "alg": name,
                "x5t#S256": base64url(sha256(&identity.certificate)),
            })
        );
    }
}

/// With short `r` and `s` among so many, conversion from DER has to pad; aws-lc verifies the
/// result.
#[test]
fn ecdsa_signatures_are_fixed_width() {
    for (identity, bytes) in [(&P256, 64), (&P384, 96)] {
        let key = identity.proof_key();
        for _ in 0..300 {
            let proof = mint(&key, None);
            let (input, encoded) = proof.as_str().rsplit_once('.').unwrap();
            let signature = from_base64url(encoded);
            assert_eq!(signature.len(), bytes);
            let algorithm = match bytes {
                64 => &signature::ECDSA_P256_SHA256_FIXED,
                _ => &signature::ECDSA_P384_SHA384_FIXED,
            };
            signature::UnparsedPublicKey::new(
                algorithm,
                &identity.x509().public_key().subject_public_key.data,
            )
            .verify(input.as_bytes(), &signature)
            .unwrap();
        }
    }
}

#[test]
fn a_reusable_proof_has_the_three_required_claims_and_no_other() {
    let (_, claims) = parts(&mint(&P256.proof_key(), None));
    assert_eq!(
        claims,
        json!({
            "ath": base64url(sha256(b"opaque-token")),
            "ekm": base64url([7; 32]),
            "iat": 1_700_000_000,
        })
    );
}

#[test]
fn a_proof_for_one_request_has_all_three_request_claims() {
    let uri = "HTTPS://API.example.com:443/a/../mcp?x=1".parse().unwrap();
    let request = RequestClaims::new(&Method::POST, &uri).unwrap();
    let (_, claims) = parts(&mint(&P256.proof_key(), Some(request)));
    assert_eq!(claims["htm"], "POST");
    assert_eq!(claims["htu"], "https://api.example.com/mcp");
    assert_eq!(from_base64url(claims["jti"].as_str().unwrap()).len(), 16);
}

#[test]
fn each_request_gets_a_jti_of_its_own() {
    let uri = "https://api.example.com/mcp".parse().unwrap();
    let jtis: std::collections::HashSet<_> = (0..1000)
        .map(|_| {
            let request = RequestClaims::new(&Method::POST, &uri).unwrap();
            format!("{request:?}")
        })
        .collect();
    assert_eq!(jtis.len(), 1000);
}

#[test]
fn a_proof_that_servers_would_refuse_for_its_length_is_not_minted() {
    let uri = format!("https://api.example.com/{}", "a".repeat(MAX_PROOF_BYTES));
    let request = RequestClaims::new(&Method::POST, &uri.parse().unwrap()).unwrap();
    let error = try_mint(&P256.proof_key(), Some(request)).unwrap_err();
    assert_eq!(error.kind(), MintErrorKind::TooLong);
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    for other in [&ATTACKER, &P384, &ED25519, &RSA] {
        for key in [other.signing_key(), FaultyKey::without_public_key(other)] {
            let error = ProofKey::new(&P256.certificate, key).unwrap_err();
            assert_eq!(error.kind(), KeyErrorKind::KeyMismatch);
            assert!(error.to_string().contains("does not fit the certificate"));
        }
    }
    let error = ProofKey::new(&RSA.certificate, P256.signing_key()).unwrap_err();
    assert_eq!(error.kind(), KeyErrorKind::KeyMismatch);
}

#[test]
fn a_key_that_does_not_expose_its_public_key_is_tried_once() {
    for identity in [&P256, &P384, &ED25519, &RSA] {
        let key = Arc::new(FaultyKey::new(identity));
        ProofKey::new(&identity.certificate, key.clone()).unwrap();
        assert_eq!(key.signatures.load(Ordering::Relaxed), 1);
    }
}

#[test]
fn a_key_that_exposes_its_public_key_is_not_made_to_sign() {
    let key = Arc::new(FaultyKey {
        exposes_public_key: true,
        ..FaultyKey::new(&P256)
    });
    ProofKey::new(&P256.certificate, key.clone()).unwrap();
    assert_eq!(key.signatures.load(Ordering::Relaxed), 0);
}

#[test]
fn a_key_that_fails_to_sign_is_reported_at_start_and_when_minting() {
    let broken = |exposes_public_key| {
        Arc::new(FaultyKey {
            exposes_public_key,
            answer: |_| Err(rustls::Error::General("the device is gone".into())),
            ..FaultyKey::new(&P256)
        })
    };
    let error = ProofKey::new(&P256.certificate, broken(false)).unwrap_err();
    assert_eq!(error.kind(), KeyErrorKind::Signing);

    let key = ProofKey::new(&P256.certificate, broken(true)).unwrap();
    let error = try_mint(&key, None).unwrap_err();
    assert_eq!(error.kind(), MintErrorKind::Signing);
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("the device is gone"));
}

#[test]
fn an_ecdsa_key_that_answers_without_der_is_an_error() {
    let raw = |exposes_public_key| {
        Arc::new(FaultyKey {
            exposes_public_key,
            answer: |_| Ok(vec![1; 64]),
            ..FaultyKey::new(&P256)
        })
    };
    let error = ProofKey::new(&P256.certificate, raw(false)).unwrap_err();
    assert_eq!(error.kind(), KeyErrorKind::Signing);
    let key = ProofKey::new(&P256.certificate, raw(true)).unwrap();
    assert_eq!(
        try_mint(&key, None).unwrap_err().kind(),
        MintErrorKind::Signing
    );
}

#[test]
fn an_rsa_key_without_pss_is_unsupported_rather_than_a_mismatch() {
    let key = Arc::new(FaultyKey {
        refuses: Some(SignatureScheme::RSA_PSS_SHA256),
        ..FaultyKey::new(&RSA)
    });
    let error = ProofKey::new(&RSA.certificate, key).unwrap_err();
    assert_eq!(error.kind(), KeyErrorKind::UnsupportedKey);
}

#[test]
fn rsa_under_2048_bits_is_refused_on_both_sides() {
    let weak = CertificateDer::from_pem_slice(include_bytes!("weak-rsa.pem")).unwrap();
    assert_eq!(verifier_error(&weak), KeyErrorKind::WeakRsa);
    let error = ProofKey::new(&weak, RSA.signing_key()).unwrap_err();
    assert_eq!(error.kind(), KeyErrorKind::WeakRsa);
}

#[test]
fn a_curve_outside_the_profile_is_unsupported() {
    let p521 = Identity::generate(&rcgen::PKCS_ECDSA_P521_SHA512);
    assert_eq!(
        verifier_error(&p521.certificate),
        KeyErrorKind::UnsupportedKey
    );
    let error = ProofKey::new(&p521.certificate, p521.signing_key()).unwrap_err();
    assert_eq!(error.kind(), KeyErrorKind::UnsupportedKey);
}

#[test]
fn a_damaged_certificate_is_refused() {
    let der = P256.certificate.to_vec();
    let truncated = der[..der.len() - 1].to_vec();
    let trailing = [der, vec![0]].concat();
    for damaged in [
        Vec::new(),
        b"not a certificate".to_vec(),
        truncated,
        trailing,
    ] {
        let damaged = CertificateDer::from(damaged);
        assert_eq!(verifier_error(&damaged), KeyErrorKind::BadCertificate);
    }
}

#[test]
fn the_verifier_knows_its_certificate() {
    let verifier = P256.verifier();
    assert_eq!(verifier.thumbprint(), P256.thumbprint());
    assert_eq!(verifier.not_before().as_secs(), 1_577_836_800);
    assert_eq!(verifier.not_after().as_secs(), 4_733_510_400);
}

#[test]
fn a_thumbprint_reads_what_it_writes_and_nothing_else() {
    let thumbprint = P256.thumbprint();
    let text = thumbprint.to_string();
    assert_eq!(text, base64url(sha256(&P256.certificate)));
    assert_eq!(text.parse(), Ok(thumbprint));
    let padded = format!("{text}=");
    let short = base64url([1; 31]);
    let long = base64url([1; 33]);
    // 43 characters whose last has bits beyond the 32nd byte: a second spelling of the same
    // bytes.
    let loose = format!("{}B", &base64url([0; 32])[..42]);
    let standard_alphabet = "+".repeat(43);
    for wrong in [&padded, &short, &long, &loose, &standard_alphabet, ""] {
        assert!(wrong.parse::<Thumbprint>().is_err(), "{wrong}");
    }
}

fn verifier_error(certificate: &CertificateDer<'_>) -> KeyErrorKind {
    ProofVerifier::new(certificate).unwrap_err().kind()
}

fn mint(key: &ProofKey, request: Option<RequestClaims>) -> Proof {
    try_mint(key, request).unwrap()
}

fn try_mint(
    key: &ProofKey,
    request: Option<RequestClaims>,
) -> Result<Proof, bowline_proof::MintError> {
    key.mint(&ProofClaims {
        token: AccessToken::new("opaque-token").unwrap().hash(),
        exporter: &ExporterValue::from_bytes([7; 32]),
        issued_at: UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_700_000_000)),
        request,
    })
}

fn parts(proof: &Proof) -> (Value, Value) {
    assert_eq!(proof.header_value(), proof.as_str());
    assert!(!proof.header_value().is_sensitive());
    crate::fixture::parts(proof.as_str())
}
