//! EX-7: nothing that prints shows a token, a proof or an exporter value.

use std::{fmt::Debug, time::Duration};

use bowline_proof::{
    AccessToken, Expected, ExporterValue, ProofClaims, RequestClaims, Scheme, Targets, Windows,
    dpop::{self, DpopKey, Nonce},
};
use http::{HeaderValue, Method};
use rustls_pki_types::UnixTime;

use crate::fixture::{ATTACKER, P256, base64url};

const TOKEN: &str = "a-very-secret-token";
const NONCE: &str = "a-nonce-of-the-server";
const EXPORTER: [u8; 32] = *b"an exporter value of 32 bytes!!!";

#[test]
fn debug_output_of_every_secret_type_is_redacted() {
    let token = AccessToken::new(TOKEN).unwrap();
    let exporter = ExporterValue::from_bytes(EXPORTER);
    let now = UnixTime::since_unix_epoch(Duration::from_secs(1_700_000_000));
    let claims = ProofClaims {
        token: token.hash(),
        exporter: &exporter,
        issued_at: now,
        request: None,
    };
    let proof = P256.proof_key().mint(&claims).unwrap();
    let expected = Expected {
        exporter: &exporter,
        token: token.hash(),
        now,
        handshake_at: now,
        method: &Method::GET,
        path: "/",
        targets: &Targets::default(),
        windows: &Windows::default(),
    };
    let verifier = P256.verifier();
    let accepted = verifier.verify(proof.as_str().as_bytes(), &expected);
    let refused = ATTACKER
        .verifier()
        .verify(proof.as_str().as_bytes(), &expected);
    assert!(accepted.is_ok() && refused.is_err());

    let key = DpopKey::new(P256.signing_key()).unwrap();
    let request = RequestClaims::new(&Method::GET, &"https://h/".parse().unwrap()).unwrap();
    let nonce = Nonce::new(NONCE).unwrap();
    let dpop_claims = dpop::Claims {
        request: &request,
        issued_at: now,
        token: Some(token.hash()),
        nonce: Some(&nonce),
    };
    let dpop_proof = key.mint(&dpop_claims).unwrap();
    let dpop_token = dpop::BoundToken {
        hash: token.hash(),
        key: key.thumbprint(),
    };
    let dpop_expected = dpop::Expected {
        method: &Method::GET,
        path: "/",
        targets: &Targets::new(["https://h".parse().unwrap()]),
        now,
        windows: &Windows::default(),
        token: Some(dpop_token),
        nonces: Some(std::slice::from_ref(&nonce)),
    };
    let dpop_accepted = dpop::verify(dpop_proof.as_str().as_bytes(), &dpop_expected);
    assert!(dpop_accepted.is_ok());
    let dpop_field = dpop_proof.header_value();
    let dpop_signature = dpop_proof.as_str().rsplit('.').next().unwrap();

    let everything: [&dyn Debug; 20] = [
        &key,
        &nonce,
        &dpop_claims,
        &dpop_proof,
        &dpop_field,
        &dpop_expected,
        &dpop_accepted,
        &token.authorization_as(Scheme::Dpop),
        &token,
        token.hash(),
        &token.authorization(),
        &token.confirmation(),
        &exporter,
        &proof,
        &claims,
        &P256.proof_key(),
        &expected,
        &verifier,
        &accepted,
        &refused,
    ];
    for value in everything {
        shows_no_secret(&format!("{value:?}"), &proof);
        shows_no_secret(&format!("{value:#?}"), &proof);
        for secret in [dpop_signature, NONCE] {
            assert!(!format!("{value:?}").contains(secret), "{value:?}");
        }
    }
}

#[test]
fn errors_repeat_nothing_of_what_they_refuse() {
    let with_space = format!("{TOKEN} {TOKEN}");
    let error = AccessToken::new(with_space).unwrap_err();
    assert!(!format!("{error} {error:?}").contains(TOKEN));

    let field = HeaderValue::try_from(format!("DPoP {TOKEN}")).unwrap();
    let error = AccessToken::from_authorization(&field).unwrap_err();
    assert!(!format!("{error} {error:?}").contains(TOKEN));

    let error = Nonce::new(&format!("{NONCE} {NONCE}")).unwrap_err();
    assert!(!format!("{error} {error:?}").contains(NONCE));
}

fn shows_no_secret(text: &str, proof: &bowline_proof::Proof) {
    let hash = crate::fixture::sha256(TOKEN.as_bytes());
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let exporter_text = String::from_utf8(EXPORTER.to_vec()).unwrap();
    let signature = proof.as_str().rsplit('.').next().unwrap();
    for secret in [
        TOKEN,
        &base64url(TOKEN),
        &base64url(&hash),
        &hex(&hash),
        &format!("{:?}", &hash[..3])[1..10],
        &exporter_text,
        &base64url(EXPORTER),
        &hex(&EXPORTER),
        &format!("{:?}", &EXPORTER[..3])[1..10],
        signature,
        proof.as_str(),
    ] {
        assert!(!text.contains(secret), "{text} shows {secret}");
    }
}
