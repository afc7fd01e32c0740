//! The vectors that are no proofs of an algorithm: exporter values, hashes, targets, confirmations,
//! and keys that PR-2 forbids. `generate.py` wrote them.

use std::fs;

use aws_lc_rs::{digest, hmac};
use bowline_proof::{
    AccessToken, Check, Confirmation, ConfirmationError, Demand, EXPORTER_LABEL, KeyErrorKind,
    ProofVerifier, Targets, Thumbprint,
};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;

use super::{TOKEN, Vectors, generate::per_request, path, read};
use crate::fixture::{base64url, with};

#[derive(Deserialize)]
struct Exporters {
    label: String,
    vectors: Vec<Exporter>,
}

#[derive(Deserialize)]
struct Exporter {
    name: String,
    hash: String,
    exporter_master_secret_hex: Option<String>,
    master_secret_hex: Option<String>,
    client_random_hex: Option<String>,
    server_random_hex: Option<String>,
    exporter_hex: String,
    wrong_hex_of_an_absent_context: Option<String>,
}

/// By the formulas of the RFCs: rustls gives no access to the secrets of a connection. That both
/// ends use this context on a real connection is in `exporter.rs`.
#[test]
fn exporter_values_follow_from_the_secrets_with_a_context_that_is_present_and_empty() {
    let Exporters { label, vectors } = file("exporter");
    assert_eq!(label, EXPORTER_LABEL);
    for vector in vectors {
        if let Some(secret) = &vector.exporter_master_secret_hex {
            let value = vector.tls_1_3(&bytes(secret));
            assert_eq!(value, bytes(&vector.exporter_hex), "{}", vector.name);
        } else {
            let value = vector.tls_1_2(Some(b""));
            assert_eq!(value, bytes(&vector.exporter_hex), "{}", vector.name);
            let wrong = vector.tls_1_2(None);
            let stated = vector.wrong_hex_of_an_absent_context.as_ref().unwrap();
            assert_eq!(wrong, bytes(stated), "{}", vector.name);
            assert_ne!(wrong, value);
        }
    }
}

impl Exporter {
    /// RFC 8446 §7.5.
    fn tls_1_3(&self, secret: &[u8]) -> Vec<u8> {
        let empty = digest::digest(self.digest(), b"");
        let empty = empty.as_ref();
        let derived = self.expand_label(secret, EXPORTER_LABEL, empty, empty.len());
        self.expand_label(&derived, "exporter", empty, 32)
    }

    /// RFC 8446 §7.1, for at most one block.
    fn expand_label(&self, secret: &[u8], label: &str, context: &[u8], length: usize) -> Vec<u8> {
        let mut info = u16::try_from(length).unwrap().to_be_bytes().to_vec();
        info.push(u8::try_from(label.len() + 6).unwrap());
        info.extend(b"tls13 ");
        info.extend(label.as_bytes());
        info.push(u8::try_from(context.len()).unwrap());
        info.extend(context);
        info.push(1);
        self.mac(secret, &info)[..length].to_vec()
    }

    /// RFC 5705 §4.
    fn tls_1_2(&self, context: Option<&[u8]>) -> Vec<u8> {
        let part = |hex: &Option<String>| bytes(hex.as_ref().unwrap());
        let mut seed = EXPORTER_LABEL.as_bytes().to_vec();
        seed.extend(part(&self.client_random_hex));
        seed.extend(part(&self.server_random_hex));
        if let Some(context) = context {
            seed.extend(u16::try_from(context.len()).unwrap().to_be_bytes());
            seed.extend(context);
        }
        let secret = part(&self.master_secret_hex);
        let first = self.mac(&secret, &seed);
        self.mac(&secret, &[first, seed].concat())[..32].to_vec()
    }

    fn mac(&self, key: &[u8], message: &[u8]) -> Vec<u8> {
        let algorithm = match &*self.hash {
            "sha256" => hmac::HMAC_SHA256,
            _ => hmac::HMAC_SHA384,
        };
        let tag = hmac::sign(&hmac::Key::new(algorithm, key), message);
        tag.as_ref().to_vec()
    }

    fn digest(&self) -> &'static digest::Algorithm {
        match &*self.hash {
            "sha256" => &digest::SHA256,
            _ => &digest::SHA384,
        }
    }
}

#[derive(Deserialize)]
struct Values {
    thumbprints: Vec<NamedThumbprint>,
    token_hashes: Vec<NamedHash>,
}

#[derive(Deserialize)]
struct NamedThumbprint {
    certificate_pem: String,
    #[serde(rename = "x5t#S256")]
    x5t_s256: String,
}

#[derive(Deserialize)]
struct NamedHash {
    access_token: String,
    ath: String,
}

#[test]
fn thumbprints_and_token_hashes_are_those_of_the_vectors() {
    let Values {
        thumbprints,
        token_hashes,
    } = file("values");
    for vector in thumbprints {
        let found = Thumbprint::from_certificate(&certificate(&vector.certificate_pem));
        assert_eq!(found.to_string(), vector.x5t_s256);
    }
    for vector in token_hashes {
        let token = AccessToken::new(vector.access_token).unwrap();
        assert_eq!(base64url(token.hash().as_bytes()), vector.ath);
    }
}

#[derive(Deserialize)]
struct TargetPairs {
    origins: Vec<String>,
    vectors: Vec<TargetPair>,
}

#[derive(Deserialize)]
struct TargetPair {
    name: String,
    htu: String,
    path: String,
    matches: bool,
    matches_where_bare_paths_are_refused: bool,
}

#[test]
fn an_htu_matches_a_request_as_the_vectors_say() {
    let TargetPairs { origins, vectors } = file("targets");
    let key: Vectors = read("EdDSA");
    let identity = key.identity();
    for vector in vectors {
        let claims = with(per_request(), "htu", json!(vector.htu));
        let header = json!({
            "typ": "tls-binding-proof+jwt",
            "alg": "EdDSA",
            "x5t#S256": key.thumbprint,
        });
        let proof = identity.jws("EdDSA", &header.to_string(), &claims.to_string());
        for (bare, matches) in [
            (true, vector.matches),
            (false, vector.matches_where_bare_paths_are_refused),
        ] {
            let mut fixture = key.fixture();
            let configured = origins.iter().map(|origin| origin.parse().unwrap());
            fixture.targets = Targets::new(configured).bare_path(bare);
            fixture.path = vector.path.split('?').next().unwrap().to_owned();
            let verified = identity
                .verifier()
                .verify(proof.as_bytes(), &fixture.expected());
            let check = verified.as_ref().err().map(|refusal| refusal.check());
            let expected = (!matches).then_some(Check::TargetUri);
            assert_eq!(check, expected, "{} (bare paths: {bare})", vector.name);
        }
    }
}

#[derive(Deserialize)]
struct Confirmations {
    vectors: Vec<Shape>,
}

#[derive(Deserialize)]
struct Shape {
    name: String,
    claims_json: String,
    says: String,
}

/// What `cnf` says. The verdicts of the policies are the server's to give, not this crate's.
#[test]
fn a_cnf_says_what_the_vectors_say() {
    let Confirmations { vectors } = file("confirmations");
    for vector in vectors {
        let confirmation = Confirmation::from_json(vector.claims_json.as_bytes());
        let demand = confirmation.as_ref().map(Confirmation::demand);
        let says = match (demand, &confirmation) {
            (Err(ConfirmationError::Malformed), _) => "malformed",
            (Ok(Err(ConfirmationError::Conflict)), _) => "conflict",
            (Ok(Err(ConfirmationError::UnknownLabel)), _) => "unknown_label",
            (Ok(Err(ConfirmationError::NoCertificate)), _) => "no_certificate",
            (Ok(Ok(Demand::Session)), _) => "session",
            (Ok(Ok(Demand::Dpop)), _) => "dpop",
            (Ok(Ok(Demand::None)), Ok(cnf)) if cnf.unknown_method => "unknown",
            (Ok(Ok(Demand::None)), Ok(cnf)) if cnf.x5t_s256.is_some() => "certificate",
            (Ok(Ok(Demand::None)), Ok(_)) => "none",
            other => panic!("{}: {other:?}", vector.name),
        };
        assert_eq!(says, vector.says, "{}", vector.name);
    }
}

#[derive(Deserialize)]
struct Hostile {
    access_token: String,
    vectors: Vec<Forbidden>,
}

#[derive(Deserialize)]
struct Forbidden {
    name: String,
    certificate_pem: String,
    check: String,
    reason: String,
    error: String,
    proof: String,
}

#[test]
fn a_mac_with_the_public_key_and_a_short_rsa_key_are_refused() {
    let Hostile {
        access_token,
        vectors,
    } = file("hostile");
    assert_eq!(access_token, TOKEN);
    let fixture = read("EdDSA").fixture();
    for vector in vectors {
        let verifier = match ProofVerifier::new(&certificate(&vector.certificate_pem)) {
            // Before any proof: the server lets no such certificate through the handshake.
            Err(error) => {
                assert_eq!(error.kind(), KeyErrorKind::WeakRsa, "{}", vector.name);
                assert_eq!(vector.name, "rsa_1024");
                continue;
            }
            Ok(verifier) => verifier,
        };
        let refusal = verifier
            .verify(vector.proof.as_bytes(), &fixture.expected())
            .expect_err(&vector.name);
        let check = refusal.check();
        let named = (&*vector.check, &*vector.reason, Some(&*vector.error));
        assert_eq!((check.id(), check.name(), check.error()), named);
    }
}

fn certificate(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

fn file<T: DeserializeOwned>(name: &str) -> T {
    serde_json::from_slice(&fs::read(path(name)).unwrap()).unwrap()
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap())
        .collect()
}
