//! A DPoP proof: its claims and its form (RFC 9449 §4.2).

use std::{fmt, mem};

use http::HeaderValue;
use rustls_pki_types::UnixTime;
use serde::Serialize;

use super::Nonce;
use crate::{MAX_PROOF_BYTES, MintError, MintErrorKind, RequestClaims, TokenHash, sign::Signer};

/// What a proof says.
#[derive(Clone, Copy, Debug)]
pub struct Claims<'a> {
    /// `jti`, `htm` and `htu`: the one request that the proof is for.
    pub request: &'a RequestClaims,
    /// `iat`: now.
    pub issued_at: UnixTime,
    /// `ath`: the token that the proof goes with; `None` at a token endpoint.
    pub token: Option<&'a TokenHash>,
    /// `nonce`: the newest that this server issued, if it issued any (§8).
    pub nonce: Option<&'a Nonce>,
}

/// A signed proof: a compact JWS. Clones are cheap. `Debug` shows nothing of it.
#[derive(Clone)]
pub struct Proof(HeaderValue);

impl Proof {
    /// The compact JWS.
    pub fn as_str(&self) -> &str {
        self.0.to_str().expect("base64url and dots")
    }

    /// The value of [`DPOP_HEADER`](super::DPOP_HEADER).
    ///
    /// It is marked sensitive, so that HPACK does not index it: no other request carries it, and it
    /// would only displace a useful entry.
    pub fn header_value(&self) -> HeaderValue {
        self.0.clone()
    }

    pub(super) fn sign(
        signer: &Signer,
        protected: &str,
        claims: &Claims<'_>,
    ) -> Result<Self, MintError> {
        let mut text = signer.sign_jws(
            protected,
            &Payload {
                jti: &claims.request.jti,
                htm: &claims.request.htm,
                htu: &claims.request.htu,
                iat: claims.issued_at.as_secs(),
                ath: claims.token.map(|token| token.to_claim()),
                nonce: claims.nonce.map(Nonce::as_str),
            },
        )?;
        if text.len() > MAX_PROOF_BYTES {
            return Err(MintErrorKind::TooLong.into());
        }
        let mut value = HeaderValue::try_from(mem::take(&mut *text)).expect("base64url and dots");
        value.set_sensitive(true);
        Ok(Self(value))
    }
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proof(redacted)")
    }
}

#[derive(Serialize)]
struct Payload<'a> {
    jti: &'a str,
    htm: &'a str,
    htu: &'a str,
    iat: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ath: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<&'a str>,
}
