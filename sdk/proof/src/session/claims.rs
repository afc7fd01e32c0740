//! A session-binding proof: its claims and its form (PR-1..PR-9).

use std::{fmt, sync::Arc};

use http::HeaderValue;
use rustls_pki_types::UnixTime;
use serde::Serialize;

use crate::{
    ExporterValue, MAX_PROOF_BYTES, MintError, MintErrorKind, RequestClaims, TokenHash,
    sign::Signer,
};

/// What a proof says (PR-5, PR-6).
#[derive(Clone, Debug)]
pub struct ProofClaims<'a> {
    /// `ath`: the token that the proof goes with.
    pub token: &'a TokenHash,
    /// `ekm`: the connection that the proof goes on.
    pub exporter: &'a ExporterValue,
    /// `iat`: now.
    pub issued_at: UnixTime,
    /// The claims that tie it to one request; `None` makes a proof that all requests with this
    /// token on this connection may carry (PR-8).
    pub request: Option<RequestClaims>,
}

/// A signed proof: a compact JWS. Clones are cheap. `Debug` shows nothing of it.
#[derive(Clone)]
pub struct Proof {
    text: Arc<str>,
    header: HeaderValue,
}

impl Proof {
    /// The compact JWS.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The value of [`PROOF_HEADER`](super::PROOF_HEADER).
    ///
    /// It is not marked sensitive: HPACK may index it, so that repeating it on a connection costs a
    /// few bytes. It is of no use on another connection.
    pub fn header_value(&self) -> HeaderValue {
        self.header.clone()
    }

    pub(super) fn sign(
        signer: &Signer,
        protected: &str,
        claims: &ProofClaims<'_>,
    ) -> Result<Self, MintError> {
        let ekm = claims.exporter.to_claim();
        let request = claims.request.as_ref();
        let text = signer.sign_jws(
            protected,
            &Payload {
                ath: claims.token.to_claim(),
                ekm: &ekm,
                iat: claims.issued_at.as_secs(),
                jti: request.map(|request| &*request.jti),
                htm: request.map(|request| &*request.htm),
                htu: request.map(|request| &*request.htu),
            },
        )?;
        if text.len() > MAX_PROOF_BYTES {
            return Err(MintErrorKind::TooLong.into());
        }
        Ok(Self {
            header: HeaderValue::from_str(&text).expect("base64url and dots"),
            text: text.as_str().into(),
        })
    }
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proof(redacted)")
    }
}

#[derive(Serialize)]
struct Payload<'a> {
    ath: String,
    ekm: &'a str,
    iat: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    htm: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    htu: Option<&'a str>,
}
