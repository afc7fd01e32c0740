//! RS-5..RS-9. Each refused proof differs in one thing from a proof that is accepted, and has a
//! good signature by the right key unless the signature is that thing: so only the named check can
//! have refused it.

mod check;
mod claims;
mod form;
mod key;
mod signature;

use bowline_proof::{
    AccessToken, Check, Expected, ExporterValue, ProofClaims, Refusal, RequestClaims, Targets,
    TokenHash, Verified, Windows,
};
use http::Method;
use rustls_pki_types::UnixTime;
use serde_json::{Value, json};

use crate::fixture::{
    self, ATTACKER, Identity, P256, accepted_algorithms, base64url, minted_algorithms, sha256, time,
};

const NOW: u64 = 1_700_000_000;
const EXPORTER: [u8; 32] = [7; 32];
const TOKEN: &str = "opaque-token";

#[test]
fn what_the_client_mints_the_server_accepts() {
    for (identity, _) in minted_algorithms() {
        let fixture = Fixture::default();
        let mint = |request| {
            let claims = ProofClaims {
                token: &fixture.token,
                exporter: &fixture.exporter,
                issued_at: time(NOW),
                request,
            };
            identity.proof_key().mint(&claims).unwrap()
        };
        let verify = |proof: &str| {
            identity
                .verifier()
                .verify(proof.as_bytes(), &fixture.expected())
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
fn every_algorithm_that_fits_the_key_is_accepted() {
    for (identity, algorithm) in accepted_algorithms() {
        let mut header = header(identity);
        header["alg"] = json!(algorithm);
        let proof = identity.jws(algorithm, &header.to_string(), &claims().to_string());
        let fixture = Fixture::default();
        let verified = identity
            .verifier()
            .verify(proof.as_bytes(), &fixture.expected());
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

/// Of several faults the first check reports its own; each repair lets the next check report.
#[test]
fn results_come_in_the_order_of_the_profile() {
    let mut header = json!({"typ": "x", "alg": "none", "x5t#S256": "x"});
    let mut claims = json!({"ath": "x", "ekm": "x", "iat": 0, "jti": "", "htm": "GET", "htu": "x"});
    let mut signer = &*ATTACKER;
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

/// What the server knows of a request and its connection.
struct Fixture {
    exporter: ExporterValue,
    token: TokenHash,
    now: UnixTime,
    handshake_at: UnixTime,
    path: &'static str,
    targets: Targets,
    windows: Windows,
}

impl Default for Fixture {
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

impl Fixture {
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
    fixture::with(claims(), claim, value)
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
    Fixture::default().verify(text)
}

#[track_caller]
fn assert_ok(found: Result<Verified, Refusal>) {
    found.unwrap();
}

#[track_caller]
fn assert_refused(found: Result<Verified, Refusal>, check: Check) {
    assert_eq!(found.unwrap_err().check(), check);
}
