//! A DPoP proof at the token endpoint (RFC 9449 §5): the key that the new token is bound to.

use bowline_proof::dpop::{
    self, DPOP_HEADER, DpopCheck, DpopRefusal, Expected, INVALID_DPOP_PROOF, JwkThumbprint, Nonce,
};
use bowline_proof::{Windows, dpop::USE_DPOP_NONCE};
use http::{HeaderMap, Method};
use rustls_pki_types::UnixTime;

use super::Port;
use super::rejection::Rejection;
use crate::authority::names::TOKEN_PATH;

/// A verified proof.
pub(super) struct DpopProof {
    pub(super) key: JwkThumbprint,
    /// The newest nonce, if the proof has an older one (RFC 9449 §8.2).
    pub(super) newer_nonce: Option<Nonce>,
}

impl DpopProof {
    /// Checks the request's proof, if it has one (RFC 9449 §4.3).
    ///
    /// # Errors
    /// `invalid_dpop_proof`, or `use_dpop_nonce` with the nonce to use (§8).
    pub(super) fn from_headers(
        port: &Port,
        headers: &HeaderMap,
    ) -> Result<Option<Self>, Rejection> {
        let mut fields = headers.get_all(DPOP_HEADER).iter();
        let proof = match (fields.next(), fields.next()) {
            (None, _) => return Ok(None),
            (Some(proof), None) => proof,
            (Some(_), Some(_)) => return Err(refused(DpopCheck::Duplicated.into(), None)),
        };
        let nonces = port.state.nonces();
        let newest = nonces.as_ref().map(|[newest, _]| newest.clone());
        let expected = Expected {
            method: &Method::POST,
            path: TOKEN_PATH,
            targets: &port.targets,
            now: UnixTime::now(),
            windows: &Windows::default(),
            token: None,
            nonces: nonces.as_ref().map(|nonces| &nonces[..]),
        };
        let verified = dpop::verify(proof.as_bytes(), &expected)
            .map_err(|refusal| refused(refusal, newest.clone()))?;
        if !port.state.use_up(&verified.key.to_string(), &verified.jti) {
            return Err(refused(DpopCheck::Replay.into(), newest));
        }
        Ok(Some(Self {
            key: verified.key,
            newer_nonce: newest.filter(|newest| verified.nonce.as_deref() != Some(newest.as_str())),
        }))
    }
}

/// At the token endpoint every refusal is a 400 with an `error` in the body (RFC 9449 §5, §8).
fn refused(refusal: DpopRefusal, nonce: Option<Nonce>) -> Rejection {
    let error = match refusal.check() {
        DpopCheck::Nonce => USE_DPOP_NONCE,
        _ => INVALID_DPOP_PROOF,
    };
    Rejection::new(error, refusal.to_string()).nonce(nonce)
}
