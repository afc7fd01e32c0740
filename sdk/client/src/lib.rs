//! A connection-aware HTTP client: it chooses the connection first, then writes the one proof that
//! fits it.
//!
//! An access token bound to a TLS session (`draft-mw-oauth-tls-session-bound-tokens`) is worth
//! nothing without a proof signed over the session's exporter value. Ordinary HTTP clients choose
//! the connection after the headers are complete, and so would have to sign for every request. This
//! one reverses the order:
//!
//! ```text
//! classify   origin, access token, operation
//! pick       a connection from the pool, or a new one          -> ConnectionFacts
//! bind       that connection's proof for this token: reuse it, or mint it once
//! write      headers and body; a request that never left goes back to `pick`
//! learn      challenge? close? goaway?  events out; the connection returns when the response body has ended
//! ```
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use bowline_http_client::{Client, Identity, Trust};
//!
//! let client = Client::builder()
//!     .identity(Identity::from_pem_files("agent.pem", "agent-key.pem")?)
//!     .trust(Trust::from_pem_file("ca.pem")?)
//!     .build()?;
//! let request = http::Request::get("https://mcp.example.com/things")
//!     .header("authorization", "Bearer eyJ...")
//!     .body(http_body_util::Empty::new())?;
//! let response = client.send(request).await?;
//! println!("{} after {} signature(s)", response.status(), client.stats().totals.signatures());
//! # Ok(()) }
//! ```
//!
//! Requirement ids such as `CL-2` refer to the project's wire profile.

pub mod bind;
mod body;
mod cache;
mod client;
mod config;
mod conn;
mod error;
mod last;
mod observe;
mod origin;
mod pool;
pub mod request;

pub use bind::session::{BindingPolicy, ProofScope};
pub use body::{Body, BodyReadError};
pub use bowline_proof::dpop::{DpopKey, InvalidJwkThumbprint, JwkThumbprint};
pub use bowline_proof::{
    AccessToken, Algorithm, BindingError, Challenge, Confirmation, ConfirmationError, Demand,
    ExporterError, ExporterValue, InvalidAccessToken, InvalidThumbprint, KeyError, KeyErrorKind,
    MintError, MintErrorKind, Scheme, Thumbprint, TokenHash, challenges,
};
pub use client::{Builder, Client};
pub use config::{HttpVersions, Limits, Timeouts};
pub use conn::facts::{
    ConnectionFacts, ConnectionId, HttpVersion, Presented, TlsFacts, TlsVersion,
};
pub use conn::identity::Identity;
pub use conn::proxy::Proxies;
pub use conn::tls::Trust;
pub use error::{Error, ErrorKind, Fault, Step};
pub use observe::ahead::{Ahead, Learned};
#[cfg(feature = "metrics")]
pub use observe::metrics;
pub use observe::stats::{Row, Snapshot};
pub use observe::{
    BindingUsed, Cause, CloseReason, ConnectionUse, Event, Observer, Operation, Outcome, ProofKind,
    Protocol,
};
pub use origin::{InvalidTarget, Origin};
pub use request::{
    DpopProofRequired, Http2Only, NoRetryOn401, ProofRequired, Repeatable, RequestBoundProof,
    TokenSourceId, WithCertificate,
};

/// What a [`DpopKey`] signs, for a program that makes DPoP proofs by itself (RFC 9449 §4.2).
pub mod dpop {
    pub use bowline_proof::RequestClaims;
    pub use bowline_proof::dpop::{Claims, InvalidNonce, Nonce, Proof};
}
