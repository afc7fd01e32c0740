//! Keys, certificates, and proofs put together by hand.
//!
//! Nothing here goes through the crate's own minting: signatures come from aws-lc in JWS form
//! directly, so that the crate is checked against something other than itself.

use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::{
    rand::SystemRandom,
    rsa,
    signature::{self, EcdsaKeyPair, Ed25519KeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bowline_proof::{Algorithm, ProofKey, ProofVerifier, Thumbprint};
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    SignatureAlgorithm, SignatureScheme,
    crypto::aws_lc_rs::sign::any_supported_type,
    sign::{Signer, SigningKey},
};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer, UnixTime,
    pem::PemObject,
};
use serde_json::Value;
use x509_parser::certificate::X509Certificate;

/// A self-signed certificate and its key.
pub(crate) struct Identity {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) pkcs8: PrivatePkcs8KeyDer<'static>,
}

pub(crate) static P256: LazyLock<Identity> =
    LazyLock::new(|| Identity::generate(&rcgen::PKCS_ECDSA_P256_SHA256));
pub(crate) static P384: LazyLock<Identity> =
    LazyLock::new(|| Identity::generate(&rcgen::PKCS_ECDSA_P384_SHA384));
pub(crate) static ED25519: LazyLock<Identity> =
    LazyLock::new(|| Identity::generate(&rcgen::PKCS_ED25519));
pub(crate) static RSA: LazyLock<Identity> =
    LazyLock::new(|| Identity::generate(&rcgen::PKCS_RSA_SHA256));

/// A second P-256 identity: its proofs must be refused where those of [`P256`] are accepted.
pub(crate) static ATTACKER: LazyLock<Identity> =
    LazyLock::new(|| Identity::generate(&rcgen::PKCS_ECDSA_P256_SHA256));

/// Each kind of key, with the algorithm that it mints.
pub(crate) fn minted_algorithms() -> [(&'static Identity, Algorithm); 4] {
    [
        (&P256, Algorithm::Es256),
        (&P384, Algorithm::Es384),
        (&ED25519, Algorithm::EdDsa),
        (&RSA, Algorithm::Ps256),
    ]
}

/// Each kind of key, with every `alg` that a verifier accepts from it.
pub(crate) fn accepted_algorithms() -> [(&'static Identity, &'static str); 6] {
    [
        (&P256, "ES256"),
        (&P384, "ES384"),
        (&ED25519, "EdDSA"),
        (&ED25519, "Ed25519"),
        (&RSA, "PS256"),
        (&RSA, "RS256"),
    ]
}

impl Identity {
    pub(crate) fn generate(algorithm: &'static rcgen::SignatureAlgorithm) -> Self {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2120, 1, 1);
        Self {
            certificate: params.self_signed(&key).unwrap().der().clone(),
            pkcs8: PrivatePkcs8KeyDer::from(key.serialize_der()),
        }
    }

    pub(crate) fn from_pem(certificate: &str, key: &str) -> Self {
        Self {
            certificate: CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap(),
            pkcs8: PrivatePkcs8KeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        }
    }

    pub(crate) fn x509(&self) -> X509Certificate<'_> {
        let (_, certificate) = x509_parser::parse_x509_certificate(&self.certificate).unwrap();
        certificate
    }

    pub(crate) fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.pkcs8.clone_key())
    }

    pub(crate) fn signing_key(&self) -> Arc<dyn SigningKey> {
        any_supported_type(&self.private_key()).unwrap()
    }

    pub(crate) fn proof_key(&self) -> ProofKey {
        ProofKey::new(&self.certificate, self.signing_key()).unwrap()
    }

    pub(crate) fn verifier(&self) -> ProofVerifier {
        ProofVerifier::new(&self.certificate).unwrap()
    }

    pub(crate) fn thumbprint(&self) -> Thumbprint {
        Thumbprint::from_certificate(&self.certificate)
    }

    /// A JWS signature.
    pub(crate) fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let key = self.pkcs8.secret_pkcs8_der();
        let random = SystemRandom::new();
        let ecdsa = |kind| {
            let key = EcdsaKeyPair::from_pkcs8(kind, key).unwrap();
            key.sign(&random, message).unwrap().as_ref().to_vec()
        };
        let rsa = |padding: &'static dyn signature::RsaEncoding| {
            let key = rsa::KeyPair::from_pkcs8(key).unwrap();
            let mut signature = vec![0; key.public_modulus_len()];
            key.sign(padding, &random, message, &mut signature).unwrap();
            signature
        };
        match algorithm {
            "ES256" => ecdsa(&signature::ECDSA_P256_SHA256_FIXED_SIGNING),
            "ES384" => ecdsa(&signature::ECDSA_P384_SHA384_FIXED_SIGNING),
            "EdDSA" | "Ed25519" => Ed25519KeyPair::from_pkcs8(key)
                .unwrap()
                .sign(message)
                .as_ref()
                .to_vec(),
            "PS256" => rsa(&signature::RSA_PSS_SHA256),
            "RS256" => rsa(&signature::RSA_PKCS1_SHA256),
            _ => panic!("no such algorithm: {algorithm}"),
        }
    }

    /// A compact JWS over any two texts, properly signed.
    pub(crate) fn jws(&self, algorithm: &str, header: &str, payload: &str) -> String {
        let input = format!("{}.{}", base64url(header), base64url(payload));
        let signature = self.sign(algorithm, input.as_bytes());
        format!("{input}.{}", base64url(signature))
    }
}

pub(crate) fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) fn from_base64url(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap()
}

pub(crate) fn sha256(bytes: &[u8]) -> Vec<u8> {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes)
        .as_ref()
        .to_vec()
}

pub(crate) fn time(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

/// The header and the claims of a compact JWS.
pub(crate) fn parts(jws: &str) -> (Value, Value) {
    let mut parts = jws.split('.').map(from_base64url);
    let mut object = || serde_json::from_slice(&parts.next().unwrap()).unwrap();
    (object(), object())
}

pub(crate) fn with(mut object: Value, member: &str, value: impl Into<Value>) -> Value {
    object[member] = value.into();
    object
}

pub(crate) fn without(mut object: Value, member: &str) -> Value {
    object.as_object_mut().unwrap().remove(member);
    object
}

/// RFC 6750 §3: `error_description` keeps to these characters.
pub(crate) fn fits_error_description(text: &str) -> bool {
    text.chars()
        .all(|c| (' '..='~').contains(&c) && c != '"' && c != '\\')
}

/// A key with the faults of real devices: it may not expose its public key, lack a scheme, or give
/// a malformed signature.
#[derive(Debug)]
pub(crate) struct FaultyKey {
    pub(crate) key: Arc<dyn SigningKey>,
    pub(crate) exposes_public_key: bool,
    pub(crate) refuses: Option<SignatureScheme>,
    pub(crate) answer: fn(Vec<u8>) -> Result<Vec<u8>, rustls::Error>,
    pub(crate) signatures: Arc<AtomicUsize>,
}

impl FaultyKey {
    pub(crate) fn new(identity: &Identity) -> Self {
        Self {
            key: identity.signing_key(),
            exposes_public_key: false,
            refuses: None,
            answer: Ok,
            signatures: Arc::default(),
        }
    }

    pub(crate) fn without_public_key(identity: &Identity) -> Arc<dyn SigningKey> {
        Arc::new(Self::new(identity))
    }
}

impl SigningKey for FaultyKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let signer = self.key.choose_scheme(offered)?;
        if self.refuses == Some(signer.scheme()) {
            return None;
        }
        Some(Box::new(FaultySigner {
            signer,
            answer: self.answer,
            signatures: self.signatures.clone(),
        }))
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        self.exposes_public_key
            .then(|| self.key.public_key())
            .flatten()
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.key.algorithm()
    }
}

#[derive(Debug)]
struct FaultySigner {
    signer: Box<dyn Signer>,
    answer: fn(Vec<u8>) -> Result<Vec<u8>, rustls::Error>,
    signatures: Arc<AtomicUsize>,
}

impl Signer for FaultySigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        self.signatures.fetch_add(1, Ordering::Relaxed);
        (self.answer)(self.signer.sign(message)?)
    }

    fn scheme(&self) -> SignatureScheme {
        self.signer.scheme()
    }
}
