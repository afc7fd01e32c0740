//! Verification of a proof: RFC 9449 §4.3.
//!
//! The caller checks that there is exactly one `DPoP` field, and that this `jti` was not seen
//! before (§11.1).

use std::{fmt, time::Duration};

use http::Method;
use rustls_pki_types::UnixTime;
use serde::{Deserialize, de::IgnoredAny};

use super::{DpopCheck, DpopRefusal, JwkThumbprint, Nonce, PROOF_TYPE, jwk::Members};
use crate::{
    Algorithm, MAX_PROOF_BYTES, Targets, TokenHash, Windows,
    encoding::{Object, from_base64url, present},
    jws::{self, CompactJws},
    request_claims::is_acceptable_jti,
};

/// Checks the value of the `DPoP` field. The order is: form and header, whether the key is the
/// token's, the signature, then the claims in the order of §4.3.
///
/// # Errors
/// The first check that refuses.
pub fn verify(proof: &[u8], expected: &Expected<'_>) -> Result<Verified, DpopRefusal> {
    if proof.len() > MAX_PROOF_BYTES {
        return Err(syntax("the DPoP proof is longer than 8 KiB"));
    }
    let jws = CompactJws::split(proof).ok_or(DpopCheck::Syntax)?;
    let key = authenticate(&jws, expected.token.map(|token| token.key))?;
    // The payload is parsed only once its signature is known to be good.
    let claims = RawClaims::parse(jws.payload)?;
    let claims = claims.complete().ok_or(DpopCheck::Claims)?;
    if claims.htm != expected.method.as_str() {
        return Err(DpopCheck::Method.into());
    }
    if !expected.targets.match_absolute(&claims.htu, expected.path) {
        return Err(DpopCheck::TargetUri.into());
    }
    check_nonce(&claims, expected)?;
    let issued_at = check_issued_at(&claims, expected)?;
    check_token_hash(&claims, expected)?;
    Ok(Verified {
        key,
        issued_at,
        jti: claims.jti,
        nonce: claims.nonce,
    })
}

/// What a proof must say to be accepted for this request.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The request's method (§4.3 item 8).
    pub method: &'a Method,
    /// The path of the request's target, without query: [`http::Uri::path`] (item 9).
    pub path: &'a str,
    /// The external origins of this server (item 9). A bare path never matches, even if they accept
    /// bare paths: `htu` is a URI.
    pub targets: &'a Targets,
    /// Now (item 11).
    pub now: UnixTime,
    /// How old and how far ahead a proof may be (item 11). Both count from `now`, not from
    /// the handshake.
    pub windows: &'a Windows,
    /// The token that the proof goes with (item 12); `None` at a token endpoint, where an `ath` is
    /// ignored.
    pub token: Option<BoundToken<'a>>,
    /// The nonces that this server accepts now (item 10). `None`: it issues none, and a `nonce` is
    /// ignored.
    pub nonces: Option<&'a [Nonce]>,
}

/// A presented token and the key that it is bound to.
#[derive(Clone, Copy, Debug)]
pub struct BoundToken<'a> {
    /// The hash of the token.
    pub hash: &'a TokenHash,
    /// Its `cnf.jkt`.
    pub key: JwkThumbprint,
}

/// A proof that passed §4.3, without item 1 and the memory of `jti`.
#[derive(Clone, PartialEq, Eq)]
pub struct Verified {
    /// The key that signed it.
    pub key: JwkThumbprint,
    /// `iat`.
    pub issued_at: UnixTime,
    /// `jti`, 1 to 256 bytes. The caller must still refuse one that it has seen (§11.1).
    pub jti: String,
    /// `nonce`, if there was one: one of [`Expected::nonces`] if these were given.
    pub nonce: Option<String>,
}

/// Shows only what may appear in a log.
impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified")
            .field("key", &self.key)
            .field("issued_at", &self.issued_at)
            .finish_non_exhaustive()
    }
}

/// Items 4 to 7, and the second half of item 12, which is cheaper than a signature.
fn authenticate(
    jws: &CompactJws<'_>,
    bound_to: Option<JwkThumbprint>,
) -> Result<JwkThumbprint, DpopRefusal> {
    let header: Header =
        jws::object(jws.header).ok_or(syntax("the header of the DPoP proof is malformed"))?;
    if header.crit.is_some() {
        return Err(syntax("the header of the DPoP proof has crit"));
    }
    if !header.typ.is_some_and(|typ| jws::is_type(&typ, PROOF_TYPE)) {
        return Err(DpopCheck::Type.into());
    }
    let algorithm = header.alg.and_then(|alg| Algorithm::from_name(&alg));
    let algorithm = algorithm.ok_or(DpopCheck::Algorithm)?;
    let Object(members) = header.jwk.ok_or(DpopCheck::Jwk)?;
    let jwk = members.jwk()?;
    let key = jwk.verifying(algorithm).ok_or(DpopCheck::Jwk)?;
    let thumbprint = jwk.thumbprint();
    if bound_to.is_some_and(|bound_to| bound_to != thumbprint) {
        return Err(DpopCheck::KeyBinding.into());
    }
    let signature = from_base64url(jws.signature)
        .ok_or(syntax("the signature of the DPoP proof is not base64url"))?;
    key.verify_sig(jws.signing_input, &signature)
        .map_err(|_| DpopCheck::Signature)?;
    Ok(thumbprint)
}

/// Item 10.
fn check_nonce(claims: &CompleteClaims, expected: &Expected<'_>) -> Result<(), DpopRefusal> {
    let Some(accepted) = expected.nonces else {
        return Ok(());
    };
    match &claims.nonce {
        Some(nonce) if accepted.iter().any(|accepted| accepted.as_str() == nonce) => Ok(()),
        _ => Err(DpopCheck::Nonce.into()),
    }
}

/// Item 11.
fn check_issued_at(
    claims: &CompleteClaims,
    expected: &Expected<'_>,
) -> Result<UnixTime, DpopRefusal> {
    let now = expected.now.as_secs();
    if !expected.windows.contain(claims.iat, now, now) {
        return Err(DpopCheck::IssuedAt.into());
    }
    Ok(UnixTime::since_unix_epoch(Duration::from_secs(claims.iat)))
}

/// The first half of item 12, in constant time.
fn check_token_hash(claims: &CompleteClaims, expected: &Expected<'_>) -> Result<(), DpopRefusal> {
    let Some(token) = expected.token else {
        return Ok(());
    };
    // Required with a token (§4.2), so its absence is that of a required claim.
    let ath = claims.ath.as_deref().ok_or(DpopCheck::Claims)?;
    TokenHash::from_claim(ath)
        .filter(|ath| ath.matches(token.hash))
        .map(drop)
        .ok_or(DpopCheck::TokenHash.into())
}

#[derive(Deserialize)]
struct Header {
    typ: Option<String>,
    alg: Option<String>,
    #[serde(default, deserialize_with = "present")]
    jwk: Option<Object<Members>>,
    #[serde(default, deserialize_with = "present")]
    crit: Option<IgnoredAny>,
}

/// Unknown claims are ignored (§4.2).
#[derive(Deserialize)]
struct RawClaims {
    #[serde(default, deserialize_with = "present")]
    jti: Option<String>,
    #[serde(default, deserialize_with = "present")]
    htm: Option<String>,
    #[serde(default, deserialize_with = "present")]
    htu: Option<String>,
    #[serde(default, deserialize_with = "present")]
    iat: Option<serde_json::Number>,
    #[serde(default, deserialize_with = "present")]
    ath: Option<String>,
    #[serde(default, deserialize_with = "present")]
    nonce: Option<String>,
}

struct CompleteClaims {
    jti: String,
    htm: String,
    htu: String,
    iat: u64,
    ath: Option<String>,
    nonce: Option<String>,
}

impl RawClaims {
    fn parse(payload: &[u8]) -> Result<Self, DpopRefusal> {
        let text = from_base64url(payload)
            .ok_or(syntax("the payload of the DPoP proof is not base64url"))?;
        match serde_json::from_slice(&text) {
            Ok(Object(claims)) => Ok(claims),
            // JSON, but no object, or a claim is duplicated or has the wrong type.
            Err(error) if error.is_data() => Err(DpopCheck::Claims.into()),
            Err(_) => Err(syntax("the payload of the DPoP proof is not JSON")),
        }
    }

    /// Item 3.
    fn complete(self) -> Option<CompleteClaims> {
        Some(CompleteClaims {
            jti: self.jti.filter(|jti| is_acceptable_jti(jti))?,
            htm: self.htm?,
            htu: self.htu?,
            iat: whole_seconds(&self.iat?)?,
            ath: self.ath,
            nonce: self.nonce,
        })
    }
}

/// A NumericDate may have a fraction (RFC 7519 §2); some libraries write one.
fn whole_seconds(iat: &serde_json::Number) -> Option<u64> {
    iat.as_u64().or_else(|| {
        let seconds = iat.as_f64()?;
        // A huge value saturates at `u64::MAX`, which lies in no window.
        (seconds >= 0.0).then_some(seconds as u64)
    })
}

fn syntax(detail: &'static str) -> DpopRefusal {
    DpopRefusal::with_detail(DpopCheck::Syntax, detail)
}
