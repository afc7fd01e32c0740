//! A set of public keys, the signatures they verify, and the tokens found valid with them.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bowline_proof::TokenHash;
use jsonwebtoken::crypto::aws_lc;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Header};
use lru::LruCache;
use serde::Deserialize;
use serde_json::Value;

use crate::{TokenError, ValidToken};

/// Keys of one JWKS document. Replacing the set drops the tokens that were found valid with it.
pub(super) struct KeySet {
    document: Vec<u8>,
    keys: Vec<Key>,
    valid: Mutex<LruCache<TokenHash, ValidToken>>,
    cached_tokens: NonZeroUsize,
}

struct Key {
    id: Option<String>,
    /// What the key may verify: its type and the JWK's own `alg` decide, never the token alone (RFC
    /// 8725 section 3.1).
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

/// The result of verifying a signature with a key set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signature {
    Good,
    Bad,
    /// The key is not in the set. It may be in a newer one.
    UnknownKey,
}

impl KeySet {
    /// Reads the usable keys of a JWKS document and ignores others, as RFC 7517 section 5 asks.
    pub(super) fn parse(
        document: Vec<u8>,
        cached_tokens: NonZeroUsize,
    ) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Document {
            keys: Vec<Value>,
        }
        let parsed: Document = serde_json::from_slice(&document)?;
        Ok(Self {
            document,
            keys: parsed.keys.into_iter().filter_map(Key::from_jwk).collect(),
            valid: Mutex::new(LruCache::unbounded()),
            cached_tokens,
        })
    }

    pub(super) fn is_from(&self, document: &[u8]) -> bool {
        self.document == document
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn verify(&self, jwt: &SignedJwt<'_>) -> Signature {
        let algorithm = jwt.header.alg;
        let Some(id) = &jwt.header.kid else {
            // Without `kid` any key with this algorithm may be the right one, and a newer set may
            // have more.
            let mut fitting = self
                .keys
                .iter()
                .filter(|key| key.algorithms.contains(&algorithm));
            return if fitting.any(|key| key.verifies(jwt)) {
                Signature::Good
            } else {
                Signature::UnknownKey
            };
        };
        let mut named = self
            .keys
            .iter()
            .filter(|key| key.id.as_ref() == Some(id))
            .peekable();
        if named.peek().is_none() {
            return Signature::UnknownKey;
        }
        if named.any(|key| key.algorithms.contains(&algorithm) && key.verifies(jwt)) {
            Signature::Good
        } else {
            Signature::Bad
        }
    }

    pub(super) fn cached(&self, token: &TokenHash) -> Option<ValidToken> {
        let mut valid = self.valid.lock().unwrap_or_else(PoisonError::into_inner);
        valid.get(token).cloned()
    }

    pub(super) fn cache(&self, token: TokenHash, found: ValidToken) {
        let mut valid = self.valid.lock().unwrap_or_else(PoisonError::into_inner);
        valid.put(token, found);
        if valid.len() > self.cached_tokens.get() {
            valid.pop_lru();
        }
    }
}

impl Key {
    /// Reads a public key for verifying signatures; `None` if its kind or strength is not accepted.
    fn from_jwk(value: Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(value).ok()?;
        let for_signatures = matches!(
            jwk.common.public_key_use,
            None | Some(PublicKeyUse::Signature)
        );
        let for_verifying = match &jwk.common.key_operations {
            Some(operations) => operations.contains(&KeyOperations::Verify),
            None => true,
        };
        if !for_signatures || !for_verifying {
            return None;
        }
        let mut algorithms = algorithms_for(&jwk.algorithm);
        if let Some(only) = jwk.common.key_algorithm {
            algorithms.retain(|algorithm| only == (*algorithm).into());
        }
        if algorithms.is_empty() {
            return None;
        }
        Some(Self {
            key: DecodingKey::from_jwk(&jwk).ok()?,
            id: jwk.common.key_id,
            algorithms,
        })
    }

    fn verifies(&self, jwt: &SignedJwt<'_>) -> bool {
        // Named explicitly: jsonwebtoken would use its process-wide provider, and panic if two are
        // compiled in.
        (aws_lc::DEFAULT_PROVIDER.verifier_factory)(&jwt.header.alg, &self.key)
            .is_ok_and(|verifier| verifier.verify(jwt.signed, &jwt.signature).is_ok())
    }
}

/// Asymmetric algorithms only, so that a public key is never used as an HMAC secret.
fn algorithms_for(parameters: &AlgorithmParameters) -> Vec<Algorithm> {
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    match parameters {
        AlgorithmParameters::EllipticCurve(key) => match key.curve {
            EllipticCurve::P256 => vec![ES256],
            EllipticCurve::P384 => vec![ES384],
            _ => vec![],
        },
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            vec![EdDSA]
        }
        AlgorithmParameters::RSA(key) if has_2048_bits(&key.n) => {
            vec![PS256, PS384, PS512, RS256, RS384, RS512]
        }
        _ => vec![],
    }
}

fn has_2048_bits(modulus: &str) -> bool {
    URL_SAFE_NO_PAD.decode(modulus).is_ok_and(|bytes| {
        let first = bytes
            .iter()
            .position(|byte| *byte != 0)
            .unwrap_or(bytes.len());
        let bits = (bytes.len() - first) * 8;
        bits > 2048 || (bits == 2048 && bytes[first] >= 0x80)
    })
}

/// A parsed compact JWS, not verified yet.
pub(crate) struct SignedJwt<'a> {
    header: Header,
    signed: &'a [u8],
    payload: &'a str,
    signature: Vec<u8>,
}

impl<'a> SignedJwt<'a> {
    pub(crate) fn parse(token: &'a str) -> Result<Self, TokenError> {
        let malformed = || TokenError::invalid("the access token is not a JWT");
        let (signed, signature) = token.rsplit_once('.').ok_or_else(malformed)?;
        let (_, payload) = signed.split_once('.').ok_or_else(malformed)?;
        // An `alg` that jsonwebtoken does not know, such as `none`, fails here.
        let header = jsonwebtoken::decode_header(token).map_err(|_| {
            TokenError::invalid(
                "the header of the access token is malformed, or its alg is not accepted",
            )
        })?;
        if header.crit.is_some() {
            return Err(TokenError::invalid(
                "the header of the access token has crit",
            ));
        }
        Ok(Self {
            header,
            signed: signed.as_bytes(),
            payload,
            signature: URL_SAFE_NO_PAD.decode(signature).map_err(|_| malformed())?,
        })
    }

    pub(super) fn typ(&self) -> Option<&str> {
        self.header.typ.as_deref()
    }

    /// The claims. Call this after the signature has been verified.
    pub(crate) fn claims(&self) -> Result<Value, TokenError> {
        URL_SAFE_NO_PAD
            .decode(self.payload)
            .ok()
            .and_then(|payload| serde_json::from_slice(&payload).ok())
            .filter(Value::is_object)
            .ok_or_else(|| TokenError::invalid("the payload of the access token is malformed"))
    }
}

#[cfg(test)]
mod tests;
