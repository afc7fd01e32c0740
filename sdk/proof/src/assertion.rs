//! Client assertions: the JWT by which a client authenticates at a token endpoint
//! (`private_key_jwt`, RFC 7523 §2.2).

use std::{fmt, sync::Arc, time::Duration};

use aws_lc_rs::rand;
use rustls::{crypto::aws_lc_rs::sign::any_supported_type, sign::SigningKey};
use rustls_pki_types::{PrivateKeyDer, UnixTime};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::{
    Algorithm, KeyError, KeyErrorKind, MintError,
    certificate::PublicKey,
    encoding::base64url,
    key::{check_fit, sign},
};

/// `typ`: no other JWT that the same key signs can be taken for an assertion, nor the other way
/// round (RFC 8725 §3.11; `draft-ietf-oauth-rfc7523bis`). Servers that know no such type ignore it.
const ASSERTION_TYPE: &str = "client-authentication+jwt";

/// The private key that signs a client's assertions.
///
/// Any [`SigningKey`] will do, so the key may live in a file, an HSM or another process. The key of
/// a client certificate serves too: [`ProofKey::assertion_key`](crate::ProofKey::assertion_key).
/// Clones are cheap and share the key. `Debug` shows the algorithm and the key's id.
#[derive(Clone)]
pub struct AssertionKey {
    signing_key: Arc<dyn SigningKey>,
    algorithm: Algorithm,
    kid: Option<Arc<str>>,
}

/// What an assertion says (RFC 7523 §3); a random `jti` comes with it.
#[derive(Clone, Copy, Debug)]
pub struct AssertionClaims<'a> {
    /// `iss` and `sub`: the client.
    pub client_id: &'a str,
    /// `aud`: the authorization server, by its issuer identifier, or by its token endpoint if it
    /// insists.
    pub audience: &'a str,
    /// `iat`: now.
    pub issued_at: UnixTime,
    /// How long after that it can be used: `exp`, in whole seconds.
    pub lifetime: Duration,
}

impl AssertionKey {
    /// A key in DER (PKCS#8, PKCS#1 or SEC1): P-256, P-384, Ed25519 or RSA.
    ///
    /// # Errors
    /// [`KeyErrorKind::BadPrivateKey`], and as [`new`](Self::new).
    pub fn from_der(der: &PrivateKeyDer<'_>) -> Result<Self, KeyError> {
        let key = any_supported_type(der)
            .map_err(|source| KeyError::because(KeyErrorKind::BadPrivateKey, source))?;
        Self::new(key)
    }

    /// A key that tells its public half ([`SigningKey::public_key`]), as those of rustls do.
    ///
    /// # Errors
    /// [`KeyErrorKind`] says what is wrong; [`NoPublicKey`](KeyErrorKind::NoPublicKey) is no fault
    /// of the key.
    pub fn new(key: Arc<dyn SigningKey>) -> Result<Self, KeyError> {
        let spki = key
            .public_key()
            .ok_or(KeyErrorKind::NoPublicKey)?
            .into_owned();
        let public_key = PublicKey::of_spki(&spki)?;
        check_fit(&public_key, &spki, &*key)?;
        Ok(Self::of_parts(key, public_key.algorithm()))
    }

    pub(crate) fn of_parts(signing_key: Arc<dyn SigningKey>, algorithm: Algorithm) -> Self {
        Self {
            signing_key,
            algorithm,
            kid: None,
        }
    }

    /// The same key under this id: `kid`, as it stands in the key set that the client has
    /// registered. Without it there is none, and the server tries the keys that fit the algorithm.
    #[must_use]
    pub fn with_kid(mut self, kid: impl Into<Arc<str>>) -> Self {
        self.kid = Some(kid.into());
        self
    }

    /// The algorithm that assertions are signed with.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Makes and signs one assertion, a compact JWS: a secret until it has expired or was used. The
    /// key may be slow (a token, a KMS), and this blocks until it has signed.
    ///
    /// # Errors
    /// The key failed to sign.
    pub fn sign(&self, claims: &AssertionClaims<'_>) -> Result<Zeroizing<String>, MintError> {
        let header = Header {
            typ: ASSERTION_TYPE,
            alg: self.algorithm.name(),
            kid: self.kid.as_deref(),
        };
        let mut jti = [0; 16];
        // Only a broken system lacks random bytes; to go on with a fixed `jti` would be worse.
        rand::fill(&mut jti).expect("the system's random source");
        let issued_at = claims.issued_at.as_secs();
        let payload = Payload {
            iss: claims.client_id,
            sub: claims.client_id,
            aud: claims.audience,
            iat: issued_at,
            exp: issued_at.saturating_add(claims.lifetime.as_secs()),
            jti: base64url(&jti),
        };
        let [header, payload] = [serde_json::to_vec(&header), serde_json::to_vec(&payload)]
            .map(|json| base64url(&json.expect("strings and numbers serialise")));
        let mut text = Zeroizing::new(format!("{header}.{payload}"));
        let signature = sign(&*self.signing_key, self.algorithm, text.as_bytes())?;
        text.push('.');
        text.push_str(&base64url(&signature));
        Ok(text)
    }
}

impl fmt::Debug for AssertionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AssertionKey")
            .field("algorithm", &self.algorithm)
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct Header<'a> {
    typ: &'static str,
    alg: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<&'a str>,
}

#[derive(Serialize)]
struct Payload<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    iat: u64,
    exp: u64,
    jti: String,
}
