//! A public key as a JWK (RFC 7517): read from a proof's header, or made of a SubjectPublicKeyInfo.

use aws_lc_rs::signature::{self, ParsedPublicKey, RsaPublicKeyComponents, VerificationAlgorithm};
use serde::{Deserialize, de::IgnoredAny};
use x509_parser::{
    prelude::FromDer, public_key::PublicKey as X509PublicKey, x509::SubjectPublicKeyInfo,
};

use super::{DpopCheck, JwkThumbprint};
use crate::{
    Algorithm, KeyErrorKind,
    certificate::{PublicKey, check_rsa_size},
    encoding::{base64url, from_base64url, present},
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
        JwkThumbprint::of(&self.canonical)
    }

    /// The key, ready to verify `algorithm`; `None` where the algorithm does not fit the key.
    pub(super) fn verifying(&self, algorithm: Algorithm) -> Option<&ParsedPublicKey> {
        self.public_key.verifying(algorithm)
    }

    /// From the DER of a SubjectPublicKeyInfo (RFC 5280 §4.1.2.7).
    pub(super) fn of_spki(der: &[u8]) -> Result<Self, KeyErrorKind> {
        let (rest, spki) =
            SubjectPublicKeyInfo::from_der(der).map_err(|_| KeyErrorKind::BadPublicKey)?;
        if !rest.is_empty() {
            return Err(KeyErrorKind::BadPublicKey);
        }
        let bytes = &*spki.subject_public_key.data;
        let material = match PublicKey::parse(&spki)? {
            PublicKey::P256(_) => Material::of_point(Curve::P256, bytes),
            PublicKey::P384(_) => Material::of_point(Curve::P384, bytes),
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
    // What RFC 7518 §6.2.2, §6.3.2, §6.4.1 and RFC 8037 §2 call private. Whatever it holds, it may
    // not be there.
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
    /// The key, if it is one; what is wrong otherwise.
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

/// What a public key is made of.
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
    fn of_point(curve: Curve, point: &[u8]) -> Option<Self> {
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
mod tests {
    use super::*;

    fn thumbprint(jwk: &str) -> Result<String, DpopCheck> {
        let members: Members = serde_json::from_str(jwk).unwrap();
        members.jwk().map(|jwk| jwk.thumbprint().to_string())
    }

    const RFC_7638_N: &str = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECP\
        ebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgn\
        Yb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-c\
        sFCur-kEgU8awapJzKnqDKgw";

    #[test]
    fn the_examples_of_rfc_7638_rfc_8037_and_rfc_9449_have_their_thumbprints() {
        let rsa = format!(
            r#"{{"kty":"RSA","n":"{RFC_7638_N}","e":"AQAB","alg":"RS256","kid":"2011-04-29"}}"#
        );
        assert_eq!(
            thumbprint(&rsa).unwrap(),
            "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
        );
        let ed25519 =
            r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
        assert_eq!(
            thumbprint(ed25519).unwrap(),
            "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
        );
        let p256 = r#"{"kty":"EC","x":"l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs",
            "y":"9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA","crv":"P-256"}"#;
        assert_eq!(
            thumbprint(p256).unwrap(),
            "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
        );
    }

    /// Otherwise one key would have several thumbprints.
    #[test]
    fn a_number_has_one_spelling() {
        let x = from_base64url("l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs").unwrap();
        let y = from_base64url("9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA").unwrap();
        let ec = |x: &[u8], y: &[u8]| {
            let members = format!(
                r#"{{"kty":"EC","crv":"P-256","x":"{}","y":"{}"}}"#,
                base64url(x),
                base64url(y)
            );
            thumbprint(&members)
        };
        assert!(ec(&x, &y).is_ok());
        assert_eq!(ec(&[&[0], &*x].concat(), &y), Err(DpopCheck::Jwk));
        assert_eq!(ec(&x, &[&[0], &*y].concat()), Err(DpopCheck::Jwk));
        assert_eq!(ec(&x[1..], &y), Err(DpopCheck::Jwk));
        // The same point, cut elsewhere.
        assert_eq!(ec(&x[..31], &[&x[31..], &*y].concat()), Err(DpopCheck::Jwk));

        let n = from_base64url(RFC_7638_N).unwrap();
        let rsa = |n: &[u8], e: &[u8]| {
            thumbprint(&format!(
                r#"{{"kty":"RSA","n":"{}","e":"{}"}}"#,
                base64url(n),
                base64url(e)
            ))
        };
        assert!(rsa(&n, &[1, 0, 1]).is_ok());
        assert_eq!(rsa(&[&[0], &*n].concat(), &[1, 0, 1]), Err(DpopCheck::Jwk));
        assert_eq!(rsa(&n, &[0, 1, 0, 1]), Err(DpopCheck::Jwk));
        // 2047 bits.
        let weak = [&[0x7F], &n[1..]].concat();
        assert_eq!(rsa(&weak, &[1, 0, 1]), Err(DpopCheck::Jwk));
    }
}
