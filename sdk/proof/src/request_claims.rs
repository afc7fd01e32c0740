//! The claims that tie a proof of either kind to one request (PR-6; RFC 9449 §4.2).

use http::{Method, Uri};

use crate::{encoding::random_id, origin::InvalidTarget, target::target_uri};

/// A longer `jti` is refused, so that the memory for each is bounded.
const MAX_JTI_BYTES: usize = 256;

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
        Ok(Self {
            jti: random_id(),
            htm: method.as_str().to_owned(),
            htu: target_uri(uri)?,
        })
    }

    /// The same with a `jti` chosen by the caller, who must not use it twice: for test vectors.
    pub fn with_jti(mut self, jti: impl Into<String>) -> Self {
        self.jti = jti.into();
        self
    }
}

/// Whether a verifier accepts `jti` as one that it can remember.
pub(crate) fn is_acceptable_jti(jti: &str) -> bool {
    (1..=MAX_JTI_BYTES).contains(&jti.len())
}
