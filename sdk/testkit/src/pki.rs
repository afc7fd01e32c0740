//! A development certificate authority, made anew for each [`Pki`].
//!
//! It issues server and client certificates for every key kind that the wire profile accepts
//! (PR-2), certificates that are expired or not valid yet, and, as a second [`Pki`], certificates
//! of a foreign authority. [`Leaf::self_signed`] makes some that no authority has signed. It does
//! not revoke, and makes no intermediates: a chain is one certificate. RSA keys under 2048 bits
//! cannot be made here, because aws-lc-rs generates none.

use std::fmt;
use std::fs;
use std::io;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bowline_proof::Thumbprint;
use bowline_proof::dpop::DpopKey;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::RootCertStore;
use rustls::sign::SigningKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};

use crate::secrets;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A development certificate authority.
pub struct Pki {
    name: String,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    /// Makes a new authority with a P-256 key, valid from yesterday for ten years.
    ///
    /// # Panics
    /// If no key can be generated.
    #[must_use]
    pub fn new() -> Self {
        Self::named("bowline development CA")
    }

    /// A new CA, and a P-256 client certificate of it with the name `agent`.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    #[must_use]
    pub fn with_agent() -> (Self, Leaf) {
        let pki = Self::new();
        let agent = pki.client("agent", KeyKind::P256);
        (pki, agent)
    }

    /// Makes a second authority: a peer that trusts the first one does not trust this one.
    ///
    /// # Panics
    /// If no key can be generated.
    #[must_use]
    pub fn foreign() -> Self {
        Self::named("foreign CA")
    }

    /// A server certificate (P-256) for `names`, each a DNS name or an IP address.
    ///
    /// # Panics
    /// If a name is not a DNS name, or no key can be generated.
    #[must_use]
    pub fn server(&self, names: &[&str]) -> Leaf {
        self.issue(&LeafSpec::server(names))
    }

    /// A server certificate for `localhost`, `127.0.0.1` and `::1`.
    ///
    /// # Panics
    /// As [`Pki::server`].
    #[must_use]
    pub fn localhost(&self) -> Leaf {
        self.server(&["localhost", "127.0.0.1", "::1"])
    }

    /// A client certificate whose subject common name is `name`.
    ///
    /// # Panics
    /// If no key can be generated.
    #[must_use]
    pub fn client(&self, name: &str, kind: KeyKind) -> Leaf {
        self.issue(&LeafSpec::client(name).key(kind))
    }

    /// A certificate with the contents of `spec` and a new key.
    ///
    /// # Panics
    /// If the spec names something that X.509 cannot hold, or no key can be generated.
    #[must_use]
    pub fn issue(&self, spec: &LeafSpec) -> Leaf {
        Leaf::new(spec, |params, key| params.signed_by(key, &self.issuer))
    }

    /// The authority's own certificate.
    #[must_use]
    pub fn ca_der(&self) -> &CertificateDer<'static> {
        self.issuer.der()
    }

    /// The authority's own certificate as PEM.
    #[must_use]
    pub fn ca_pem(&self) -> String {
        self.issuer.pem()
    }

    /// A root store that trusts this authority only.
    ///
    /// # Panics
    /// Never in practice: the certificate was made by this type.
    #[must_use]
    pub fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots
            .add(self.ca_der().clone())
            .expect("a CA certificate just made is a valid trust anchor");
        Arc::new(roots)
    }

    /// Writes `ca.pem`, and for each leaf `<name>.pem` and `<name>-key.pem`, into `dir`, which is
    /// created if it does not exist. Key files get mode 0600 before anything is written to them.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write_to(&self, dir: &Path, leaves: &[&Leaf]) -> io::Result<()> {
        fs::create_dir_all(dir)?;
        fs::write(dir.join("ca.pem"), self.ca_pem())?;
        for leaf in leaves {
            leaf.write_to(dir)?;
        }
        Ok(())
    }

    fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        params.not_before = (SystemTime::now() - DAY).into();
        params.not_after = (SystemTime::now() + 3650 * DAY).into();
        let key = KeyPair::generate().expect("aws-lc-rs generates P-256 keys");
        secrets::record_key(key.serialized_der());
        let issuer = CertifiedIssuer::self_signed(params, key)
            .unwrap_or_else(|e| panic!("cannot sign the certificate of {name:?}: {e}"));
        Self {
            name: name.to_owned(),
            issuer,
        }
    }
}

impl Default for Pki {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Pki {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pki")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// The key kinds that a client certificate may have (PR-2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// ECDSA on P-256: proofs are `ES256`.
    P256,
    /// ECDSA on P-384: proofs are `ES384`.
    P384,
    /// Ed25519: proofs are `EdDSA`.
    Ed25519,
    /// RSA of 2048 bits: proofs are `PS256`.
    Rsa2048,
}

impl KeyKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::P256, Self::P384, Self::Ed25519, Self::Rsa2048];

    fn algorithm(self) -> &'static rcgen::SignatureAlgorithm {
        match self {
            Self::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Self::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            Self::Ed25519 => &rcgen::PKCS_ED25519,
            Self::Rsa2048 => &rcgen::PKCS_RSA_SHA256,
        }
    }
}

/// The contents of a certificate to issue: see [`Pki::issue`].
#[derive(Clone, Debug)]
pub struct LeafSpec {
    name: String,
    alternative_names: Vec<String>,
    usage: ExtendedKeyUsagePurpose,
    kind: KeyKind,
    not_before: SystemTime,
    not_after: SystemTime,
}

impl LeafSpec {
    /// A client certificate (P-256) with the subject common name `name`, valid from an hour ago
    /// for a year.
    #[must_use]
    pub fn client(name: &str) -> Self {
        Self::new(name, Vec::new(), ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// A server certificate (P-256) for `names`, valid from an hour ago for a year. Its common
    /// name, and so its file name, is the first of them.
    ///
    /// # Panics
    /// If `names` is empty.
    #[must_use]
    pub fn server(names: &[&str]) -> Self {
        let first = names
            .first()
            .expect("a server certificate needs at least one name");
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Self::new(first, names, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// Sets the kind of key.
    #[must_use]
    pub fn key(mut self, kind: KeyKind) -> Self {
        self.kind = kind;
        self
    }

    /// Sets both ends of the validity (X.509 keeps whole seconds).
    #[must_use]
    pub fn valid(mut self, not_before: SystemTime, not_after: SystemTime) -> Self {
        self.not_before = not_before;
        self.not_after = not_after;
        self
    }

    /// Sets the end of the validity.
    #[must_use]
    pub fn not_after(mut self, not_after: SystemTime) -> Self {
        self.not_after = not_after;
        self
    }

    /// A certificate that expired yesterday.
    #[must_use]
    pub fn expired(self) -> Self {
        let now = SystemTime::now();
        self.valid(now - 2 * DAY, now - DAY)
    }

    /// A certificate that will be valid tomorrow.
    #[must_use]
    pub fn not_yet_valid(self) -> Self {
        let now = SystemTime::now();
        self.valid(now + DAY, now + 2 * DAY)
    }

    fn new(name: &str, alternative_names: Vec<String>, usage: ExtendedKeyUsagePurpose) -> Self {
        let now = SystemTime::now();
        Self {
            name: name.to_owned(),
            alternative_names,
            usage,
            kind: KeyKind::P256,
            not_before: now - HOUR,
            not_after: now + 365 * DAY,
        }
    }

    fn params(&self) -> CertificateParams {
        // rcgen itself distinguishes IP addresses from DNS names.
        let mut params = CertificateParams::new(self.alternative_names.clone())
            .unwrap_or_else(|e| panic!("{:?}: not certificate names: {e}", self.alternative_names));
        params.distinguished_name = common_name(&self.name);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![self.usage.clone()];
        params.use_authority_key_identifier_extension = true;
        params.not_before = self.not_before.into();
        params.not_after = self.not_after.into();
        params
    }
}

/// A certificate with its private key.
#[derive(Clone)]
pub struct Leaf {
    name: String,
    kind: KeyKind,
    not_after: SystemTime,
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    key: Arc<PrivatePkcs8KeyDer<'static>>,
    key_pem: String,
}

impl Leaf {
    /// A certificate with the contents of `spec`, signed with its own new key.
    ///
    /// # Panics
    /// As [`Pki::issue`].
    #[must_use]
    pub fn self_signed(spec: &LeafSpec) -> Self {
        Self::new(spec, |params, key| params.self_signed(key))
    }

    /// The subject common name, which also names the files.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The kind of its key.
    #[must_use]
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The end of its validity, as asked for: the certificate keeps whole seconds of it.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// The certificate, DER.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The chain as TLS sends it, leaf first: here the leaf alone.
    #[must_use]
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.clone()]
    }

    /// The chain as PEM.
    #[must_use]
    pub fn chain_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The private key, PKCS #8 DER.
    #[must_use]
    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key.clone_key())
    }

    /// The private key, PKCS #8 PEM.
    #[must_use]
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// The public key as a JWK (RFC 7517), with the certificate in `x5c` and the key's thumbprint
    /// (RFC 7638) as `kid`.
    ///
    /// # Panics
    /// Never in practice: every key kind here is a JWK.
    #[must_use]
    pub fn jwk(&self) -> Value {
        let key = DpopKey::with_certificate(&self.certificate, self.signing_key())
            .expect("the key of the certificate");
        let mut jwk: Value = serde_json::from_str(key.jwk()).expect("a JWK is JSON");
        jwk["kid"] = json!(key.thumbprint().to_string());
        jwk["x5c"] = json!([STANDARD.encode(&self.certificate)]);
        jwk
    }

    /// The private key as rustls signs with it.
    ///
    /// # Panics
    /// Never in practice: aws-lc-rs loads every key that it makes.
    #[must_use]
    pub fn signing_key(&self) -> Arc<dyn SigningKey> {
        rustls::crypto::aws_lc_rs::sign::any_supported_type(&self.key())
            .expect("aws-lc-rs loads every key kind that it generates")
    }

    /// SHA-256 over the certificate's DER: what `cnf.x5t#S256` holds (RFC 8705 §3.1).
    #[must_use]
    pub fn thumbprint(&self) -> Thumbprint {
        Thumbprint::from_certificate(&self.certificate)
    }

    /// Writes `<name>.pem` and `<name>-key.pem` (mode 0600) into `dir`.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write_to(&self, dir: &Path) -> io::Result<LeafFiles> {
        let files = LeafFiles {
            certificate: dir.join(format!("{}.pem", self.name)),
            key: dir.join(format!("{}-key.pem", self.name)),
        };
        fs::write(&files.certificate, &self.certificate_pem)?;
        write_private(&files.key, &self.key_pem)?;
        Ok(files)
    }

    fn new(
        spec: &LeafSpec,
        sign: impl FnOnce(CertificateParams, &KeyPair) -> Result<Certificate, rcgen::Error>,
    ) -> Self {
        let key = KeyPair::generate_for(spec.kind.algorithm())
            .unwrap_or_else(|e| panic!("cannot generate a {:?} key: {e}", spec.kind));
        secrets::record_key(key.serialized_der());
        let certificate = sign(spec.params(), &key)
            .unwrap_or_else(|e| panic!("cannot sign the certificate of {:?}: {e}", spec.name));
        Self {
            name: spec.name.clone(),
            kind: spec.kind,
            not_after: spec.not_after,
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            key: Arc::new(PrivatePkcs8KeyDer::from(key.serialize_der())),
            certificate: certificate.der().clone(),
        }
    }
}

/// Shows the name and the kind, not the key.
impl fmt::Debug for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaf")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// The files that [`Leaf::write_to`] has written.
#[derive(Clone, Debug)]
pub struct LeafFiles {
    /// The certificate chain, PEM.
    pub certificate: PathBuf,
    /// The private key, PEM, mode 0600.
    pub key: PathBuf,
}

fn common_name(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    // A file left by an earlier run keeps its mode when it is truncated, so it is replaced.
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.write_all(text.as_bytes())
}
