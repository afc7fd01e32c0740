//! The local authority: it speaks to the agent in the name of the allowed origins (GW-6).
//!
//! A root, which the agent trusts, has signed one intermediate, and its key is gone. The
//! intermediate's name constraints permit the allowed names alone: not every TLS library heeds
//! those of a root, but all do those of an intermediate.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    NameConstraints, SanType,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

const HOUR: Duration = Duration::from_secs(3600);
/// Validity begins this much earlier, since clocks differ.
const SKEW: Duration = HOUR;
const AUTHORITY_LIFE: Duration = Duration::from_secs(90 * 24 * 3600);
const LEAF_LIFE: Duration = Duration::from_secs(24 * 3600);
/// A leaf is issued anew when this much of its life is over.
const LEAF_USE: Duration = Duration::from_secs(12 * 3600);

/// A certificate could not be made.
#[derive(Debug, thiserror::Error)]
#[error("the local authority cannot make a certificate")]
pub(crate) struct AuthorityError(#[source] Box<dyn std::error::Error + Send + Sync>);

impl AuthorityError {
    pub(crate) fn new(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(error.into())
    }
}

/// The authority of one egress, in memory only.
pub(crate) struct Authority {
    root: CertificateDer<'static>,
    intermediate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    names: Vec<String>,
    leaves: Mutex<HashMap<String, Leaf>>,
}

#[derive(Clone)]
struct Leaf {
    key: Arc<CertifiedKey>,
    issued: SystemTime,
}

impl Authority {
    /// Makes an authority for these DNS names, in lower case.
    ///
    /// # Errors
    /// A name that no certificate can hold; the system's random numbers fail.
    pub(crate) fn new<'a>(
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, AuthorityError> {
        let mut names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        names.sort();
        names.dedup();
        let now = SystemTime::now();

        let mut root = params(now, AUTHORITY_LIFE);
        root.distinguished_name = common_name("bowline local root");
        root.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        root.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let root_key = new_key()?;
        let root_der = root.self_signed(&root_key).map_err(AuthorityError::new)?;
        let root = Issuer::new(root, root_key);

        let mut intermediate = params(now, AUTHORITY_LIFE);
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
        let intermediate_der = intermediate
            .signed_by(&key, &root)
            .map_err(AuthorityError::new)?;
        // The root's key goes here, with `root`.
        Ok(Self {
            root: root_der.into(),
            intermediate: intermediate_der.into(),
            issuer: Issuer::new(intermediate, key),
            names,
            leaves: Mutex::default(),
        })
    }

    /// The root, which the agent is to trust.
    pub(crate) fn root(&self) -> &CertificateDer<'static> {
        &self.root
    }

    /// A certificate for this name alone, with its chain; the same one for half of its life.
    ///
    /// # Errors
    /// A name that the authority was not made for.
    pub(crate) fn leaf(
        &self,
        name: &str,
        now: SystemTime,
    ) -> Result<Arc<CertifiedKey>, AuthorityError> {
        if !self.names.iter().any(|known| known == name) {
            return Err(AuthorityError::new(format!(
                "{name} is not an allowed name"
            )));
        }
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(leaf) = leaves.get(name) {
            // `Err`: the clock was set back.
            let age = now.duration_since(leaf.issued);
            if age.is_ok_and(|age| age < LEAF_USE) {
                return Ok(leaf.key.clone());
            }
        }
        let key = Arc::new(self.issue(name, now)?);
        let leaf = Leaf {
            key: key.clone(),
            issued: now,
        };
        leaves.insert(name.to_owned(), leaf);
        Ok(key)
    }

    fn issue(&self, name: &str, now: SystemTime) -> Result<CertifiedKey, AuthorityError> {
        let mut leaf = params(now, LEAF_LIFE);
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

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("names", &self.names)
            .finish_non_exhaustive()
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
