//! Client assertions: the JWT by which a client authenticates at a token endpoint
//! (`private_key_jwt`, RFC 7523 §2.2).

use std::{fmt, sync::Arc, time::Duration};

use rustls::sign::SigningKey;
use rustls_pki_types::{PrivateKeyDer, UnixTime};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::{
    Algorithm, KeyError, MintError,
    encoding::{base64url, random_id},
    public_key::{PublicKey, exposed_public_key, read_private_key},
    sign::Signer,
};

/// `typ`: no server can mistake another JWT by the same key for an assertion, or an assertion for
/// another JWT (RFC 8725 §3.11; `draft-ietf-oauth-rfc7523bis`). Servers that do not know this type
/// ignore it.
const ASSERTION_TYPE: &str = "client-authentication+jwt";

/// The private key that signs a client's assertions.
///
/// Any [`SigningKey`] will do, so the key may live in a file, an HSM or another process. The key of
/// a client certificate serves too: [`ProofKey::assertion_key`](crate::ProofKey::assertion_key).
/// Clones are cheap and share the key. `Debug` shows the algorithm and the key's id.
#[derive(Clone)]
pub struct AssertionKey {
    signer: Signer,
    kid: Option<Arc<str>>,
}

/// What an assertion says (RFC 7523 §3); a random `jti` comes with it.
#[derive(Clone, Copy, Debug)]
pub struct AssertionClaims<'a> {
    /// `iss` and `sub`: the client.
    pub client_id: &'a str,
    /// `aud`: the authorization server's issuer identifier, or its token endpoint if the server
    /// insists on that.
    pub audience: &'a str,
    /// `iat`: now.
    pub issued_at: UnixTime,
    /// How long it can be used: `exp` minus `iat`, in whole seconds.
    pub lifetime: Duration,
}

impl AssertionKey {
    /// A key in DER (PKCS#8, PKCS#1 or SEC1): P-256, P-384, Ed25519 or RSA.
    ///
    /// # Errors
    /// [`KeyErrorKind::BadPrivateKey`](crate::KeyErrorKind::BadPrivateKey), and as
    /// [`new`](Self::new).
    pub fn from_der(der: &PrivateKeyDer<'_>) -> Result<Self, KeyError> {
        Self::new(read_private_key(der)?)
    }

    /// A key that exposes its public key ([`SigningKey::public_key`]), as those of rustls do.
    ///
    /// # Errors
    /// [`KeyErrorKind`](crate::KeyErrorKind) says what is wrong;
    /// [`NoPublicKey`](crate::KeyErrorKind::NoPublicKey) if the key exposes none.
    pub fn new(key: Arc<dyn SigningKey>) -> Result<Self, KeyError> {
        let spki = exposed_public_key(&*key)?;
        let signer = PublicKey::from_spki(&spki)?.signer(&spki, key)?;
        Ok(Self::from_signer(signer))
    }

    pub(crate) fn from_signer(signer: Signer) -> Self {
        Self { signer, kid: None }
    }

    /// Sets `kid`: the key's id in the key set that the client has registered. Without it the
    /// server tries the keys that fit the algorithm.
    #[must_use]
    pub fn with_kid(mut self, kid: impl Into<Arc<str>>) -> Self {
        self.kid = Some(kid.into());
        self
    }

    /// The algorithm that assertions are signed with.
    pub fn algorithm(&self) -> Algorithm {
        self.signer.algorithm
    }

    /// Makes and signs one assertion, a compact JWS: a secret until it has expired or was used.
    /// Blocks until the key has signed, which can take long if it lives in an HSM or a KMS.
    ///
    /// # Errors
    /// The key failed to sign.
    pub fn sign(&self, claims: &AssertionClaims<'_>) -> Result<Zeroizing<String>, MintError> {
        let header = Header {
            typ: ASSERTION_TYPE,
            alg: self.algorithm().name(),
            kid: self.kid.as_deref(),
        };
        let header = serde_json::to_vec(&header).expect("strings serialise");
        let issued_at = claims.issued_at.as_secs();
        let payload = Payload {
            iss: claims.client_id,
            sub: claims.client_id,
            aud: claims.audience,
            iat: issued_at,
            exp: issued_at.saturating_add(claims.lifetime.as_secs()),
            jti: random_id(),
        };
        Ok(self.signer.sign_jws(&base64url(&header), &payload)?)
    }
}

impl fmt::Debug for AssertionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AssertionKey")
            .field("algorithm", &self.algorithm())
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
