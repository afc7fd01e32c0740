//! Every parser gives a result for any bytes, never a panic.

use bowline_proof::{
    AccessToken, Challenge, Check, Confirmation, Expected, ExporterValue, Origin, ProofVerifier,
    Refusal, Targets, Thumbprint, Verified, Windows, challenges,
    dpop::{self, DpopCheck, DpopKey, DpopRefusal, Nonce},
    target_uri,
};
use http::{HeaderMap, HeaderValue, Method, Uri, header::WWW_AUTHENTICATE};
use proptest::{collection::vec, prelude::*};
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use serde_json::{Value, json};

use crate::fixture::{P256, base64url, sha256, time};

const NOW: u64 = 1_700_000_000;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn verify_survives_any_bytes(proof in vec(any::<u8>(), 0..300)) {
        prop_assert!(verify(&proof, "/").is_err());
    }

    #[test]
    fn verify_survives_any_text_of_three_parts(
        header in json_like(), payload in json_like(), signature in vec(any::<u8>(), 0..100),
    ) {
        let proof = [header, payload, base64url(signature)].join(".");
        prop_assert!(verify(proof.as_bytes(), "/").is_err());
    }

    #[test]
    fn verify_survives_any_signed_payload(payload in json_text(), path in ".*") {
        let proof = P256.jws("ES256", &header(), &payload);
        let _ = verify(proof.as_bytes(), &path);
    }

    /// One claim of a valid payload is anything, so that RS-6 to RS-9 are reached.
    #[test]
    fn verify_survives_any_claim_of_a_valid_payload(
        name in prop::sample::select(vec!["ath", "ekm", "iat", "jti", "htm", "htu"]),
        value in json_text(),
    ) {
        let Ok(value) = serde_json::from_str::<Value>(&value) else {
            return Ok(());
        };
        let unchanged = valid_payload();
        prop_assert!(verify(P256.jws("ES256", &header(), &unchanged.to_string()).as_bytes(), "/").is_ok());
        let mut payload = unchanged.clone();
        payload[name] = value;
        let proof = P256.jws("ES256", &header(), &payload.to_string());
        let checks: &[Check] = match name {
            "ath" => &[Check::TokenHash],
            "ekm" => &[Check::Exporter],
            "iat" => &[Check::IssuedAt],
            "jti" => &[],
            "htm" => &[Check::Method],
            _ => &[Check::TargetUri],
        };
        match verify(proof.as_bytes(), "/") {
            Ok(_) => prop_assert!(payload == unchanged || checks.is_empty() || payload[name] == "/"
                || payload[name].is_null()),
            Err(refusal) => prop_assert!(
                checks.contains(&refusal.check()) || refusal.check() == Check::ProofSyntax,
                "{name}: {refusal}"
            ),
        }
    }

    /// Only `htu` is wrong, so that it is reached.
    #[test]
    fn verify_survives_any_target(
        htu in prop_oneof![".*", "(https?://|/)[a-z@:\\[\\]%.0-9]{0,20}/?[a-z%./é?#{]{0,20}"],
        path in prop_oneof![".*", "/[a-z%./é?#{]{0,20}"],
    ) {
        let payload = json!({
            "ath": base64url(sha256(b"t")), "ekm": base64url([7; 32]), "iat": NOW, "htu": htu,
        });
        let proof = P256.jws("ES256", &header(), &payload.to_string());
        if let Err(refusal) = verify(proof.as_bytes(), &path) {
            prop_assert_eq!(refusal.check(), Check::TargetUri);
        }
    }

    #[test]
    fn dpop_survives_any_bytes(proof in vec(any::<u8>(), 0..300)) {
        prop_assert!(verify_dpop(&proof, "/").is_err());
    }

    #[test]
    fn dpop_survives_any_header(
        header in json_text(), payload in json_like(), signature in vec(any::<u8>(), 0..100),
    ) {
        let proof = [base64url(header), payload, base64url(signature)].join(".");
        prop_assert!(verify_dpop(proof.as_bytes(), "/").is_err());
    }

    /// Only the key is wrong, so that it is reached.
    #[test]
    fn dpop_survives_any_key(
        jwk in json_text(), kty in prop::sample::select(vec!["EC", "OKP", "RSA", "oct"]),
    ) {
        let header = format!(r#"{{"typ":"dpop+jwt","alg":"ES256","jwk":{jwk}}}"#);
        let _ = verify_dpop(P256.jws("ES256", &header, "{}").as_bytes(), "/");
        let with_kty = jwk.replacen('{', &format!(r#"{{"kty":"{kty}","crv":"P-256","#), 1);
        let header = format!(r#"{{"typ":"dpop+jwt","alg":"ES256","jwk":{with_kty}}}"#);
        let _ = verify_dpop(P256.jws("ES256", &header, "{}").as_bytes(), "/");
    }

    #[test]
    fn dpop_survives_any_point_and_any_rsa_key(
        x in vec(any::<u8>(), 0..50), y in vec(any::<u8>(), 0..50),
        n in vec(any::<u8>(), 250..260), e in vec(any::<u8>(), 0..10),
    ) {
        let [x, y, n, e] = [x, y, n, e].map(base64url);
        for (algorithm, jwk) in [
            ("ES256", format!(r#"{{"kty":"EC","crv":"P-256","x":"{x}","y":"{y}"}}"#)),
            ("ES384", format!(r#"{{"kty":"EC","crv":"P-384","x":"{x}","y":"{y}"}}"#)),
            ("EdDSA", format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}"}}"#)),
            ("PS256", format!(r#"{{"kty":"RSA","n":"{n}","e":"{e}"}}"#)),
            ("RS256", format!(r#"{{"kty":"RSA","n":"{n}","e":"{e}"}}"#)),
        ] {
            let header = format!(r#"{{"typ":"dpop+jwt","alg":"{algorithm}","jwk":{jwk}}}"#);
            let found = verify_dpop(P256.jws("ES256", &header, "{}").as_bytes(), "/");
            prop_assert!(found.is_err());
        }
    }

    #[test]
    fn dpop_survives_any_signed_payload(payload in json_text(), path in ".*") {
        let _ = verify_dpop(signed_dpop(&payload).as_bytes(), &path);
    }

    /// Only `htu` is wrong, so that it is reached.
    #[test]
    fn dpop_survives_any_target(
        htu in prop_oneof![".*", "(https?://|/)[a-z@:\\[\\]%.0-9]{0,20}/?[a-z%./é?#{]{0,20}"],
        path in prop_oneof![".*", "/[a-z%./é?#{]{0,20}"],
    ) {
        let payload = json!({"jti": "j", "htm": "POST", "htu": htu, "iat": NOW});
        if let Err(refusal) = verify_dpop(signed_dpop(&payload.to_string()).as_bytes(), &path) {
            prop_assert_eq!(refusal.check(), DpopCheck::TargetUri);
        }
    }

    #[test]
    fn a_nonce_survives_any_field(text in ".*", bytes in vec(any::<u8>(), 0..20)) {
        let _ = Nonce::new(&text);
        if let Ok(value) = HeaderValue::from_bytes(&bytes) {
            let _ = Nonce::from_response(&HeaderMap::from_iter([(dpop::NONCE_HEADER, value)]));
        }
    }

    #[test]
    fn a_dpop_key_survives_any_public_key(
        position in any::<prop::sample::Index>(), byte in any::<u8>(),
        random in vec(any::<u8>(), 0..100),
    ) {
        let key = P256.signing_key();
        let mut der = key.public_key().unwrap().to_vec();
        let position = position.index(der.len());
        der[position] = byte;
        for der in [der, random] {
            let _ = DpopKey::with_public_key(&SubjectPublicKeyInfoDer::from(der), key.clone());
        }
    }

    #[test]
    fn a_verifier_survives_any_certificate(der in vec(any::<u8>(), 0..300)) {
        prop_assert!(ProofVerifier::new(&CertificateDer::from(der)).is_err());
    }

    #[test]
    fn a_verifier_survives_any_damaged_certificate(
        position in any::<prop::sample::Index>(), byte in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut der = P256.certificate.to_vec();
        let position = position.index(der.len());
        der[position] = byte;
        let _ = ProofVerifier::new(&CertificateDer::from(der.clone()));
        der.truncate(cut.index(der.len()));
        let _ = ProofVerifier::new(&CertificateDer::from(der));
    }

    #[test]
    fn a_token_survives_any_text(text in ".*") {
        if let Ok(token) = AccessToken::new(&*text) {
            let _ = token.confirmation();
            prop_assert_eq!(token.secret(), text);
        }
    }

    #[test]
    fn a_token_survives_any_payload(payload in json_text()) {
        let token = AccessToken::new(format!("e30.{}.c2ln", base64url(payload))).unwrap();
        if let Ok(confirmation) = token.confirmation() {
            let _ = confirmation.demand();
        }
    }

    #[test]
    fn a_token_survives_any_authorization_field(field in vec(any::<u8>(), 0..60)) {
        for field in [field.clone(), [b"Bearer ", &field[..]].concat()] {
            if let Ok(value) = HeaderValue::from_bytes(&field) {
                let _ = AccessToken::from_authorization(&value);
            }
        }
    }

    #[test]
    fn a_confirmation_survives_any_claims(text in json_text()) {
        if let Ok(claims) = serde_json::from_str::<Value>(&text)
            && let Ok(confirmation) = Confirmation::from_claims(&claims)
        {
            let _ = confirmation.demand();
        }
    }

    #[test]
    fn a_target_survives_any_uri(
        text in prop_oneof![".*", "https?://[a-z@:\\[\\]%.0-9]{0,20}/?[a-z%./é?#{]{0,20}"],
    ) {
        if let Ok(uri) = text.parse::<Uri>()
            && let Ok(target) = target_uri(&uri)
        {
            let again = target_uri(&target.parse().unwrap());
            prop_assert_eq!(again, Ok(target));
        }
        let _ = text.parse::<Origin>();
    }

    #[test]
    fn a_thumbprint_survives_any_text(text in ".{0,50}") {
        let _ = text.parse::<Thumbprint>();
    }

    #[test]
    fn challenges_survive_any_field(field in prop_oneof!["[\t -~]*", "(Bearer|[a-z\"=, \\\\])*"]) {
        if let Ok(value) = HeaderValue::from_str(&field) {
            let _ = challenges(&HeaderMap::from_iter([(WWW_AUTHENTICATE, value)]));
        }
    }

    #[test]
    fn a_challenge_with_any_value_is_one_field_and_one_challenge(value in ".*") {
        let challenge = Challenge::bearer().with("realm", &*value);
        let headers = HeaderMap::from_iter([(WWW_AUTHENTICATE, challenge.header_value())]);
        let read = challenges(&headers);
        prop_assert_eq!(read.len(), 1);
        prop_assert_eq!(read[0].params.len(), 1);
    }
}

fn header() -> String {
    format!(
        r#"{{"typ":"tls-binding-proof+jwt","alg":"ES256","x5t#S256":"{}"}}"#,
        P256.thumbprint(),
    )
}

fn valid_payload() -> Value {
    json!({
        "ath": base64url(sha256(b"t")), "ekm": base64url([7; 32]), "iat": NOW,
        "jti": "j", "htm": "POST", "htu": "https://h/",
    })
}

fn verify(proof: &[u8], path: &str) -> Result<Verified, Refusal> {
    let time = time(NOW);
    let token = AccessToken::new("t").unwrap();
    let expected = Expected {
        exporter: &ExporterValue::from_bytes([7; 32]),
        token: token.hash(),
        now: time,
        handshake_at: time,
        method: &Method::POST,
        path,
        targets: &Targets::new(["https://h".parse().unwrap()]),
        windows: &Windows::default(),
    };
    P256.verifier().verify(proof, &expected)
}

fn signed_dpop(payload: &str) -> String {
    let key = DpopKey::new(P256.signing_key()).unwrap();
    let header = format!(r#"{{"typ":"dpop+jwt","alg":"ES256","jwk":{}}}"#, key.jwk());
    P256.jws("ES256", &header, payload)
}

fn verify_dpop(proof: &[u8], path: &str) -> Result<dpop::Verified, DpopRefusal> {
    let expected = dpop::Expected {
        method: &Method::POST,
        path,
        targets: &Targets::new(["https://h".parse().unwrap()]),
        now: time(NOW),
        windows: &Windows::default(),
        token: None,
        nonces: None,
    };
    dpop::verify(proof, &expected)
}

/// Text that is often nearly JSON, with the member names that we read.
fn json_text() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f64>().prop_map(|n| n.to_string()),
        ".{0,8}".prop_map(|text| Value::String(text).to_string()),
        Just(format!("\"{}\"", base64url([7; 32]))),
        Just("\"POST\"".to_owned()),
        Just("\"/\"".to_owned()),
    ];
    let value = scalar.prop_recursive(4, 24, 6, |inner| {
        let name = prop::sample::select(vec![
            "typ", "alg", "x5t#S256", "crit", "ath", "ekm", "iat", "jti", "htm", "htu", "cnf",
            "tls_exp", "jkt", "nonce", "jwk", "kty", "x", "y", "n", "e", "d", "other",
        ]);
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            vec((name, inner), 0..8).prop_map(|members| {
                let members: Vec<_> = members
                    .iter()
                    .map(|(name, value)| format!("\"{name}\":{value}"))
                    .collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    });
    prop_oneof![9 => value, 1 => ".*"]
}

fn json_like() -> impl Strategy<Value = String> {
    prop_oneof![json_text().prop_map(base64url), "[A-Za-z0-9_=-]{0,40}"]
}
