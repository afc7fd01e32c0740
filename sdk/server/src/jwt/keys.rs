//! A set of public keys, the signatures they verify, and the tokens found valid with them.

use std::fmt;
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
    unusable: Unusable,
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

/// How many keys a token without `kid` is tried with: it costs nothing to make one up.
const MAX_TRIES: usize = 8;

/// The keys of a document that are not used: at which place, which `kid`, and why not.
#[derive(Default)]
pub(super) struct Unusable(Vec<(usize, Option<String>, &'static str)>);

impl Unusable {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// For the log: the first few.
impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MAX_KEYS: usize = 16;
        const MAX_ID: usize = 64;
        for (place, (index, id, why)) in self.0.iter().take(MAX_KEYS).enumerate() {
            let separator = if place == 0 { "" } else { ", " };
            write!(f, "{separator}{index}")?;
            if let Some(id) = id {
                let id: String = id.chars().take(MAX_ID).collect();
                write!(f, " ({})", id.escape_debug())?;
            }
            write!(f, ": {why}")?;
        }
        Ok(())
    }
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
        let (mut keys, mut unusable) = (Vec::new(), Unusable::default());
        for (index, jwk) in parsed.keys.into_iter().enumerate() {
            let id = jwk.get("kid").and_then(Value::as_str).map(str::to_owned);
            match Key::from_jwk(jwk) {
                Ok(key) => keys.push(key),
                Err(why) => unusable.0.push((index, id, why)),
            }
        }
        Ok(Self {
            document,
            keys,
            unusable,
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

    pub(super) fn unusable(&self) -> &Unusable {
        &self.unusable
    }

    pub(super) fn verify(&self, jwt: &SignedJwt<'_>) -> Signature {
        let algorithm = jwt.header.alg;
        let Some(id) = &jwt.header.kid else {
            // Without `kid` any key with this algorithm may be the right one, and a newer set may
            // have more.
            let mut fitting = self
                .keys
                .iter()
                .filter(|key| key.algorithms.contains(&algorithm))
                .take(MAX_TRIES);
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
    /// Reads a public key for verifying signatures.
    ///
    /// # Errors
    /// Why it is not used: its kind, purpose or strength is not accepted, or it cannot be read.
    fn from_jwk(value: Value) -> Result<Self, &'static str> {
        let mut jwk: Jwk =
            serde_json::from_value(value).map_err(|_| "it is of an unknown kind, or is no JWK")?;
        let for_signatures = matches!(
            jwk.common.public_key_use,
            None | Some(PublicKeyUse::Signature)
        );
        let for_verifying = match &jwk.common.key_operations {
            Some(operations) => operations.contains(&KeyOperations::Verify),
            None => true,
        };
        if !for_signatures || !for_verifying {
            return Err("it is not for verifying signatures");
        }
        if let AlgorithmParameters::RSA(rsa) = &mut jwk.algorithm {
            let numbers = without_leading_zeros(&rsa.n).zip(without_leading_zeros(&rsa.e));
            (rsa.n, rsa.e) = numbers.ok_or("its n or e is not base64url")?;
        }
        let mut algorithms = algorithms_for(&jwk.algorithm);
        if let Some(only) = jwk.common.key_algorithm {
            algorithms.retain(|algorithm| only == (*algorithm).into());
        }
        if algorithms.is_empty() {
            return Err("no accepted algorithm fits it");
        }
        if !has_sizes(&jwk.algorithm) {
            return Err("a number of it is missing, or has not the size of its curve");
        }
        Ok(Self {
            key: DecodingKey::from_jwk(&jwk).map_err(|_| "its numbers are not base64url")?,
            id: jwk.common.key_id,
            algorithms,
        })
    }

    fn verifies(&self, jwt: &SignedJwt<'_>) -> bool {
        // Named explicitly: jsonwebtoken would use its process-wide provider, and panic if two are
        // compiled in.
        // Upstream: no issue; request 19 in `docs/src/upstream.md`.
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

/// The sizes of RFC 7518 section 6.2.1.2 and RFC 8037 section 2: with another the key would seem
/// usable, and no signature would ever be valid.
fn has_sizes(parameters: &AlgorithmParameters) -> bool {
    let is = |number: &str, bytes: usize| {
        URL_SAFE_NO_PAD
            .decode(number)
            .is_ok_and(|number| number.len() == bytes)
    };
    match parameters {
        AlgorithmParameters::EllipticCurve(key) => {
            let width = match key.curve {
                EllipticCurve::P384 => 48,
                _ => 32,
            };
            is(&key.x, width) && is(&key.y, width)
        }
        AlgorithmParameters::OctetKeyPair(key) => is(&key.x, 32),
        _ => true,
    }
}

/// RFC 7518 section 6.3.1.1 forbids zeros in front of a number; some issuers write them all the
/// same, and no signature would be valid with them.
fn without_leading_zeros(number: &str) -> Option<String> {
    let bytes = URL_SAFE_NO_PAD.decode(number).ok()?;
    let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
    Some(URL_SAFE_NO_PAD.encode(&bytes[zeros..]))
}

/// Of a number without leading zeros.
fn has_2048_bits(modulus: &str) -> bool {
    URL_SAFE_NO_PAD.decode(modulus).is_ok_and(|bytes| {
        let bits = bytes.len() * 8;
        bits > 2048 || (bits == 2048 && bytes[0] >= 0x80)
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

    pub(super) fn has_kid(&self) -> bool {
        self.header.kid.is_some()
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
