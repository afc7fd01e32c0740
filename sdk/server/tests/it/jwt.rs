//! Which JWTs are access tokens for this server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bowline_proof::AccessToken;
use bowline_server::{
    Clock, ExpectedClaims, Jwks, JwtValidator, JwtValidatorBuilder, TokenErrorKind, TokenValidator,
};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256};
use rustls_pki_types::UnixTime;
use serde_json::{Value, json};

use crate::authority::{AUDIENCE, Authority, ISSUER, jwks};
use crate::log::Log;

const NOW: u64 = 1_800_000_000;

fn expected() -> ExpectedClaims {
    ExpectedClaims::new(AUDIENCE).issuer(ISSUER)
}

fn builder(authority: &Authority) -> JwtValidatorBuilder {
    builder_with(authority, expected())
}

fn builder_with(authority: &Authority, expected: ExpectedClaims) -> JwtValidatorBuilder {
    let keys = Jwks::document(jwks(&[authority])).unwrap();
    JwtValidator::builder(expected, keys).clock(at(NOW))
}

/// A validator with this JWK set.
fn validator_for(document: &Value) -> JwtValidator {
    let keys = Jwks::document(document.to_string()).unwrap();
    JwtValidator::builder(expected(), keys)
        .clock(at(NOW))
        .build()
}

fn at(seconds: u64) -> Clock {
    Clock::from_fn(move || UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
}

fn claims() -> Value {
    let mut claims = Authority::claims();
    claims["exp"] = (NOW + 60).into();
    claims
}

/// The detail of the refusal, `None` if the token is valid.
async fn refusal(validator: &JwtValidator, token: &AccessToken) -> Option<&'static str> {
    match validator.validate(token).await {
        Ok(_) => None,
        Err(error) => {
            assert_eq!(error.kind(), TokenErrorKind::Invalid);
            Some(error.detail())
        }
    }
}

/// One reader of a duplicated member uses the first, another the last.
#[tokio::test]
async fn tk_5_a_cnf_with_a_duplicated_member_is_malformed_whichever_reader_wrote_it() {
    let authority = Authority::new("k1");
    let validator = builder(&authority).build();
    let thumbprint = "A".repeat(43);
    let one = format!(r#""x5t#S256":"{thumbprint}""#);
    let claims = claims().to_string();
    for (cnf, is_read) in [
        (format!(r#""cnf":{{{one}}}"#), true),
        (format!(r#""cnf":{{{one},{one}}}"#), false),
        (format!(r#""cnf":{{{one}}},"cnf":{{{one}}}"#), false),
        (format!(r#""cnf":{{{one}}},"cnf":{{}}"#), false),
        (r#""cnf":{"jkt":1,"jkt":2}"#.to_owned(), false),
    ] {
        let payload = format!("{},{cnf}}}", claims.strip_suffix('}').unwrap());
        let token = authority.sign_text(&authority.header(), &payload);
        // Once from the signature, once from the cache.
        for _ in 0..2 {
            let valid = validator.validate(&token).await.unwrap();
            assert_eq!(valid.confirmation().is_ok(), is_read, "{cnf}");
        }
    }
}

#[tokio::test]
async fn a_signature_is_verified_by_itself_whatever_the_token_says() {
    let (authority, other) = (Authority::new("k1"), Authority::new("k1"));
    let validator = builder(&authority).build();
    let mut header = authority.header();
    header["typ"] = "secevent+jwt".into();
    let of_another = json!({ "iss": "https://other.example", "exp": NOW - 1_000_000 });
    for (header, claims) in [(authority.header(), of_another), (header, json!({}))] {
        let token = authority.sign(&header, &claims);
        assert!(validator.validate(&token).await.is_err());
        validator.verify_signature(&token).await.unwrap();
        let forged = other.sign(&header, &claims);
        let error = validator.verify_signature(&forged).await.unwrap_err();
        assert!(error.detail().contains("signature"), "{error}");
    }
    let opaque = AccessToken::new("opaque").unwrap();
    assert!(validator.verify_signature(&opaque).await.is_err());
}

#[tokio::test]
async fn a_token_is_valid_only_if_header_and_claims_are_those_of_an_access_token_for_this_server() {
    type Change = fn(&mut Value, &mut Value);
    let cases: &[(&str, Option<&str>, Change)] = &[
        ("nothing", None, |_, _| {}),
        ("typ in full, in another case", None, |header, _| {
            header["typ"] = "Application/AT+JWT".into()
        }),
        ("typ of any JWT", Some("typ"), |header, _| {
            header["typ"] = "JWT".into()
        }),
        ("no typ", Some("typ"), |header, _| {
            drop(header.as_object_mut().unwrap().remove("typ"))
        }),
        ("typ of a proof", Some("typ"), |header, _| {
            header["typ"] = "tls-binding-proof+jwt".into()
        }),
        ("alg none", Some("alg"), |header, _| {
            header["alg"] = "none".into()
        }),
        ("alg of a symmetric key", Some("signature"), |header, _| {
            header["alg"] = "HS256".into()
        }),
        ("alg of another key", Some("signature"), |header, _| {
            header["alg"] = "ES256".into()
        }),
        ("an unknown alg", Some("alg"), |header, _| {
            header["alg"] = "XY256".into()
        }),
        ("crit", Some("crit"), |header, _| {
            header["crit"] = json!(["exp"])
        }),
        ("an unknown kid", Some("not in the key set"), |header, _| {
            header["kid"] = "k9".into()
        }),
        ("no kid", None, |header, _| {
            drop(header.as_object_mut().unwrap().remove("kid"))
        }),
        ("another issuer", Some("issuer"), |_, claims| {
            claims["iss"] = "https://other.example.com".into()
        }),
        ("an issuer among others", Some("issuer"), |_, claims| {
            claims["iss"] = json!([ISSUER])
        }),
        ("no issuer", Some("issuer"), |_, claims| {
            drop(claims.as_object_mut().unwrap().remove("iss"))
        }),
        ("another audience", Some("audience"), |_, claims| {
            claims["aud"] = "https://other.example.com".into()
        }),
        ("several audiences", None, |_, claims| {
            claims["aud"] = json!(["https://other.example.com", AUDIENCE])
        }),
        ("several others", Some("audience"), |_, claims| {
            claims["aud"] = json!(["a", 1, null])
        }),
        ("no audience", Some("audience"), |_, claims| {
            drop(claims.as_object_mut().unwrap().remove("aud"))
        }),
        ("expired, within the leeway", None, |_, claims| {
            claims["exp"] = (NOW - 59).into()
        }),
        ("expired", Some("expired"), |_, claims| {
            claims["exp"] = (NOW - 60).into()
        }),
        ("exp with a fraction", None, |_, claims| {
            claims["exp"] = json!(NOW as f64 + 0.5)
        }),
        ("exp far beyond", None, |_, claims| {
            claims["exp"] = json!(1e300)
        }),
        ("exp before the epoch", Some("exp"), |_, claims| {
            claims["exp"] = json!(-1)
        }),
        ("exp is text", Some("exp"), |_, claims| {
            claims["exp"] = (NOW + 60).to_string().into()
        }),
        ("no exp", Some("exp"), |_, claims| {
            drop(claims.as_object_mut().unwrap().remove("exp"))
        }),
        ("nbf within the leeway", None, |_, claims| {
            claims["nbf"] = (NOW + 60).into()
        }),
        ("not valid yet", Some("not valid yet"), |_, claims| {
            claims["nbf"] = (NOW + 61).into()
        }),
        ("nbf is text", Some("nbf"), |_, claims| {
            claims["nbf"] = "now".into()
        }),
        ("claims are no object", Some("payload"), |_, claims| {
            *claims = json!([1])
        }),
    ];
    let authority = Authority::new("k1");
    let validator = builder(&authority).build();
    for (name, expected, change) in cases {
        let (mut header, mut claims) = (authority.header(), claims());
        change(&mut header, &mut claims);
        let token = authority.sign(&header, &claims);
        let found = refusal(&validator, &token).await;
        match expected {
            None => assert_eq!(found, None, "{name}"),
            Some(part) => assert!(
                found.is_some_and(|detail| detail.contains(part)),
                "{name}: {found:?}"
            ),
        }
    }
}

#[tokio::test]
async fn text_that_is_not_a_signed_jwt_is_not_valid() {
    let authority = Authority::new("k1");
    let validator = builder(&authority).build();
    let genuine = authority.sign(&authority.header(), &claims());
    let parts: Vec<&str> = genuine.secret().split('.').collect();
    let forger = Authority::new("k1");
    let mut changed = claims();
    changed["sub"] = "root".into();
    let changed = URL_SAFE_NO_PAD.encode(changed.to_string());
    for text in [
        "opaque".to_owned(),
        "a.b".to_owned(),
        "...".to_owned(),
        format!("{}.{}.", parts[0], parts[1]),
        format!("{}.{}.{}", parts[0], changed, parts[2]),
        format!("{}.{}.{}.{}", parts[0], parts[1], parts[2], parts[2]),
        format!("{}.{}.{}==", parts[0], parts[1], parts[2]),
        forger
            .sign(&authority.header(), &claims())
            .secret()
            .to_owned(),
    ] {
        let token = AccessToken::new(text).unwrap();
        assert!(
            refusal(&validator, &token).await.is_some(),
            "{}",
            token.secret()
        );
    }
    assert_eq!(refusal(&validator, &genuine).await, None);
}

#[tokio::test]
async fn options_widen_what_is_accepted_and_no_more() {
    let authority = Authority::new("k1");
    let mut header = authority.header();
    header["typ"] = "JWT".into();
    let plain = authority.sign(&header, &claims());
    let any = builder(&authority).accept_any_jwt(true).build();
    assert_eq!(refusal(&any, &plain).await, None);
    header["typ"] = "tls-binding-proof+jwt".into();
    assert!(
        refusal(&any, &authority.sign(&header, &claims()))
            .await
            .is_some()
    );

    let mut other = claims();
    other["aud"] = "https://alias.example.com".into();
    let two_names = expected().audience("https://alias.example.com");
    let alias = builder_with(&authority, two_names).build();
    assert_eq!(
        refusal(&alias, &authority.sign(&authority.header(), &other)).await,
        None
    );
    assert_eq!(
        refusal(&alias, &authority.sign(&authority.header(), &claims())).await,
        None
    );

    let mut late = claims();
    late["exp"] = NOW.into();
    let strict = builder_with(&authority, expected().leeway(Duration::ZERO)).build();
    assert!(
        refusal(&strict, &authority.sign(&authority.header(), &late))
            .await
            .is_some()
    );
}

#[test]
#[should_panic(expected = "ExpectedClaims::issuer")]
fn a_jwt_validator_cannot_be_made_without_an_issuer() {
    let keys = Jwks::document(jwks(&[&Authority::new("k1")])).unwrap();
    let _ = JwtValidator::builder(ExpectedClaims::new(AUDIENCE), keys);
}

#[tokio::test]
async fn tokens_of_every_asymmetric_algorithm_are_valid_with_the_key_that_fits() {
    // Ed25519 is what all other tests use.
    for (algorithm, key) in [
        (
            Algorithm::ES256,
            KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
        ),
        (
            Algorithm::ES384,
            KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384),
        ),
        (Algorithm::RS256, KeyPair::generate_for(&PKCS_RSA_SHA256)),
        (Algorithm::PS256, KeyPair::generate_for(&PKCS_RSA_SHA256)),
    ] {
        let der = key.unwrap().serialize_der();
        let key = match algorithm {
            Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_der(&der),
            // It takes PKCS#1, which is PKCS#8 without its 26 bytes of header.
            _ => EncodingKey::from_rsa_der(&der[26..]),
        };
        let mut jwk = Jwk::from_encoding_key(&key, algorithm).unwrap();
        jwk.common.key_id = Some("k".to_owned());
        let header = Header {
            typ: Some("at+jwt".to_owned()),
            kid: Some("k".to_owned()),
            ..Header::new(algorithm)
        };
        let token =
            AccessToken::new(jsonwebtoken::encode(&header, &claims(), &key).unwrap()).unwrap();
        let document = |jwk: &Jwk| Jwks::document(json!({ "keys": [jwk] }).to_string()).unwrap();
        let validator = |jwk: &Jwk| {
            JwtValidator::builder(expected(), document(jwk))
                .clock(at(NOW))
                .build()
        };
        assert_eq!(
            refusal(&validator(&jwk), &token).await,
            None,
            "{algorithm:?}"
        );

        // Java writes a zero before an RSA number whose first bit is set (RFC 7518 section 6.3.1.1
        // forbids it).
        if let jsonwebtoken::jwk::AlgorithmParameters::RSA(rsa) = &jwk.algorithm {
            let padded = |number: &str| {
                let number = URL_SAFE_NO_PAD.decode(number).unwrap();
                URL_SAFE_NO_PAD.encode([&[0, 0][..], &number].concat())
            };
            let mut other = json!(jwk);
            other["n"] = padded(&rsa.n).into();
            other["e"] = padded(&rsa.e).into();
            let validator = validator_for(&json!({ "keys": [other] }));
            assert_eq!(refusal(&validator, &token).await, None, "{algorithm:?}");
        }

        // Keys that their own members exclude: by algorithm, by use, by operation.
        let mut other = jwk.clone();
        other.common.key_algorithm = Some(jsonwebtoken::jwk::KeyAlgorithm::PS512);
        assert!(
            refusal(&validator(&other), &token).await.is_some(),
            "{algorithm:?}"
        );
        let mut other = jwk.clone();
        other.common.public_key_use = Some(jsonwebtoken::jwk::PublicKeyUse::Encryption);
        assert!(
            refusal(&validator(&other), &token).await.is_some(),
            "{algorithm:?}"
        );
        let mut other = jwk.clone();
        other.common.key_operations = Some(vec![jsonwebtoken::jwk::KeyOperations::Encrypt]);
        assert!(
            refusal(&validator(&other), &token).await.is_some(),
            "{algorithm:?}"
        );
    }
}

#[tokio::test]
async fn a_public_key_is_never_taken_for_an_hmac_secret() {
    let authority = Authority::new("k1");
    let secret = b"a secret that the key set happens to hold";
    let document = json!({ "keys": [
        authority.jwk(),
        { "kty": "oct", "k": URL_SAFE_NO_PAD.encode(secret), "kid": "symmetric", "alg": "HS256" },
    ]});
    let validator = validator_for(&document);
    let header = Header {
        typ: Some("at+jwt".to_owned()),
        kid: Some("symmetric".to_owned()),
        ..Header::new(Algorithm::HS256)
    };
    let key = EncodingKey::from_secret(secret);
    let token = AccessToken::new(jsonwebtoken::encode(&header, &claims(), &key).unwrap()).unwrap();
    assert!(refusal(&validator, &token).await.is_some());
}

#[tokio::test]
async fn unusable_keys_in_a_set_do_not_affect_the_others_and_the_log_names_them() {
    let log = Log::of_the_process();
    let authority = Authority::new("k1");
    let document = json!({ "keys": [
        { "kty": "future", "kid": "k0" },
        { "kty": "OKP", "crv": "X25519", "x": "AAAA", "kid": "k1" },
        { "kty": "EC", "crv": "P-521", "x": "AA", "y": "AA" },
        { "kty": "RSA", "n": "AQAB", "e": "AQAB" },
        7,
        authority.jwk(),
        { "kty": "RSA", "n": "A", "e": "AQAB", "kid": "k6\n" },
        { "kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA", "kid": "k7" },
        { "kty": "OKP", "crv": "Ed25519", "x": "AAAA", "kid": "k8" },
    ]});
    let validator = validator_for(&document);
    assert_eq!(
        refusal(&validator, &authority.sign(&authority.header(), &claims())).await,
        None
    );
    let logged = log.text();
    let line = logged
        .lines()
        .find(|line| line.contains("8 (k8): "))
        .unwrap();
    assert!(line.contains("usable=1 unusable=8"), "{line}");
    for which in [
        "0 (k0): ",
        "1 (k1): ",
        "2: ",
        "3: ",
        "4: ",
        "6 (k6\\n): ",
        "7 (k7): ",
        "8 (k8): ",
    ] {
        assert!(line.contains(which), "{which} in {line}");
    }
    for text in ["", "[]", "{}", "{\"keys\":{}}"] {
        assert!(Jwks::document(text).is_err(), "{text}");
    }
    // K1: the document may hold a secret.
    let error = Jwks::document(r#"{"keys":"c2VjcmV0"}"#).unwrap_err();
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("c2VjcmV0"), "{shown}");
}

#[tokio::test]
async fn a_token_found_valid_before_still_expires() {
    let authority = Authority::new("k1");
    let now = Arc::new(AtomicU64::new(NOW));
    let clock = now.clone();
    let clock = Clock::from_fn(move || {
        UnixTime::since_unix_epoch(Duration::from_secs(clock.load(Ordering::SeqCst)))
    });
    let validator = builder(&authority).clock(clock).build();
    let token = authority.sign(&authority.header(), &claims());
    assert_eq!(refusal(&validator, &token).await, None);
    now.store(NOW + 119, Ordering::SeqCst);
    assert_eq!(refusal(&validator, &token).await, None);
    now.store(NOW + 120, Ordering::SeqCst);
    assert_eq!(
        refusal(&validator, &token).await,
        Some("the access token has expired")
    );
}

#[tokio::test]
async fn cnf_is_read_from_the_validated_claims() {
    let authority = Authority::new("k1");
    let validator = builder(&authority).build();
    let thumbprint = URL_SAFE_NO_PAD.encode([1; 32]);
    let valid = validator
        .validate(&authority.session_bound(&thumbprint))
        .await
        .unwrap();
    let confirmation = valid.confirmation().unwrap();
    assert_eq!(confirmation.x5t_s256.unwrap().to_string(), thumbprint);
    assert_eq!(
        confirmation.tls_exp.as_deref(),
        Some(bowline_proof::EXPORTER_LABEL)
    );
    assert_eq!(valid.claims()["sub"], "agent");
    assert!(!format!("{valid:?}").contains("agent"));
}
