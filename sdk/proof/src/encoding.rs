//! base64url and JSON, both read strictly: one byte sequence has one accepted spelling. Hashes and
//! random ids.

use std::{fmt, marker::PhantomData};

use aws_lc_rs::{
    digest::{SHA256, digest},
    rand,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};
use zeroize::Zeroizing;

pub(crate) fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Without padding, and with zero trailing bits (RFC 7515 §2, RFC 4648 §3.5).
pub(crate) fn from_base64url(text: impl AsRef<[u8]>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// Exactly 32 bytes, that is 43 characters: a SHA-256 hash or an exporter value.
pub(crate) fn bytes32(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    // `decode_slice` wants room for its estimate, which is one byte more than the value has.
    let mut buffer = Zeroizing::new([0; 33]);
    if URL_SAFE_NO_PAD.decode_slice(text, &mut *buffer).ok()? != 32 {
        return None;
    }
    let mut bytes = Zeroizing::new([0; 32]);
    bytes.copy_from_slice(&buffer[..32]);
    Some(bytes)
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

/// 128 random bits in base64url: a new `jti`.
pub(crate) fn random_id() -> String {
    let mut bytes = [0; 16];
    // Only a broken system lacks random bytes; to go on with a fixed `jti` would be worse.
    rand::fill(&mut bytes).expect("the system's random source");
    base64url(&bytes)
}

/// `T` read from a JSON object and from nothing else.
///
/// serde's derived structs also accept an array, in field order; a JWS header or a `cnf` must not
/// be one. They refuse a duplicated member, which is why claims are read into structs: names are
/// unique in a header (RFC 7515 §4) and among claims (RFC 7519 §4).
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MapOnly<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for MapOnly<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(MapOnly(PhantomData))
    }
}

/// For optional members: a member that is present must have its type, so `null` is refused
/// (serde alone reads it as absent).
pub(crate) fn present<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    T::deserialize(deserializer).map(Some)
}
