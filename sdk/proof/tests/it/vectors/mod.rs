//! The test vectors in `conformance/vectors`, read with this crate.
//!
//! `check.py` and `check.mjs` beside them read them with two other implementations.

mod generate;
mod others;

use std::{collections::BTreeSet, fs, path::PathBuf, sync::LazyLock, time::Duration};

use bowline_proof::{
    AccessToken, Expected, ExporterValue, ProofClaims, RequestClaims, Targets, Windows,
};
use rustls_pki_types::UnixTime;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::fixture::{Identity, time};

const ALGORITHMS: [&str; 5] = ["ES256", "ES384", "EdDSA", "PS256", "RS256"];

const TOKEN: &str = "kR7q3.vector-access_token~1+/==";
const EXPORTER: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const NOW: u64 = 1_780_000_000;
const HANDSHAKE_AT: u64 = NOW - 3600;
const ORIGIN: &str = "https://mcp.example.com";
const PATH: &str = "/v1/mcp";
const TARGET: &str = "https://mcp.example.com/v1/mcp";
const JTI: &str = "AAECAwQFBgcICQoLDA0ODw";

static WINDOWS: LazyLock<Windows> = LazyLock::new(|| {
    let mut windows = Windows::default();
    windows.past = Duration::from_secs(300);
    windows.future = Duration::from_secs(60);
    windows
});

#[derive(Serialize, Deserialize)]
struct Vectors {
    about: String,
    algorithm: String,
    certificate_pem: String,
    private_key_pem: String,
    thumbprint: String,
    access_token: String,
    exporter_hex: String,
    now: u64,
    handshake_at: u64,
    request: Request,
    origins: Vec<String>,
    accepted: Vec<Accepted>,
    refused: Vec<Refused>,
}

#[derive(Serialize, Deserialize)]
struct Request {
    method: String,
    path: String,
}

#[derive(Serialize, Deserialize)]
struct Accepted {
    name: String,
    reusable: bool,
    header: Value,
    claims: Value,
    proof: String,
}

#[derive(Serialize, Deserialize)]
struct Refused {
    name: String,
    check: String,
    reason: String,
    /// The code in the challenge (RS-10).
    error: String,
    proof: String,
}

#[test]
fn every_vector_is_accepted_or_refused_as_it_says() {
    for vectors in all() {
        let identity = vectors.identity();
        let verifier = identity.verifier();
        assert_eq!(verifier.thumbprint().to_string(), vectors.thumbprint);
        let fixture = vectors.fixture();
        for vector in &vectors.accepted {
            let verified = verifier
                .verify(vector.proof.as_bytes(), &fixture.expected())
                .unwrap();
            assert_eq!(verified.is_reusable(), vector.reusable, "{}", vector.name);
        }
        for vector in &vectors.refused {
            let refusal = verifier
                .verify(vector.proof.as_bytes(), &fixture.expected())
                .expect_err(&vector.name);
            let found = (refusal.check().id(), refusal.check().name());
            let named = (&*vector.check, &*vector.reason);
            assert_eq!(found, named, "{} {}", vectors.algorithm, vector.name);
            assert_eq!(refusal.check().error(), Some(&*vector.error));
        }
    }
}

#[test]
fn every_check_of_a_proof_refuses_some_vector_of_each_algorithm() {
    for vectors in all() {
        let reasons: BTreeSet<_> = vectors
            .refused
            .iter()
            .map(|vector| &*vector.reason)
            .collect();
        let all = [
            "proof_syntax",
            "proof_type",
            "proof_algorithm",
            "proof_thumbprint",
            "proof_signature",
            "exporter",
            "token_hash",
            "issued_at",
            "method",
            "target_uri",
        ];
        assert_eq!(reasons, BTreeSet::from(all), "{}", vectors.algorithm);
    }
}

/// What is signed is the same to the byte, and with Ed25519 the signature too.
#[test]
fn minting_makes_the_vectors_again() {
    for vectors in all().filter(|vectors| vectors.algorithm != "RS256") {
        for (name, proof) in mint(&vectors.identity()) {
            let vector = vectors
                .accepted
                .iter()
                .find(|vector| vector.name == name)
                .unwrap();
            let signing_input = |proof: &str| proof.rsplit_once('.').unwrap().0.to_owned();
            assert_eq!(signing_input(&proof), signing_input(&vector.proof));
            if vectors.algorithm == "EdDSA" {
                assert_eq!(proof, vector.proof);
            }
        }
    }
}

fn mint(identity: &Identity) -> Vec<(&'static str, String)> {
    let request = RequestClaims::new(&http::Method::POST, &TARGET.parse().unwrap())
        .unwrap()
        .with_jti(JTI);
    let token = AccessToken::new(TOKEN).unwrap();
    [("reusable", None), ("per_request", Some(request))]
        .map(|(name, request)| {
            let claims = ProofClaims {
                token: token.hash(),
                exporter: &ExporterValue::from_bytes(exporter(EXPORTER)),
                issued_at: time(NOW),
                request,
            };
            (
                name,
                identity
                    .proof_key()
                    .mint(&claims)
                    .unwrap()
                    .as_str()
                    .to_owned(),
            )
        })
        .to_vec()
}

fn all() -> impl Iterator<Item = Vectors> {
    ALGORITHMS.into_iter().map(read)
}

fn read(algorithm: &str) -> Vectors {
    serde_json::from_slice(&fs::read(path(algorithm)).unwrap()).unwrap()
}

fn path(algorithm: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../conformance/vectors")
        .join(format!("{}.json", algorithm.to_lowercase()))
}

/// What the server knows of the vectors' request and connection.
struct Fixture {
    exporter: ExporterValue,
    token: AccessToken,
    now: UnixTime,
    handshake_at: UnixTime,
    method: http::Method,
    path: String,
    targets: Targets,
}

impl Vectors {
    fn identity(&self) -> Identity {
        Identity::from_pem(&self.certificate_pem, &self.private_key_pem)
    }

    fn fixture(&self) -> Fixture {
        Fixture {
            exporter: ExporterValue::from_bytes(exporter(&self.exporter_hex)),
            token: AccessToken::new(&*self.access_token).unwrap(),
            now: time(self.now),
            handshake_at: time(self.handshake_at),
            method: self.request.method.parse().unwrap(),
            path: self.request.path.clone(),
            targets: Targets::new(self.origins.iter().map(|origin| origin.parse().unwrap())),
        }
    }
}

impl Fixture {
    fn expected(&self) -> Expected<'_> {
        Expected {
            exporter: &self.exporter,
            token: self.token.hash(),
            now: self.now,
            handshake_at: self.handshake_at,
            method: &self.method,
            path: &self.path,
            targets: &self.targets,
            windows: &WINDOWS,
        }
    }
}

fn exporter(hex: &str) -> [u8; 32] {
    std::array::from_fn(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
}
