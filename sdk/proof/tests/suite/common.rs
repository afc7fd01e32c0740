//! Keys, certificates, and proofs put together by hand.
//!
//! Nothing here goes through the crate's own minting: signatures come from aws-lc in JWS form
//! directly, so that the crate is checked against something other than itself.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use aws_lc_rs::{
    rand::SystemRandom,
    rsa,
    signature::{self, EcdsaKeyPair, Ed25519KeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bowline_proof::{ProofKey, ProofVerifier, Thumbprint};
use rcgen::{CertificateParams, KeyPair};
use rustls::{crypto::aws_lc_rs::sign::any_supported_type, sign::SigningKey};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime, pem::PemObject,
};

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

/// A second P-256 identity: whose proofs must be refused where the first one's are taken.
pub(crate) static THIEF: LazyLock<Identity> =
    LazyLock::new(|| Identity::generate(&rcgen::PKCS_ECDSA_P256_SHA256));

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
        Thumbprint::of(&self.certificate)
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
