//! Verification of a proof on the connection that it came over (RS-5..RS-9).
//!
//! The caller remembers each `jti` for as long as the connection lives, and refuses a repeated one.

use std::{fmt, time::Duration};

use http::Method;
use rustls_pki_types::{CertificateDer, UnixTime};
use serde::{Deserialize, de::IgnoredAny};
use zeroize::Zeroize;

use super::{Check, PROOF_TYPE};
use crate::{
    Algorithm, ExporterValue, KeyError, MAX_PROOF_BYTES, Refusal, Targets, Thumbprint, TokenHash,
    Windows,
    certificate::Certificate,
    encoding::{from_base64url, present},
    jws::{self, CompactJws},
    request_claims::is_acceptable_jti,
};

/// The client certificate of one connection, parsed once, to verify the proofs on that connection.
pub struct ProofVerifier(Certificate);

impl ProofVerifier {
    /// For the client certificate (the leaf) that the TLS handshake verified.
    ///
    /// # Errors
    /// [`KeyErrorKind::BadCertificate`](crate::KeyErrorKind::BadCertificate),
    /// [`UnsupportedKey`](crate::KeyErrorKind::UnsupportedKey) or
    /// [`WeakRsa`](crate::KeyErrorKind::WeakRsa): no proof can be verified on this connection.
    pub fn new(certificate: &CertificateDer<'_>) -> Result<Self, KeyError> {
        Ok(Self(Certificate::parse(certificate)?))
    }

    /// The certificate's thumbprint: what `cnf.x5t#S256` must equal (RS-3).
    pub fn thumbprint(&self) -> Thumbprint {
        self.0.thumbprint
    }

    /// When the certificate becomes valid.
    pub fn not_before(&self) -> UnixTime {
        self.0.not_before
    }

    /// When the certificate stops being valid; later requests are refused (RS-1).
    pub fn not_after(&self) -> UnixTime {
        self.0.not_after
    }

    /// Runs RS-5 to RS-9 in this order, without the memory of `jti`, on the value of the proof
    /// header.
    ///
    /// # Errors
    /// The first check that refuses.
    pub fn verify(&self, proof: &[u8], expected: &Expected<'_>) -> Result<Verified, Refusal> {
        let claims = self.authenticated_claims(proof)?;
        check_exporter(&claims, expected)?;
        check_token_hash(&claims, expected)?;
        let issued_at = check_issued_at(&claims, expected)?;
        check_request(&claims, expected)?;
        Ok(Verified {
            issued_at,
            request: PerRequest {
                jti: claims.jti.clone(),
                htm: claims.htm.is_some(),
                htu: claims.htu.is_some(),
            },
        })
    }

    /// RS-5. The payload is parsed only once its signature is known to be good.
    fn authenticated_claims(&self, proof: &[u8]) -> Result<Claims, Refusal> {
        if proof.len() > MAX_PROOF_BYTES {
            return Err(syntax("the proof is longer than 8 KiB"));
        }
        let jws = CompactJws::split(proof).ok_or(syntax("the proof is not a compact JWS"))?;
        let header: Header =
            jws::object(jws.header).ok_or(syntax("the header of the proof is malformed"))?;
        if header.crit.is_some() {
            return Err(syntax("the header of the proof has crit"));
        }
        if !header.typ.is_some_and(|typ| jws::is_type(&typ, PROOF_TYPE)) {
            return Err(Check::ProofType.into());
        }
        let key = header
            .alg
            .and_then(|alg| Algorithm::from_name(&alg))
            .and_then(|alg| self.0.public_key.verifying(alg))
            .ok_or(Check::ProofAlgorithm)?;
        let thumbprint = header.x5t_s256.and_then(|text| text.parse().ok());
        if thumbprint != Some(self.0.thumbprint) {
            return Err(Check::ProofThumbprint.into());
        }
        let signature = from_base64url(jws.signature)
            .ok_or(syntax("the signature of the proof is not base64url"))?;
        key.verify_sig(jws.signing_input, &signature)
            .map_err(|_| Check::ProofSignature)?;
        jws::object(jws.payload).ok_or(syntax(
            "the payload of the proof is malformed: ath, ekm and iat are required, each claim once \
             and of its type",
        ))
    }
}

impl fmt::Debug for ProofVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProofVerifier")
            .field("thumbprint", &self.0.thumbprint)
            .finish_non_exhaustive()
    }
}

/// What a proof must say to be accepted for this request on this connection.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// This end's exporter value (RS-6).
    pub exporter: &'a ExporterValue,
    /// The hash of the presented token (RS-7).
    pub token: &'a TokenHash,
    /// Now (RS-8).
    pub now: UnixTime,
    /// When this connection's handshake completed (RS-8).
    pub handshake_at: UnixTime,
    /// The request's method (RS-9).
    pub method: &'a Method,
    /// The path of the request's target, without query: [`http::Uri::path`] (RS-9).
    pub path: &'a str,
    /// Which `htu` values name this server (RS-9, PR-7).
    pub targets: &'a Targets,
    /// How old and how far ahead a proof may be (RS-8).
    pub windows: &'a Windows,
}

/// A proof that passed RS-5..RS-9, without the memory of `jti`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// `iat`.
    pub issued_at: UnixTime,
    /// The per-request claims that were present.
    pub request: PerRequest,
}

/// Which per-request claims a proof has (PR-6). `htm` and `htu`, if present, matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PerRequest {
    /// `jti`, 1 to 256 bytes. The caller must still refuse one that it has seen (RS-9).
    pub jti: Option<String>,
    /// `htm` was present.
    pub htm: bool,
    /// `htu` was present.
    pub htu: bool,
}

impl Verified {
    /// Whether other requests on this connection may carry the same proof: it has none of the three
    /// per-request claims (PR-6, RS-11).
    pub fn is_reusable(&self) -> bool {
        let PerRequest { jti, htm, htu } = &self.request;
        jti.is_none() && !htm && !htu
    }

    /// Whether it has all three per-request claims, which RS-12 demands.
    pub fn has_all_request_claims(&self) -> bool {
        let PerRequest { jti, htm, htu } = &self.request;
        jti.is_some() && *htm && *htu
    }

    /// `jti`, which the caller must remember for as long as the connection lives (RS-9).
    pub fn jti(&self) -> Option<&str> {
        self.request.jti.as_deref()
    }
}

/// RS-6, in constant time.
fn check_exporter(claims: &Claims, expected: &Expected<'_>) -> Result<(), Refusal> {
    ExporterValue::from_claim(&claims.ekm)
        .filter(|ekm| ekm.matches(expected.exporter))
        .map(drop)
        .ok_or(Check::Exporter.into())
}

/// RS-7, in constant time.
fn check_token_hash(claims: &Claims, expected: &Expected<'_>) -> Result<(), Refusal> {
    TokenHash::from_claim(&claims.ath)
        .filter(|ath| ath.matches(expected.token))
        .map(drop)
        .ok_or(Check::TokenHash.into())
}

/// RS-8. A reusable proof may be as old as the connection: the exporter value already proves that
/// it is no older.
fn check_issued_at(claims: &Claims, expected: &Expected<'_>) -> Result<UnixTime, Refusal> {
    let iat = claims.iat.as_u64().ok_or(Refusal::with_detail(
        Check::IssuedAt,
        "the iat of the proof is not a whole number of seconds since 1970",
    ))?;
    let now = expected.now.as_secs();
    let is_per_request = claims.jti.is_some() || claims.htm.is_some() || claims.htu.is_some();
    let base = if is_per_request {
        now
    } else {
        now.min(expected.handshake_at.as_secs())
    };
    if !expected.windows.contain(iat, base, now) {
        return Err(Check::IssuedAt.into());
    }
    Ok(UnixTime::since_unix_epoch(Duration::from_secs(iat)))
}

/// RS-9, without the memory of `jti`: the claims that are present (PR-6).
fn check_request(claims: &Claims, expected: &Expected<'_>) -> Result<(), Refusal> {
    if claims
        .htm
        .as_deref()
        .is_some_and(|htm| htm != expected.method.as_str())
    {
        return Err(Check::Method.into());
    }
    if claims
        .htu
        .as_deref()
        .is_some_and(|htu| !expected.targets.match_request(htu, expected.path))
    {
        return Err(Check::TargetUri.into());
    }
    if claims
        .jti
        .as_deref()
        .is_some_and(|jti| !is_acceptable_jti(jti))
    {
        return Err(syntax(
            "the jti of the proof is empty or longer than 256 bytes",
        ));
    }
    Ok(())
}

#[derive(Deserialize)]
struct Header {
    typ: Option<String>,
    alg: Option<String>,
    #[serde(rename = "x5t#S256")]
    x5t_s256: Option<String>,
    #[serde(default, deserialize_with = "present")]
    crit: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Claims {
    ath: String,
    ekm: String,
    iat: serde_json::Number,
    #[serde(default, deserialize_with = "present")]
    jti: Option<String>,
    #[serde(default, deserialize_with = "present")]
    htm: Option<String>,
    #[serde(default, deserialize_with = "present")]
    htu: Option<String>,
}

impl Drop for Claims {
    fn drop(&mut self) {
        self.ekm.zeroize();
    }
}

fn syntax(detail: &'static str) -> Refusal {
    Refusal::with_detail(Check::ProofSyntax, detail)
}
