//! RS-5..RS-9. Each refused proof differs in one thing from a proof that is taken, and is properly
//! signed by the right key where the signature is not that thing: so only the named check can have
//! refused it.

mod claims;
mod form;
mod signature;

use std::time::Duration;

use bowline_proof::{
    AccessToken, Check, Expected, ExporterValue, ProofClaims, Refusal, RequestClaims, Targets,
    TokenHash, Verified, Windows,
};
use http::Method;
use rustls_pki_types::UnixTime;
use serde_json::{Value, json};

use crate::common::{ED25519, Identity, P256, P384, RSA, THIEF, base64url, sha256};

const NOW: u64 = 1_700_000_000;
const EXPORTER: [u8; 32] = [7; 32];
const TOKEN: &str = "opaque-token";

#[test]
fn what_the_client_mints_the_server_takes() {
    for identity in [&P256, &P384, &ED25519, &RSA] {
        let scene = Scene::default();
        let mint = |request| {
            let claims = ProofClaims {
                token: &scene.token,
                exporter: &scene.exporter,
                issued_at: time(NOW),
                request,
            };
            identity.proof_key().mint(&claims).unwrap()
        };
        let verify = |proof: &str| {
            identity
                .verifier()
                .verify(proof.as_bytes(), &scene.expected())
                .unwrap()
        };
        let reusable = verify(mint(None).as_str());
        assert!(reusable.is_reusable() && !reusable.has_all_request_claims());
        assert_eq!(reusable.jti(), None);
        assert_eq!(reusable.issued_at, time(NOW));

        let uri = "https://api.example.com/mcp?x=1".parse().unwrap();
        let request = RequestClaims::new(&Method::POST, &uri)
            .unwrap()
            .with_jti("j-1");
        let single = verify(mint(Some(request)).as_str());
        assert!(!single.is_reusable() && single.has_all_request_claims());
        assert_eq!(single.jti(), Some("j-1"));
    }
}

#[test]
fn every_algorithm_that_fits_the_key_is_taken() {
    for (identity, algorithm) in [
        (&P256, "ES256"),
        (&P384, "ES384"),
        (&ED25519, "EdDSA"),
        (&ED25519, "Ed25519"),
        (&RSA, "PS256"),
        (&RSA, "RS256"),
    ] {
        let mut header = header(identity);
        header["alg"] = json!(algorithm);
        let proof = identity.jws(algorithm, &header.to_string(), &claims().to_string());
        let scene = Scene::default();
        let verified = identity
            .verifier()
            .verify(proof.as_bytes(), &scene.expected());
        assert!(verified.is_ok(), "{algorithm}");
    }
}

#[test]
fn unknown_members_are_ignored() {
    let mut header = header(&P256);
    header["kid"] = json!({"anything": [1, 2]});
    header["jwk"] = json!(null);
    assert_ok(verify_with(&header, &with("sub", json!(["agent"]))));
}

#[test]
fn typ_is_compared_as_a_media_type() {
    for typ in [
        "TLS-Binding-Proof+JWT",
        "application/tls-binding-proof+jwt",
        "Application/tls-binding-proof+jwt",
    ] {
        let mut header = header(&P256);
        header["typ"] = json!(typ);
        assert_ok(verify_with(&header, &claims()));
    }
}

/// With everything wrong at once the first check speaks; each repair lets the next one speak.
#[test]
fn results_come_in_the_order_of_the_profile() {
    let mut header = json!({"typ": "x", "alg": "none", "x5t#S256": "x"});
    let mut claims = json!({"ath": "x", "ekm": "x", "iat": 0, "jti": "", "htm": "GET", "htu": "x"});
    let mut signer = &*THIEF;
    let good_header = self::header(&P256);
    let good_claims = per_request();

    for (check, repair) in [
        (Check::ProofType, "typ"),
        (Check::ProofAlgorithm, "alg"),
        (Check::ProofThumbprint, "x5t#S256"),
        (Check::ProofSignature, "signature"),
        (Check::Exporter, "ekm"),
        (Check::TokenHash, "ath"),
        (Check::IssuedAt, "iat"),
        (Check::Method, "htm"),
        (Check::TargetUri, "htu"),
        (Check::ProofSyntax, "jti"),
    ] {
        let verify = |header: &Value, claims: &Value, signer: &Identity| {
            verify_text(&signer.jws("ES256", &header.to_string(), &claims.to_string()))
        };
        assert_refused(verify(&header, &claims, signer), check);
        match repair {
            "typ" | "alg" | "x5t#S256" => header[repair] = good_header[repair].clone(),
            "signature" => signer = &P256,
            claim => claims[claim] = good_claims[claim].clone(),
        }
    }
    assert_ok(verify_with(&header, &claims));
}

// What this server knows, and a proof that fits it.

struct Scene {
    exporter: ExporterValue,
    token: TokenHash,
    now: UnixTime,
    handshake_at: UnixTime,
    path: &'static str,
    targets: Targets,
    windows: Windows,
}

impl Default for Scene {
    fn default() -> Self {
        Self {
            exporter: ExporterValue::from_bytes(EXPORTER),
            token: *AccessToken::new(TOKEN).unwrap().hash(),
            now: time(NOW),
            handshake_at: time(NOW - 100),
            path: "/mcp",
            targets: targets(),
            windows: Windows::default(),
        }
    }
}

impl Scene {
    fn expected(&self) -> Expected<'_> {
        Expected {
            exporter: &self.exporter,
            token: &self.token,
            now: self.now,
            handshake_at: self.handshake_at,
            method: &Method::POST,
            path: self.path,
            targets: &self.targets,
            windows: &self.windows,
        }
    }

    fn verify(&self, proof: &str) -> Result<Verified, Refusal> {
        P256.verifier().verify(proof.as_bytes(), &self.expected())
    }
}

fn targets() -> Targets {
    Targets::new(["https://api.example.com", "http://internal:8080"].map(|o| o.parse().unwrap()))
}

fn header(identity: &Identity) -> Value {
    json!({
        "typ": "tls-binding-proof+jwt",
        "alg": identity.proof_key().algorithm().name(),
        "x5t#S256": identity.thumbprint().to_string(),
    })
}

fn claims() -> Value {
    json!({
        "ath": base64url(sha256(TOKEN.as_bytes())),
        "ekm": base64url(EXPORTER),
        "iat": NOW,
    })
}

fn per_request() -> Value {
    let mut claims = claims();
    claims["jti"] = json!("j-1");
    claims["htm"] = json!("POST");
    claims["htu"] = json!("https://api.example.com/mcp");
    claims
}

fn with(claim: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[claim] = value;
    claims
}

fn without(mut object: Value, member: &str) -> Value {
    object.as_object_mut().unwrap().remove(member);
    object
}

fn proof(header: &Value, claims: &Value) -> String {
    P256.jws("ES256", &header.to_string(), &claims.to_string())
}

fn verify_with(header: &Value, claims: &Value) -> Result<Verified, Refusal> {
    verify_text(&proof(header, claims))
}

fn verify_claims(claims: &Value) -> Result<Verified, Refusal> {
    verify_with(&header(&P256), claims)
}

fn verify_text(text: &str) -> Result<Verified, Refusal> {
    Scene::default().verify(text)
}

#[track_caller]
fn assert_ok(found: Result<Verified, Refusal>) {
    found.unwrap();
}

#[track_caller]
fn assert_refused(found: Result<Verified, Refusal>, check: Check) {
    assert_eq!(found.unwrap_err().check(), check);
}

fn time(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}
