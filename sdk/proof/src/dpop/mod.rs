//! DPoP proofs (RFC 9449), without any I/O: a token bound to a key, and one signature for each
//! request.
//!
//! | the client | the server |
//! |---|---|
//! | [`DpopKey`], whose [`thumbprint`](DpopKey::thumbprint) is the token's `cnf.jkt` | |
//! | [`DpopKey::mint`] signs a [`Proof`] for one request (§4.2) | [`verify`] checks it (§4.3), or says which [`DpopCheck`] refused |
//! | [`Nonce::from_response`] reads what the next proof must repeat (§8) | [`Expected::nonces`] (§8, §9) |
//!
//! Unlike a session-binding proof it does not depend on the connection, so only the memory of its
//! `jti` stops a copy that an attacker sends before it has expired.
//!
//! ```
//! # use std::time::Duration;
//! # use bowline_proof::{*, dpop::{self, *}};
//! # use rustls_pki_types::UnixTime;
//! # let now = UnixTime::since_unix_epoch(Duration::from_secs(1_780_000_000));
//! // The client, for each request.
//! let key = DpopKey::generate()?;
//! let token = AccessToken::new("Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU")?
//!     .with_scheme(Scheme::Dpop);
//! let uri = "https://api.example.com/things?page=2".parse()?;
//! let proof = key.mint(&dpop::Claims {
//!     request: &RequestClaims::new(&http::Method::GET, &uri)?,
//!     issued_at: now,
//!     token: Some(token.hash()),
//!     nonce: None,
//! })?;
//!
//! // The server, which knows from the token (or its introspection) to which key it is bound.
//! let presented = AccessToken::from_credentials(token.authorization())?;
//! let mut expected = dpop::Expected {
//!     method: &http::Method::GET,
//!     path: "/things",
//!     targets: &Targets::new(["https://api.example.com".parse()?]),
//!     now,
//!     windows: &Windows::default(),
//!     token: Some(dpop::BoundToken { hash: presented.hash(), key: key.thumbprint() }),
//!     nonces: None,
//! };
//! let verified = dpop::verify(proof.as_str().as_bytes(), &expected)?;
//! assert_eq!(verified.key, key.thumbprint());
//! // It is good once: remember `verified.jti` until the proof is too old.
//!
//! expected.method = &http::Method::DELETE;
//! let refusal = dpop::verify(proof.as_str().as_bytes(), &expected).unwrap_err();
//! assert_eq!(refusal.check(), DpopCheck::Method);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What it does not do: it remembers no `jti` (§11.1), generates no nonce, and never reads the
//! clock.

mod check;
mod claims;
mod jwk;
mod key;
mod nonce;
mod verify;

use http::HeaderName;

use crate::{challenge::BindingError, refusal::Refusal};

pub use self::check::DpopCheck;
pub use self::claims::{Claims, Proof};
pub use self::key::DpopKey;
pub use self::nonce::{InvalidNonce, Nonce};
pub use self::verify::{BoundToken, Expected, Verified, verify};
pub use crate::thumbprint::{InvalidJwkThumbprint, JwkThumbprint};

/// A request was refused by a check of DPoP.
pub type DpopRefusal = Refusal<DpopCheck>;

/// The request header field that carries the proof: `DPoP` (RFC 9449 §4.1).
pub const DPOP_HEADER: HeaderName = HeaderName::from_static("dpop");

/// The response header field that carries a nonce for the next proof: `DPoP-Nonce` (RFC 9449 §8).
pub const NONCE_HEADER: HeaderName = HeaderName::from_static("dpop-nonce");

/// The challenge's `error` that asks for a nonce (RFC 9449 §8, §9).
pub const USE_DPOP_NONCE: &str = BindingError::UseDpopNonce.as_str();

/// The challenge's `error` that refuses a proof (RFC 9449 §7.1).
pub const INVALID_DPOP_PROOF: &str = BindingError::InvalidDpopProof.as_str();

/// The `typ` of a proof (RFC 9449 §4.2).
const PROOF_TYPE: &str = "dpop+jwt";
