//! TLS-session-binding proofs for OAuth access tokens, without any I/O.
//!
//! A *session-binding proof* is a small JWS that ties an access token to one mutual-TLS connection
//! (`draft-mw-oauth-tls-session-bound-tokens`). This crate holds both halves of it:
//!
//! | the client | the resource server |
//! |---|---|
//! | [`ExporterValue::derive`] after the handshake | [`ExporterValue::derive`] after the handshake |
//! | [`AccessToken`] and what its [`Confirmation`] demands | [`AccessToken::from_authorization`] |
//! | [`ProofKey::mint`] signs a [`Proof`] | [`ProofVerifier::verify`] checks it, or says which [`Check`] refused |
//! | [`challenges`] reads a refusal | [`Challenge`] writes one |
//!
//! ```
//! # use std::time::Duration;
//! # use bowline_proof::*;
//! # use rustls_pki_types::{PrivateKeyDer, UnixTime};
//! # let pair = rcgen::generate_simple_self_signed(["agent".to_owned()])?;
//! # let certificate = pair.cert.der();
//! # let der = PrivateKeyDer::Pkcs8(pair.signing_key.serialize_der().into());
//! # let signing_key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&der)?;
//! # let now = UnixTime::since_unix_epoch(Duration::from_secs(1_780_000_000));
//! # // In a program: ExporterValue::derive(&connection)
//! # let this_connection = ExporterValue::from_bytes([1; 32]);
//! # let another_connection = ExporterValue::from_bytes([2; 32]);
//! // The client, once per token and connection.
//! let token = AccessToken::new("mF_9.B5f-4.1JqM")?;
//! let key = ProofKey::new(certificate, signing_key)?;
//! let proof = key.mint(&ProofClaims {
//!     token: token.hash(),
//!     exporter: &this_connection,
//!     issued_at: now,
//!     request: None,
//! })?;
//!
//! // The server, on the connection that the request came over.
//! let verifier = ProofVerifier::new(certificate)?;
//! let presented = AccessToken::from_authorization(token.authorization())?;
//! let mut expected = Expected {
//!     exporter: &this_connection,
//!     token: presented.hash(),
//!     now,
//!     handshake_at: now,
//!     method: &http::Method::POST,
//!     path: "/mcp",
//!     targets: &Targets::new(["https://mcp.example.com".parse()?]),
//!     windows: &Windows::default(),
//! };
//! assert!(verifier.verify(proof.as_str().as_bytes(), &expected)?.is_reusable());
//!
//! // Token and proof stolen, and replayed on another connection.
//! expected.exporter = &another_connection;
//! let refusal = verifier.verify(proof.as_str().as_bytes(), &expected).unwrap_err();
//! assert_eq!(refusal.check(), Check::Exporter);
//! assert_eq!(refusal.check().id(), "RS-6");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`dpop`] holds the same for DPoP (RFC 9449), where a proof belongs to a request and not to a
//! connection. [`AssertionKey`] signs the assertions by which a client authenticates at a token
//! endpoint (RFC 7523).
//!
//! What it does not do: it opens no connection, holds no cache, remembers no `jti`, validates no
//! access token, and never reads the clock. Ids such as `RS-6` cite the requirements of the
//! project's wire profile.
//!
//! Exporter values, tokens and proofs never appear in `Debug`, `Display` or error output (EX-7).

mod algorithm;
mod assertion;
mod certificate;
mod challenge;
mod check_table;
mod confirmation;
pub mod dpop;
mod encoding;
mod error;
mod exporter;
mod issued_at;
mod jws;
mod origin;
pub mod pem;
mod public_key;
mod refusal;
mod request_claims;
mod seconds;
mod session;
mod sign;
mod target;
mod thumbprint;
mod token;

pub use algorithm::Algorithm;
pub use assertion::{AssertionClaims, AssertionKey};
pub use challenge::{BindingError, Challenge, challenges};
pub use check_table::{CheckRow, CheckTable};
pub use confirmation::{Confirmation, ConfirmationError, Demand};
pub use error::{KeyError, KeyErrorKind, MintError, MintErrorKind};
pub use exporter::{EXPORTER_LABEL, ExporterError, ExporterValue};
pub use issued_at::Windows;
pub use jws::MAX_PROOF_BYTES;
pub use origin::{InvalidTarget, Origin};
pub use refusal::Refusal;
pub use request_claims::RequestClaims;
pub use seconds::seconds;
pub use session::{
    Check, Expected, PROOF_HEADER, PerRequest, Proof, ProofClaims, ProofKey, ProofVerifier,
    Verified,
};
pub use target::{Targets, target_uri};
pub use thumbprint::{InvalidThumbprint, Thumbprint};
pub use token::{AccessToken, InvalidAccessToken, Scheme, TokenHash};
