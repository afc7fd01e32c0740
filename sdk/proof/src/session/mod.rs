//! Session-binding proofs: a token bound to one mutual-TLS connection.

use http::HeaderName;

mod check;
mod claims;
mod key;
mod verify;

pub use self::{
    check::Check,
    claims::{Proof, ProofClaims},
    key::ProofKey,
    verify::{Expected, PerRequest, ProofVerifier, Verified},
};

/// The request header field that carries the proof: `Session-Binding-Proof` (CL-1).
pub const PROOF_HEADER: HeaderName = HeaderName::from_static("session-binding-proof");

/// The `typ` of a proof (PR-1).
const PROOF_TYPE: &str = "tls-binding-proof+jwt";
