//! DPoP keys: their sources, their thumbprints, the proofs that they sign.

use std::collections::HashSet;

use bowline_proof::{
    Algorithm, KeyErrorKind, MAX_PROOF_BYTES, MintErrorKind, RequestClaims,
    dpop::{Claims, DpopKey, Nonce, Proof},
};
use http::{Method, Uri};
use rustls_pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};
use serde_json::{Value, json};

use super::{Fixture, KEY, NOW, TOKEN, jwk, thumbprint};
use crate::fixture::{
    ATTACKER, FaultyKey, Identity, P256, P384, base64url, from_base64url, minted_algorithms,
    sha256, time,
};

const URI: &str = "HTTPS://API.example.com:443/things?page=2";

#[test]
fn what_the_client_mints_the_server_accepts() {
    for (identity, algorithm) in minted_algorithms() {
        let key = DpopKey::from_pkcs8(&identity.pkcs8).unwrap();
        assert_eq!(key.algorithm(), algorithm);
        assert_eq!(key.thumbprint(), thumbprint(identity));
        assert_eq!(
            serde_json::from_str::<Value>(key.jwk()).unwrap(),
            jwk(identity)
        );
        let fixture = Fixture {
            key: Some(key.thumbprint()),
            ..Fixture::default()
        };
        let verified = fixture.verify(mint(&key, None).as_str()).unwrap();
        assert_eq!(verified.key, key.thumbprint(), "{algorithm}");
    }
}

#[test]
fn a_proof_says_what_rfc_9449_asks_for_and_no_more() {
    let (header, claims) = parts(&mint(&KEY, None));
    assert_eq!(
        header,
        json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": jwk(&P256)})
    );
    let jti = claims["jti"].as_str().unwrap().to_owned();
    let expected = json!({
        "jti": jti,
        "htm": "POST",
        "htu": "https://api.example.com/things",
        "iat": NOW,
        "ath": base64url(sha256(TOKEN.as_bytes())),
    });
    assert_eq!(claims, expected);
    assert_eq!(from_base64url(&jti).len(), 16, "128 bits");

    let nonce = Nonce::new("n-1").unwrap();
    assert_eq!(parts(&mint(&KEY, Some(&nonce))).1["nonce"], "n-1");
    let request = request();
    let at_token_endpoint = Claims {
        token: None,
        ..claims_for(&request, None)
    };
    let (_, claims) = parts(&KEY.mint(&at_token_endpoint).unwrap());
    assert_eq!(claims.get("ath"), None);
}

#[test]
fn no_two_proofs_have_the_same_jti() {
    let distinct: HashSet<String> = (0..100)
        .map(|_| parts(&mint(&KEY, None)).1["jti"].to_string())
        .collect();
    assert_eq!(distinct.len(), 100);
}

#[test]
fn generated_keys_are_new_each_time() {
    let (one, two) = (DpopKey::generate().unwrap(), DpopKey::generate().unwrap());
    assert_ne!(one.thumbprint(), two.thumbprint());
    assert_eq!(one.algorithm(), Algorithm::Es256);
    let fixture = Fixture {
        key: Some(one.thumbprint()),
        ..Fixture::default()
    };
    assert!(fixture.verify(mint(&one, None).as_str()).is_ok());
    assert!(fixture.verify(mint(&two, None).as_str()).is_err());
}

#[test]
fn only_a_key_in_memory_that_is_no_rsa_key_is_fast_unless_its_owner_says_so() {
    assert!(DpopKey::generate().unwrap().is_fast());
    for (identity, algorithm) in minted_algorithms() {
        let in_memory = DpopKey::from_pkcs8(&identity.pkcs8).unwrap();
        assert_eq!(
            in_memory.is_fast(),
            algorithm != Algorithm::Ps256,
            "{algorithm}"
        );
        let unknown = DpopKey::new(identity.signing_key()).unwrap();
        assert!(!unknown.is_fast(), "{algorithm}");
        assert!(unknown.with_fast(true).is_fast());
        assert!(!in_memory.with_fast(false).is_fast());
    }
}

#[test]
fn a_proof_is_a_sensitive_field() {
    let proof = mint(&KEY, None);
    assert!(proof.header_value().is_sensitive());
    assert_eq!(proof.header_value(), proof.as_str());
}

#[test]
fn a_key_that_does_not_expose_its_public_key_is_given_it() {
    let kind = |found: Result<DpopKey, bowline_proof::KeyError>| found.unwrap_err().kind();

    assert_eq!(
        kind(DpopKey::new(FaultyKey::without_public_key(&P256))),
        KeyErrorKind::NoPublicKey
    );
    let key =
        DpopKey::with_public_key(&spki_of(&P256), FaultyKey::without_public_key(&P256)).unwrap();
    assert_eq!(key.thumbprint(), thumbprint(&P256));
    let key =
        DpopKey::with_certificate(&P256.certificate, FaultyKey::without_public_key(&P256)).unwrap();
    assert_eq!(key.thumbprint(), thumbprint(&P256));

    assert_eq!(
        kind(DpopKey::with_public_key(
            &spki_of(&ATTACKER),
            FaultyKey::without_public_key(&P256)
        )),
        KeyErrorKind::KeyMismatch
    );
    assert_eq!(
        kind(DpopKey::with_certificate(
            &ATTACKER.certificate,
            P256.signing_key()
        )),
        KeyErrorKind::KeyMismatch
    );
    assert_eq!(
        kind(DpopKey::with_public_key(
            &spki_of(&P384),
            FaultyKey::without_public_key(&P256)
        )),
        KeyErrorKind::KeyMismatch
    );
}

#[test]
fn malformed_and_unsupported_keys_are_refused() {
    let kind = |found: Result<DpopKey, bowline_proof::KeyError>| found.unwrap_err().kind();
    let damaged = PrivatePkcs8KeyDer::from(&b"\x30\x03\x02\x01\x00"[..]);
    assert_eq!(
        kind(DpopKey::from_pkcs8(&damaged)),
        KeyErrorKind::BadPrivateKey
    );
    let mut spki = spki_of(&P256).to_vec();
    spki.push(0);
    for der in [vec![], vec![0x30, 0], spki] {
        let found =
            DpopKey::with_public_key(&SubjectPublicKeyInfoDer::from(der), P256.signing_key());
        assert_eq!(kind(found), KeyErrorKind::BadPublicKey);
    }
    let p521 = Identity::generate(&rcgen::PKCS_ECDSA_P521_SHA512);
    assert_eq!(
        kind(DpopKey::from_pkcs8(&p521.pkcs8)),
        KeyErrorKind::UnsupportedKey
    );
}

#[test]
fn a_uri_that_is_too_long_makes_no_proof() {
    let uri: Uri = format!("https://api.example.com/{}", "a".repeat(MAX_PROOF_BYTES))
        .parse()
        .unwrap();
    let request = RequestClaims::new(&Method::GET, &uri).unwrap();
    let error = KEY.mint(&claims_for(&request, None)).unwrap_err();
    assert_eq!(error.kind(), MintErrorKind::TooLong);
}

fn spki_of(identity: &Identity) -> SubjectPublicKeyInfoDer<'static> {
    SubjectPublicKeyInfoDer::from(identity.x509().public_key().raw.to_vec())
}

fn request() -> RequestClaims {
    RequestClaims::new(&Method::POST, &URI.parse().unwrap()).unwrap()
}

fn claims_for<'a>(request: &'a RequestClaims, nonce: Option<&'a Nonce>) -> Claims<'a> {
    static FIXTURE: std::sync::LazyLock<Fixture> = std::sync::LazyLock::new(Fixture::default);
    Claims {
        request,
        issued_at: time(NOW),
        token: Some(&FIXTURE.token),
        nonce,
    }
}

fn mint(key: &DpopKey, nonce: Option<&Nonce>) -> Proof {
    key.mint(&claims_for(&request(), nonce)).unwrap()
}

fn parts(proof: &Proof) -> (Value, Value) {
    crate::fixture::parts(proof.as_str())
}
