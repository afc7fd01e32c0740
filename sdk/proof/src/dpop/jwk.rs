//! A public key as a JWK (RFC 7517): read from a proof's header, or converted from a
//! SubjectPublicKeyInfo.

use aws_lc_rs::signature::{self, ParsedPublicKey, RsaPublicKeyComponents, VerificationAlgorithm};
use serde::{Deserialize, de::IgnoredAny};
use x509_parser::public_key::PublicKey as X509PublicKey;

use super::{DpopCheck, JwkThumbprint};
use crate::{
    Algorithm, KeyErrorKind,
    encoding::{base64url, from_base64url, present},
    public_key::{PublicKey, check_rsa_size, parse_spki},
};

/// A public key of a kind that PR-2 allows, and its canonical JWK.
pub(super) struct Jwk {
    pub(super) public_key: PublicKey,
    /// The required members only, in order, without white space (RFC 7638 §3): what is hashed, and
    /// what a proof's header carries.
    pub(super) canonical: String,
}

impl Jwk {
    pub(super) fn thumbprint(&self) -> JwkThumbprint {
        JwkThumbprint::from_canonical(&self.canonical)
    }

    /// The key, ready to verify `algorithm`; `None` if the algorithm does not fit the key.
    pub(super) fn verifying(&self, algorithm: Algorithm) -> Option<&ParsedPublicKey> {
        self.public_key.verifying(algorithm)
    }

    /// From the DER of a SubjectPublicKeyInfo (RFC 5280 §4.1.2.7).
    pub(super) fn from_spki(der: &[u8]) -> Result<Self, KeyErrorKind> {
        let spki = parse_spki(der)?;
        let bytes = &*spki.subject_public_key.data;
        let material = match PublicKey::parse(&spki)? {
            PublicKey::P256(_) => Material::from_point(Curve::P256, bytes),
            PublicKey::P384(_) => Material::from_point(Curve::P384, bytes),
            PublicKey::Ed25519(_) => Some(Material::Ed25519 { x: bytes.to_vec() }),
            PublicKey::Rsa { .. } => match spki.parsed() {
                Ok(X509PublicKey::RSA(key)) => Some(Material::Rsa {
                    n: without_leading_zeros(key.modulus).to_vec(),
                    e: without_leading_zeros(key.exponent).to_vec(),
                }),
                _ => None,
            },
        };
        material.ok_or(KeyErrorKind::BadPublicKey)?.jwk()
    }
}

/// The members of a JWK in a proof's header; others are ignored (RFC 7517 §4).
#[derive(Deserialize)]
pub(super) struct Members {
    kty: Option<String>,
    #[serde(default, deserialize_with = "present")]
    crv: Option<String>,
    #[serde(default, deserialize_with = "present")]
    x: Option<String>,
    #[serde(default, deserialize_with = "present")]
    y: Option<String>,
    #[serde(default, deserialize_with = "present")]
    n: Option<String>,
    #[serde(default, deserialize_with = "present")]
    e: Option<String>,
    // The private members of RFC 7518 §6.2.2, §6.3.2, §6.4.1 and RFC 8037 §2. They must be absent,
    // whatever their value.
    #[serde(default, deserialize_with = "present")]
    d: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    p: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    q: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    dp: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    dq: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    qi: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    oth: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    k: Option<IgnoredAny>,
}

impl Members {
    /// The key, or the check that refuses these members.
    pub(super) fn jwk(&self) -> Result<Jwk, DpopCheck> {
        let private = [
            &self.d, &self.p, &self.q, &self.dp, &self.dq, &self.qi, &self.oth, &self.k,
        ];
        if private.into_iter().any(Option::is_some) {
            return Err(DpopCheck::PrivateKey);
        }
        let material = self.material().ok_or(DpopCheck::Jwk)?;
        material.jwk().map_err(|_| DpopCheck::Jwk)
    }

    /// A key has one thumbprint, so each number has one spelling (RFC 7518 §6.2.1.2, §6.3.1.1): a
    /// coordinate its full width; aws-lc refuses leading zeros in the others.
    fn material(&self) -> Option<Material> {
        let bytes = |member: &Option<String>| from_base64url(member.as_deref()?);
        let coordinate =
            |member, curve: Curve| bytes(member).filter(|bytes| bytes.len() == curve.width());
        let ec = |curve: Curve| {
            Some(Material::Ec {
                x: coordinate(&self.x, curve)?,
                y: coordinate(&self.y, curve)?,
                curve,
            })
        };
        match (self.kty.as_deref()?, self.crv.as_deref()) {
            ("EC", Some("P-256")) => ec(Curve::P256),
            ("EC", Some("P-384")) => ec(Curve::P384),
            ("OKP", Some("Ed25519")) => Some(Material::Ed25519 { x: bytes(&self.x)? }),
            ("RSA", _) => Some(Material::Rsa {
                n: bytes(&self.n)?,
                e: bytes(&self.e)?,
            }),
            _ => None,
        }
    }
}

/// The numbers of a public key.
enum Material {
    Ec {
        curve: Curve,
        x: Vec<u8>,
        y: Vec<u8>,
    },
    Ed25519 {
        x: Vec<u8>,
    },
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
}

#[derive(Clone, Copy)]
enum Curve {
    P256,
    P384,
}

impl Curve {
    fn name(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
        }
    }

    /// The bytes of a coordinate (RFC 7518 §6.2.1.2).
    fn width(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
        }
    }
}

/// Starts an uncompressed point (SEC 1 §2.3.3).
const UNCOMPRESSED: u8 = 4;

impl Material {
    fn from_point(curve: Curve, point: &[u8]) -> Option<Self> {
        let (&UNCOMPRESSED, coordinates) = point.split_first()? else {
            return None;
        };
        let (x, y) = coordinates.split_at_checked(curve.width())?;
        (y.len() == curve.width()).then(|| Self::Ec {
            curve,
            x: x.to_vec(),
            y: y.to_vec(),
        })
    }

    fn jwk(self) -> Result<Jwk, KeyErrorKind> {
        Ok(Jwk {
            public_key: self.public_key()?,
            canonical: self.canonical(),
        })
    }

    /// RFC 7638 §3.2. No value has a character that JSON escapes.
    fn canonical(&self) -> String {
        match self {
            Self::Ec { curve, x, y } => format!(
                r#"{{"crv":"{}","kty":"EC","x":"{}","y":"{}"}}"#,
                curve.name(),
                base64url(x),
                base64url(y)
            ),
            Self::Ed25519 { x } => {
                format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, base64url(x))
            }
            Self::Rsa { n, e } => format!(
                r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#,
                base64url(e),
                base64url(n)
            ),
        }
    }

    /// Checks that a point lies on its curve, and the size of an RSA key.
    fn public_key(&self) -> Result<PublicKey, KeyErrorKind> {
        let parsed = |algorithm: &'static dyn VerificationAlgorithm, bytes: &[u8]| {
            ParsedPublicKey::new(algorithm, bytes).map_err(|_| KeyErrorKind::BadPublicKey)
        };
        match self {
            Self::Ec { curve, x, y } => {
                let point = [&[UNCOMPRESSED], &**x, y].concat();
                match curve {
                    Curve::P256 => {
                        parsed(&signature::ECDSA_P256_SHA256_FIXED, &point).map(PublicKey::P256)
                    }
                    Curve::P384 => {
                        parsed(&signature::ECDSA_P384_SHA384_FIXED, &point).map(PublicKey::P384)
                    }
                }
            }
            Self::Ed25519 { x } => parsed(&signature::ED25519, x).map(PublicKey::Ed25519),
            Self::Rsa { n, e } => {
                check_rsa_size(n)?;
                let components = RsaPublicKeyComponents { n, e };
                let parsed = |parameters| {
                    let key = components.to_parsed_public_key(parameters);
                    key.map_err(|_| KeyErrorKind::BadPublicKey)
                };
                Ok(PublicKey::Rsa {
                    pss: parsed(&signature::RSA_PSS_2048_8192_SHA256)?,
                    pkcs1: parsed(&signature::RSA_PKCS1_2048_8192_SHA256)?,
                })
            }
        }
    }
}

fn without_leading_zeros(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
    &bytes[zeros..]
}

#[cfg(test)]
mod tests;
