//! A root and the intermediate that it has signed.

use std::time::{Duration, SystemTime};

use bowline_proof::pem;
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    NameConstraints, SanType,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::AuthorityError;
use crate::pem_text;

/// Validity begins this much earlier, since clocks differ.
const SKEW: Duration = Duration::from_secs(3600);
const LIFE: Duration = Duration::from_secs(90 * 24 * 3600);
const LEAF_LIFE: Duration = Duration::from_secs(24 * 3600);

/// The key is the intermediate's. The root's is gone: not every TLS library heeds the name
/// constraints of a root, but all do those of an intermediate.
pub(super) struct Pair {
    root: CertificateDer<'static>,
    intermediate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    /// In lower case, each once.
    names: Vec<String>,
    not_after: SystemTime,
}

impl Pair {
    /// Makes one for these DNS names, in lower case.
    ///
    /// # Errors
    /// A name that no certificate can hold; the system's random numbers fail.
    pub(super) fn new(names: &[String], now: SystemTime) -> Result<Self, AuthorityError> {
        let mut root = params(now, LIFE);
        root.distinguished_name = common_name("bowline local root");
        root.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        root.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let root_key = new_key()?;
        let root_der = root.self_signed(&root_key).map_err(AuthorityError::new)?;
        let root = Issuer::new(root, root_key);

        let mut intermediate = params(now, LIFE);
        intermediate.distinguished_name = common_name("bowline local intermediate");
        intermediate.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        intermediate.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        intermediate.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        intermediate.use_authority_key_identifier_extension = true;
        intermediate.name_constraints = Some(NameConstraints {
            permitted_subtrees: names.iter().cloned().map(GeneralSubtree::DnsName).collect(),
            excluded_subtrees: vec![
                GeneralSubtree::IpAddress(CidrSubnet::V4([0; 4], [0; 4])),
                GeneralSubtree::IpAddress(CidrSubnet::V6([0; 16], [0; 16])),
            ],
        });
        let key = new_key()?;
        let intermediate = intermediate
            .signed_by(&key, &root)
            .map_err(AuthorityError::new)?;
        // The root's key goes here, with `root`.
        Self::of(root_der.into(), intermediate.into(), key)
    }

    /// Reads what [`to_pem`](Self::to_pem) wrote.
    ///
    /// # Errors
    /// It is something else.
    pub(super) fn from_pem(text: &[u8]) -> Result<Self, AuthorityError> {
        let certificates = pem::certificates(text).map_err(AuthorityError::new)?;
        let Ok([intermediate, root]) = <[_; 2]>::try_from(certificates) else {
            return Err(AuthorityError::new("there are not two certificates"));
        };
        let key = pem::private_key(text).map_err(AuthorityError::new)?;
        // Without a source: it would quote the key.
        let key = KeyPair::try_from(&key)
            .map_err(|_| AuthorityError::new("the private key cannot be used"))?;
        Self::of(root, intermediate, key)
    }

    /// The key, the intermediate, the root.
    pub(super) fn to_pem(&self) -> String {
        let key = self.issuer.key().serialize_pem();
        let (intermediate, root) = (&self.intermediate, &self.root);
        format!(
            "{key}{}{}",
            pem_text::certificate(intermediate),
            pem_text::certificate(root)
        )
    }

    /// What the intermediate's certificate says.
    fn of(
        root: CertificateDer<'static>,
        intermediate: CertificateDer<'static>,
        key: KeyPair,
    ) -> Result<Self, AuthorityError> {
        let unreadable = || AuthorityError::new("the intermediate cannot be read");
        let (names, not_after) = {
            let (_, parsed) = X509Certificate::from_der(&intermediate).map_err(|_| unreadable())?;
            let constraints = parsed.name_constraints().map_err(|_| unreadable())?;
            let permitted = constraints.and_then(|found| found.value.permitted_subtrees.as_ref());
            let names = permitted.into_iter().flatten();
            let names = names.filter_map(|subtree| match subtree.base {
                GeneralName::DNSName(name) => Some(name.to_owned()),
                _ => None,
            });
            let seconds = u64::try_from(parsed.validity().not_after.timestamp());
            (names.collect(), seconds.map_err(AuthorityError::new)?)
        };
        let issuer = Issuer::from_ca_cert_der(&intermediate, key).map_err(AuthorityError::new)?;
        Ok(Self {
            root,
            intermediate,
            issuer,
            names,
            not_after: SystemTime::UNIX_EPOCH + Duration::from_secs(not_after),
        })
    }

    pub(super) fn root(&self) -> &CertificateDer<'static> {
        &self.root
    }

    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    pub(super) fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// How long it can still be used.
    pub(super) fn left(&self, now: SystemTime) -> Duration {
        self.not_after.duration_since(now).unwrap_or_default()
    }

    /// A certificate for this name alone, with its chain.
    pub(super) fn issue(
        &self,
        name: &str,
        now: SystemTime,
    ) -> Result<CertifiedKey, AuthorityError> {
        let mut leaf = params(now, LEAF_LIFE.min(self.left(now)));
        leaf.is_ca = IsCa::ExplicitNoCa;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        leaf.use_authority_key_identifier_extension = true;
        let name = Ia5String::try_from(name.to_owned()).map_err(AuthorityError::new)?;
        leaf.subject_alt_names = vec![SanType::DnsName(name)];
        let key = new_key()?;
        let certificate = leaf
            .signed_by(&key, &self.issuer)
            .map_err(AuthorityError::new)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let key = aws_lc_rs::sign::any_supported_type(&key).map_err(AuthorityError::new)?;
        let chain = vec![certificate.into(), self.intermediate.clone()];
        Ok(CertifiedKey::new(chain, key))
    }
}

fn params(now: SystemTime, life: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.not_before = (now - SKEW).into();
    params.not_after = (now + life).into();
    params
}

fn common_name(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    // Two egresses' roots in one store must not look like one authority.
    let number = fastrand::u64(..);
    names.push(DnType::CommonName, format!("{name} {number:016x}"));
    names
}

fn new_key() -> Result<KeyPair, AuthorityError> {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(AuthorityError::new)
}

#[cfg(test)]
mod tests;
