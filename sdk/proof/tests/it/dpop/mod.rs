//! DPoP (RFC 9449). Each refused proof differs in one thing from a proof that is accepted, and has
//! a good signature by the key in its header unless the signature is that thing: so only the named
//! check can have refused it.

mod check;
mod claims;
mod header;
mod key;
mod rfc;

use std::{collections::BTreeMap, sync::LazyLock};

use bowline_proof::{
    AccessToken, Targets, TokenHash, Windows,
    dpop::{self, DpopCheck, DpopKey, DpopRefusal, JwkThumbprint, Nonce, Verified},
};
use http::Method;
use serde_json::{Value, json};

use crate::fixture::{self, Identity, P256, base64url, sha256, time};

const NOW: u64 = 1_700_000_000;
const TOKEN: &str = "opaque-token";

/// What the server knows of a request, apart from its proof.
struct Fixture {
    method: Method,
    path: &'static str,
    targets: Targets,
    now: u64,
    windows: Windows,
    token: TokenHash,
    /// `cnf.jkt`; `None` at a token endpoint.
    key: Option<JwkThumbprint>,
    nonces: Option<Vec<Nonce>>,
}

impl Default for Fixture {
    fn default() -> Self {
        Self {
            method: Method::POST,
            path: "/things",
            targets: Targets::new(
                ["https://api.example.com", "http://internal:8080"].map(|o| o.parse().unwrap()),
            ),
            now: NOW,
            windows: Windows::default(),
            token: *AccessToken::new(TOKEN).unwrap().hash(),
            key: Some(thumbprint(&P256)),
            nonces: None,
        }
    }
}

impl Fixture {
    fn verify(&self, proof: &str) -> Result<Verified, DpopRefusal> {
        self.verify_bytes(proof.as_bytes())
    }

    fn verify_bytes(&self, proof: &[u8]) -> Result<Verified, DpopRefusal> {
        let expected = dpop::Expected {
            method: &self.method,
            path: self.path,
            targets: &self.targets,
            now: time(self.now),
            windows: &self.windows,
            token: self.key.map(|key| dpop::BoundToken {
                hash: &self.token,
                key,
            }),
            nonces: self.nonces.as_deref(),
        };
        dpop::verify(proof, &expected)
    }
}

/// The thumbprint by RFC 7638, made by hand from the certificate.
fn thumbprint(identity: &Identity) -> JwkThumbprint {
    // `serde_json` without `preserve_order` sorts members, which is what §3.3 asks for.
    let sorted: BTreeMap<String, Value> = serde_json::from_value(jwk(identity)).unwrap();
    base64url(sha256(serde_json::to_string(&sorted).unwrap().as_bytes()))
        .parse()
        .unwrap()
}

/// The public JWK, made by hand from the certificate.
fn jwk(identity: &Identity) -> Value {
    let certificate = identity.x509();
    let spki = certificate.public_key();
    let bytes = &spki.subject_public_key.data;
    match bytes.len() {
        65 => {
            let [x, y] = [&bytes[1..33], &bytes[33..]].map(base64url);
            json!({"kty": "EC", "crv": "P-256", "x": x, "y": y})
        }
        97 => {
            let [x, y] = [&bytes[1..49], &bytes[49..]].map(base64url);
            json!({"kty": "EC", "crv": "P-384", "x": x, "y": y})
        }
        32 => json!({"kty": "OKP", "crv": "Ed25519", "x": base64url(bytes)}),
        _ => match spki.parsed().unwrap() {
            x509_parser::public_key::PublicKey::RSA(key) => {
                let [n, e] = [&key.modulus[1..], key.exponent].map(base64url);
                json!({"kty": "RSA", "n": n, "e": e})
            }
            _ => panic!("an unexpected key"),
        },
    }
}

fn header() -> Value {
    header_for(&P256, "ES256")
}

fn header_for(identity: &Identity, algorithm: &str) -> Value {
    json!({"typ": "dpop+jwt", "alg": algorithm, "jwk": jwk(identity)})
}

fn claims() -> Value {
    json!({
        "jti": "j-1",
        "htm": "POST",
        "htu": "https://api.example.com/things",
        "iat": NOW,
        "ath": base64url(sha256(TOKEN.as_bytes())),
    })
}

fn with(claim: &str, value: Value) -> Value {
    fixture::with(claims(), claim, value)
}

/// Signed by the key that the default header names.
fn proof(header: &Value, claims: &Value) -> String {
    P256.jws("ES256", &header.to_string(), &claims.to_string())
}

fn verify_claims(claims: &Value) -> Result<Verified, DpopRefusal> {
    Fixture::default().verify(&proof(&header(), claims))
}

fn verify_header(header: &Value) -> Result<Verified, DpopRefusal> {
    Fixture::default().verify(&proof(header, &claims()))
}

#[track_caller]
fn assert_refused(found: Result<Verified, DpopRefusal>, check: DpopCheck) {
    assert_eq!(found.unwrap_err().check(), check);
}

static KEY: LazyLock<DpopKey> = LazyLock::new(|| DpopKey::new(P256.signing_key()).unwrap());
