//! OAuth access tokens bound to the TLS connection that they travel on.
//!
//! A session-bound token (`draft-mw-oauth-tls-session-bound-tokens`) is of no use on any other
//! connection, even together with its proof. The client of this crate chooses the connection first,
//! signs once per token and connection, keeps connections so that it seldom must sign again, and
//! counts why it had to.
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `client` | yes | [`Client`] and what it takes, at the root; [`request`], [`bind`], [`client`] |
//! | `token` | yes | [`token`]: access tokens from a file, from OAuth over mutual TLS, by RFC 8693 |
//! | `server` | no | `server`: the verifier as tower middleware, and the listener it needs |
//! | `mcp` | no | `mcp`: rmcp transports |
//! | `a2a` | no | `a2a`: transports of the official A2A client |
//! | `reqwest` | no | `reqwest`: reqwest's requests and middlewares over [`Client`] |
//! | `metrics` | no | feeds the `metrics` facade, at both ends |
//! | `full` | no | all of them |
//!
//! ```no_run
//! # #[cfg(feature = "client")]
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use bowline::{Client, Identity, Trust};
//!
//! let client = Client::builder()
//!     .identity(Identity::from_pem_files("agent.pem", "agent-key.pem")?)
//!     .trust(Trust::from_pem_file("ca.pem")?)
//!     .build()?;
//! let request = http::Request::get("https://api.example.com/things")
//!     .header("authorization", "Bearer eyJ...")
//!     .body(http_body_util::Empty::new())?;
//! let response = client.send(request).await?;
//! println!("{} after {} signature(s)", response.status(), client.stats().totals.signatures());
//! # Ok(()) }
//! ```
//!
//! Nothing else lives in this crate: each item is documented where it is defined.

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "client")]
pub use bowline_http_client::{
    AccessToken, BindingPolicy, Body, Client, Error, ErrorKind, Identity, ProofScope,
    RequestBoundProof, Snapshot, Trust,
};

/// What makes a request depend on its connection: an extension point.
#[cfg(feature = "client")]
pub use bowline_http_client::bind;

/// What a caller may put into a request's extensions.
#[cfg(feature = "client")]
pub use bowline_http_client::request;

/// The whole client: what its settings and its facts are made of, too.
#[cfg(feature = "client")]
pub use bowline_http_client as client;

/// Where access tokens come from.
#[cfg(feature = "token")]
pub use bowline_token as token;

/// The verifier, and the listener that it needs.
#[cfg(feature = "server")]
pub use bowline_server as server;

/// rmcp transports.
#[cfg(feature = "mcp")]
pub use bowline_mcp as mcp;

/// Transports of the official A2A client.
#[cfg(feature = "a2a")]
pub use bowline_a2a as a2a;

/// reqwest's requests and middlewares over [`Client`].
#[cfg(feature = "reqwest")]
pub use bowline_reqwest as reqwest;
