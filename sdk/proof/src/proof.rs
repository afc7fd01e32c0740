//! The proof itself: its claims, and how it is put together (PR-1..PR-9).

use std::{fmt, sync::Arc};

use aws_lc_rs::rand;
use http::{HeaderName, HeaderValue, Method, Uri};
use rustls_pki_types::UnixTime;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::{
    ExporterValue, InvalidTarget, TokenHash, encoding::base64url, key::SignError, target_uri,
};

/// The request header field that carries the proof: `Session-Binding-Proof` (CL-1).
pub const PROOF_HEADER: HeaderName = HeaderName::from_static("session-binding-proof");

/// No proof is longer, in bytes: a longer one is refused before it is parsed (PR-9).
pub const MAX_PROOF_BYTES: usize = 8 * 1024;

/// The `typ` of a proof (PR-1).
pub(crate) const PROOF_TYPE: &str = "tls-binding-proof+jwt";

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

/// `jti`, `htm` and `htu`: a proof with them is for one request (PR-6).
#[derive(Clone, Debug)]
pub struct RequestClaims {
    pub(crate) jti: String,
    pub(crate) htm: String,
    pub(crate) htu: String,
}

impl RequestClaims {
    /// For a request with `method` to the absolute `uri`, with a new random `jti` of 128 bits.
    ///
    /// # Errors
    /// The URI cannot be an `htu`: see [`target_uri`].
    pub fn new(method: &Method, uri: &Uri) -> Result<Self, InvalidTarget> {
        let htu = target_uri(uri)?;
        let mut jti = [0; 16];
        // Only a broken system lacks random bytes; to go on with a fixed `jti` would be worse.
        rand::fill(&mut jti).expect("the system's random source");
        Ok(Self {
            jti: base64url(&jti),
            htm: method.as_str().to_owned(),
            htu,
        })
    }

    /// The same with a `jti` chosen by the caller, who answers for its being new: for test vectors.
    pub fn with_jti(mut self, jti: impl Into<String>) -> Self {
        self.jti = jti.into();
        self
    }
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

    /// The value of [`PROOF_HEADER`].
    ///
    /// It is not marked sensitive: HPACK may index it, so that repeating it on a connection costs a
    /// few bytes. It is of no use on another connection.
    pub fn header_value(&self) -> HeaderValue {
        self.header.clone()
    }

    pub(crate) fn sign(
        protected: &str,
        claims: &ProofClaims<'_>,
        sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, SignError>,
    ) -> Result<Self, MintError> {
        let ekm = claims.exporter.to_claim();
        let payload = Payload {
            ath: claims.token.to_claim(),
            ekm: &ekm,
            iat: claims.issued_at.as_secs(),
            jti: claims.request.as_ref().map(|request| &*request.jti),
            htm: claims.request.as_ref().map(|request| &*request.htm),
            htu: claims.request.as_ref().map(|request| &*request.htu),
        };
        let payload = Zeroizing::new(serde_json::to_vec(&payload).expect("strings serialise"));
        let mut text = format!("{protected}.{}", base64url(&payload));
        let signature = sign(text.as_bytes())?;
        text.push('.');
        text.push_str(&base64url(&signature));
        if text.len() > MAX_PROOF_BYTES {
            return Err(MintErrorKind::TooLong.into());
        }
        Ok(Self {
            header: HeaderValue::from_str(&text).expect("base64url and dots"),
            text: text.into(),
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

/// No proof was made.
#[derive(Debug, thiserror::Error)]
#[error("{kind}")]
pub struct MintError {
    kind: MintErrorKind,
    source: Option<rustls::Error>,
}

impl MintError {
    /// What went wrong.
    pub fn kind(&self) -> MintErrorKind {
        self.kind
    }
}

impl From<MintErrorKind> for MintError {
    fn from(kind: MintErrorKind) -> Self {
        Self { kind, source: None }
    }
}

impl From<SignError> for MintError {
    fn from(error: SignError) -> Self {
        let source = match error {
            SignError::Key(source) => Some(source),
            SignError::NoScheme | SignError::Malformed => None,
        };
        Self {
            kind: MintErrorKind::Signing,
            source,
        }
    }
}

/// Why no proof was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum MintErrorKind {
    /// The private key failed. Trying again makes sense where it lives in a device or a service.
    #[error("the private key failed to sign the proof: check the module or device that holds it")]
    Signing,
    /// The URI of the request makes the proof longer than [`MAX_PROOF_BYTES`]; no server would
    /// take it.
    #[error("the request's URI is too long for a proof of {MAX_PROOF_BYTES} bytes: shorten it")]
    TooLong,
}
