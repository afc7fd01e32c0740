//! The keys that sign tokens, and the key set that publishes them.

use std::fmt;
use std::sync::{PoisonError, RwLock};

use jsonwebtoken::jwk::{Jwk, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rcgen::KeyPair;
use serde_json::{Value, json};

use crate::secrets;

pub(super) struct Keys {
    /// Newest last; never empty.
    ring: RwLock<Vec<Key>>,
    /// Never in the key set.
    forger: Key,
}

impl Keys {
    pub(super) fn new() -> Self {
        Self {
            ring: RwLock::new(vec![Key::generate()]),
            forger: Key::generate(),
        }
    }

    pub(super) fn rotate(&self) {
        let key = Key::generate();
        self.ring
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(key);
    }

    pub(super) fn jwks(&self) -> Value {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        let keys: Vec<_> = ring.iter().map(|key| &key.public).collect();
        json!({ "keys": keys })
    }

    /// Signs claims with the newest key, or with one that is not in the set, under the newest one's
    /// name: then nothing but the signature is wrong.
    pub(super) fn sign(&self, claims: &Value, is_forged: bool) -> String {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        let newest = ring.last().expect("keys are only ever added");
        let header = Header {
            typ: Some("at+jwt".to_owned()), // RFC 9068 §2.1
            kid: newest.public.common.key_id.clone(),
            ..Header::new(Algorithm::ES256)
        };
        let signer = if is_forged { &self.forger } else { newest };
        jsonwebtoken::encode(&header, claims, &signer.private)
            .expect("a P-256 key signs any JSON object")
    }

    /// The claims of a token that one of the published keys has signed for this issuer, whether it
    /// has expired or not.
    pub(super) fn verify(&self, token: &str, issuer: &str) -> Option<Value> {
        let name = jsonwebtoken::decode_header(token).ok()?.kid?;
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        let key = ring
            .iter()
            .find(|key| key.public.common.key_id.as_deref() == Some(&name))?;
        let key = DecodingKey::from_jwk(&key.public).ok()?;
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_issuer(&[issuer]);
        validation.validate_exp = false;
        validation.validate_aud = false;
        jsonwebtoken::decode(token, &key, &validation)
            .ok()
            .map(|token| token.claims)
    }
}

/// Shows the ids of the keys only.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        let names = ring.iter().map(|key| key.public.common.key_id.as_deref());
        f.debug_list().entries(names.flatten()).finish()
    }
}

struct Key {
    private: EncodingKey,
    public: Jwk,
}

impl Key {
    fn generate() -> Self {
        let pair = KeyPair::generate().expect("aws-lc-rs generates P-256 keys");
        secrets::record_key(pair.serialized_der());
        let private = EncodingKey::from_ec_der(pair.serialized_der());
        let mut public = Jwk::from_encoding_key(&private, Algorithm::ES256)
            .expect("a P-256 key is a JSON web key");
        let name = public.thumbprint(ThumbprintHash::SHA256); // RFC 7638
        public.common.key_id = Some(name.expect("a P-256 key has a thumbprint"));
        public.common.public_key_use = Some(PublicKeyUse::Signature);
        Self { private, public }
    }
}
